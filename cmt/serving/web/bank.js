// The documents of the bank by date, one page at a time; texts are fetched when a document is opened.

import { $, make, request } from "./dom.js";

const LIMIT = 10;
let offset = 0;
let latest = 0; // number of the latest request; an earlier one may end after it

async function list() {
  const mine = ++latest;
  const query = new URLSearchParams({ offset, limit: LIMIT });
  for (const id of ["since", "until"]) if ($(id).value) query.set(id, $(id).value);
  try {
    const page = await (await request(`documents?${query}`)).json();
    if (mine === latest) present(page);
  } catch (error) {
    if (mine !== latest) return;
    $("count").textContent = error.message;
    $("documents").replaceChildren();
  }
}

function present(page) {
  const shown = page.documents.length;
  const places = shown ? `${offset + 1} to ${offset + shown} of ` : "";
  $("count").textContent = `${places}${page.total.toLocaleString("en")} documents`;
  $("documents").start = offset + 1;
  $("documents").replaceChildren(...page.documents.map(item));
  $("newer").disabled = offset === 0;
  $("older").disabled = offset + shown >= page.total;
}

function item(entry) {
  const until = entry.superseded_at && make("span", { className: "badge" }, `superseded ${entry.superseded_at.slice(0, 10)}`);
  const changed = entry.changes.find((change) => change.state === "found" && change.old.doc_id === entry.doc_id);
  const head = make(
    "summary",
    {},
    make("time", { dateTime: entry.published_at }, entry.published_at.slice(0, 10)),
    " ",
    entry.title || entry.doc_id,
    " ",
    until,
    changed && make("span", { className: "badge" }, `changed ${changed.holds_from.slice(0, 10)}`),
  );
  const details = make("details", {}, head);
  details.addEventListener("toggle", () => open(details, entry), { once: true });
  return make("li", {}, details);
}

async function open(details, entry) {
  const about = [entry.doc_id, `${entry.memories} ${entry.memories === 1 ? "memory" : "memories"}`];
  if (entry.supersedes) about.push(`supersedes ${entry.supersedes}`);
  details.append(make("p", { className: "quiet" }, about.join(" · ")));
  details.append(...entry.changes.map((change) => make("p", { className: "quiet" }, worded(change, entry.doc_id))));
  try {
    const found = await (await request(`document?${new URLSearchParams({ doc_id: entry.doc_id })}`)).json();
    const texts = found.content.map((memory) => memory.text ?? `(${memory.tokens} tokens; the bank keeps no text)`);
    details.append(...texts.map((text) => make("p", { className: "text" }, text)));
  } catch (error) {
    details.append(make("p", { className: "fault" }, error.message));
  }
}

/** A change as the document `docId` takes part in it: changed by vote, from 2031-02-20: Moss → Vell. */
function worded({ old, new: later, holds_from, state }, docId) {
  const role = later.doc_id === docId ? `changes ${old.doc_id}` : `changed by ${later.doc_id}`;
  const values = [old, later].map(({ value }) => value ?? "(unknown)").join(" → ");
  return `${role}, from ${holds_from.slice(0, 10)}: ${values}${state === "rejected" ? " (rejected)" : ""}`;
}

function turn(pages) {
  offset = Math.max(0, offset + pages * LIMIT);
  list();
}

$("browse").addEventListener("submit", (event) => {
  event.preventDefault();
  offset = 0;
  list();
});
$("newer").addEventListener("click", () => turn(-1));
$("older").addEventListener("click", () => turn(1));
list();
