// Helpers of the pages. Texts of documents become text nodes, never markup.

export const $ = (id) => document.getElementById(id);

/** An element with children and properties; a name with a dash is an attribute. Missing children are left out. */
export function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name.includes("-")) element.setAttribute(name, value);
    else element[name] = value;
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

const TOKEN = "cmt-token"; // its name in sessionStorage, which ends with the tab
let asking = null; // the promise of a token, while the page asks for one

/** Whether this page sends a token. */
export const hasToken = () => sessionStorage.getItem(TOKEN) !== null;

/** The response to a request; an error response is thrown as an Error with the server's message. */
export async function request(path, options = {}) {
  const token = sessionStorage.getItem(TOKEN);
  const headers = { ...options.headers, ...(token && { Authorization: `Bearer ${token}` }) };
  const response = await fetch(path, { ...options, headers }).catch((error) => {
    throw error.name === "AbortError" ? error : new Error("The server does not answer: is `cmt serve` still running?");
  });
  if (response.ok) return response;
  if (response.status === 401) {
    // another request may have asked for a token meanwhile
    if (sessionStorage.getItem(TOKEN) === token) await (asking ??= askForToken(token !== null));
    return request(path, options);
  }
  const said = await response.json().catch(() => null);
  throw new Error(said?.error?.message ?? `The server answered ${response.status}.`);
}

/** Ask for a token in a dialog, and keep it for this tab. */
async function askForToken(wasRefused) {
  const pattern = "\\s*[!-~]+\\s*"; // what a header can hold
  const input = make("input", { id: "token", type: "password", required: true, autocomplete: "off", pattern });
  const form = make(
    "form",
    { className: "row" },
    make("label", { htmlFor: "token" }, wasRefused ? "This token is not valid. Token" : "Token"),
    input,
    make("button", { type: "submit" }, "Continue"),
  );
  const dialog = make("dialog", { "aria-label": "This server needs a token" }, form);
  dialog.addEventListener("close", () => dialog.showModal()); // there is nothing to see without a token
  document.body.append(dialog);
  dialog.showModal();
  await new Promise((resolve) => {
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      resolve();
    });
  });
  sessionStorage.setItem(TOKEN, input.value.trim());
  dialog.remove();
  asking = null;
}

const DAY = 86_400_000;

/** Days since 1970 of an instant or a date, in UTC. */
export const dayNumber = (instant) => Math.floor(Date.parse(instant) / DAY);

/** The date of a day number: 2031-02-15. */
export const dateOf = (day) => new Date(day * DAY).toISOString().slice(0, 10);

/** A share of 1 as a percentage without decimals. */
export const percent = (share) => `${Math.round(100 * share)} %`;

/**
 * `text` from `begin` to `end` as nodes: spans are highlighted by their probability relative to `strongest`, and the quote
 * inside them is underlined. All positions count code points; the `last` of a span is exclusive.
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
    const title = `contains the answer with a probability of ${percent(span.probability)}`;
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
  const title = "given to the language model as the most likely answer";
  return [before, make("strong", { className: "quote", title }, inside), after];
}
