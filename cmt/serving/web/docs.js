// Shows openapi.json as a page: operations, parameters, request bodies and responses.

import { $, hasToken, make, request } from "./dom.js";

let schemas = {};

async function begin() {
  try {
    const api = await (await request("openapi.json")).json();
    schemas = api.components?.schemas ?? {};
    $("about").textContent = `${api.info.version} · ${api.info.description}`;
    $("operations").append(...groups(api.paths));
  } catch (error) {
    $("operations").append(make("p", { className: "fault" }, error.message));
  }
}

function groups(paths) {
  const byTag = new Map();
  for (const [path, methods] of Object.entries(paths)) {
    for (const [method, operation] of Object.entries(methods)) {
      const tag = operation.tags?.[0] ?? "";
      byTag.set(tag, [...(byTag.get(tag) ?? []), section(path, method, operation)]);
    }
  }
  return [...byTag].map(([tag, operations]) => make("section", {}, make("h2", {}, tag), ...operations));
}

function section(path, method, operation) {
  const head = make("summary", {}, make("code", {}, make("span", { className: "method" }, method.toUpperCase()), path));
  const body = operation.requestBody?.content["application/json"]?.schema;
  const parts = [head, make("p", {}, operation.description ?? operation.summary)];
  if (operation.parameters) parts.push(table("Parameters", operation.parameters.map(parameter)));
  if (body) parts.push(table("Request body", fields(body)));
  parts.push(table("Responses", Object.entries(operation.responses).map(answer)));
  for (const name of named([body, operation.responses["200"]])) {
    if (!body?.$ref?.endsWith(`/${name}`)) parts.push(table(name, fields(schemas[name])));
  }
  parts.push(make("h3", {}, "Example"), make("pre", {}, make("code", {}, curl(path, method, operation, body))));
  return make("details", { className: "operation" }, ...parts);
}

function table(title, rows) {
  const cells = (row) => make("tr", {}, ...row.map((value) => make("td", {}, value)));
  return make("div", {}, make("h3", {}, title), make("table", {}, make("tbody", {}, ...rows.map(cells))));
}

/** Names of the schemas that `value` refers to, directly or through other schemas. */
function named(value, found = new Set()) {
  for (const [, name] of JSON.stringify(value).matchAll(/"#\/components\/schemas\/(\w+)"/g)) {
    if (!found.has(name)) named(schemas[name], found.add(name));
  }
  return found;
}

const parameter = (entry) => [entry.name, type(entry.schema), note(entry.schema, entry.required)];

function answer([status, response]) {
  const schema = Object.values(response.content ?? {})[0]?.schema;
  return [status, schema ? type(schema) : "", response.description];
}

function fields(schema) {
  const found = resolved(schema);
  return Object.entries(found.properties ?? {}).map(([name, value]) => [
    name,
    type(value),
    note(value, found.required?.includes(name)),
  ]);
}

function note(schema, required) {
  const parts = [required ? "required" : "", resolved(schema).description ?? ""];
  if (schema.default !== undefined && schema.default !== null) parts.push(`default ${JSON.stringify(schema.default)}`);
  return parts.filter(Boolean).join("; ");
}

const resolved = (schema) => (schema.$ref ? schemas[schema.$ref.split("/").at(-1)] : schema);

function type(schema) {
  if (schema.$ref) return schema.$ref.split("/").at(-1);
  if (schema.anyOf) return schema.anyOf.map(type).join(" or ");
  if (schema.type === "array") return `list of ${type(schema.items ?? {})}`;
  return schema.format ?? schema.const ?? schema.type ?? "any";
}

/** An example value of a schema: its first example, or else a value built from its type. */
function example(schema) {
  const found = resolved(schema);
  if (found.examples) return found.examples[0];
  if (found.properties) {
    const wanted = Object.entries(found.properties).filter(([name]) => found.required?.includes(name));
    return Object.fromEntries(wanted.map(([name, value]) => [name, example(value)]));
  }
  if (found.type === "array") return [example(found.items)];
  if (found.anyOf) return example(found.anyOf[0]);
  return { integer: 1, number: 1, boolean: true, null: null }[found.type] ?? "…";
}

const quoted = (text) => `'${text.replaceAll("'", "'\\''")}'`;

function curl(path, method, operation, body) {
  const query = (operation.parameters ?? []).filter((entry) => entry.in === "query" && entry.required);
  const values = new URLSearchParams(query.map((entry) => [entry.name, example(entry.schema)]));
  const url = `${location.origin}${path}${query.length ? `?${values}` : ""}`;
  const token = hasToken() ? ' -H "Authorization: Bearer $CMT_TOKEN"' : "";
  if (!body) return `curl ${quoted(url)}${token}`;
  const sent = quoted(JSON.stringify(example(body)));
  return `curl -X ${method.toUpperCase()} ${quoted(url)}${token} -H 'Content-Type: application/json' -d ${sent}`;
}

begin();
