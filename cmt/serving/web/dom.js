// What both halves of the page need. Texts of documents become text nodes, never markup.

export const $ = (id) => document.getElementById(id);

/** An element with properties (or, named with a dash, attributes) and children. */
export function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name.includes("-")) element.setAttribute(name, value);
    else element[name] = value;
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

/** The body of an answer of the server; what it refuses is thrown in its own words. */
export async function request(path, options = {}) {
  const response = await fetch(path, options).catch((error) => {
    throw error.name === "AbortError" ? error : new Error("The server does not answer: is `cmt serve` still running?");
  });
  if (response.ok) return response;
  const said = await response.json().catch(() => null);
  throw new Error(said?.error?.message ?? `The server answered ${response.status}.`);
}

const DAY = 86_400_000;

/** Days since 1970 of an instant or a date, in UTC. */
export const dayNumber = (instant) => Math.floor(Date.parse(instant) / DAY);

/** The date of a day number: 2031-02-15. */
export const dateOf = (day) => new Date(day * DAY).toISOString().slice(0, 10);

export const percent = (share) => `${Math.round(100 * share)} %`;

/**
 * The letters of `text` from `begin` to `end` as nodes, its spans lit by their probability relative to the `strongest`,
 * and in them the quote underlined. Everything counts code points, and `last` is the first one behind a span.
 */
export function highlighted({ text, spans, quote }, strongest, begin = 0, end = Infinity) {
  const letters = Array.from(text);
  const nodes = [];
  const stop = Math.min(end, letters.length);
  let at = begin;
  for (const span of [...spans].sort((a, b) => a.first - b.first)) {
    const first = Math.max(at, span.first);
    const last = Math.min(stop, span.last);
    if (last <= first) continue;
    if (first > at) nodes.push(letters.slice(at, first).join(""));
    const title = `${percent(span.probability)} likely to hold the answer`;
    const mark = make("mark", { title }, ...quoted(letters, quote, first, last));
    mark.style.setProperty("--light", strongest ? span.probability / strongest : 0);
    nodes.push(mark);
    at = last;
  }
  nodes.push(letters.slice(at, stop).join(""));
  return nodes;
}

function quoted(letters, quote, first, last) {
  const from = Math.min(Math.max(quote?.first ?? last, first), last);
  const to = Math.max(Math.min(quote?.last ?? last, last), from);
  const [before, inside, after] = [[first, from], [from, to], [to, last]].map((ends) => letters.slice(...ends).join(""));
  if (!inside) return [before + after];
  const title = "quoted to the language model as the likeliest answer";
  return [before, make("strong", { className: "quote", title }, inside), after];
}
