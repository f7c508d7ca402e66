// The question form: ask as of a date, move the date, and see how the answer and its sources change.

import { $, dateOf, dayNumber, highlighted, make, percent, request } from "./dom.js";

const PAUSE = 250; // milliseconds after the last move of the slider until the question is asked again
const CUT = "The connection ended before the answer was complete: ask again.";
let stream = null; // day numbers of the first and the last document in the bank
let under_way = null; // the AbortController of the running request
let timer = 0;
let asked = { question: "", answers: new Map() }; // answers: day → answer to `question`
let previous = []; // the last answered question, from which the server completes a follow-up

async function begin() {
  try {
    await readRange();
  } catch (error) {
    $("state").textContent = "no bank to answer from";
    return fail(error);
  }
  const wanted = new URLSearchParams(location.hash.slice(1));
  if (wanted.get("as-of")) show(dayNumber(wanted.get("as-of")));
  if (wanted.get("q")) {
    $("question").value = wanted.get("q");
    ask();
  }
}

/** Fit the slider to the documents in the bank; a slider at its end moves to the last one. */
async function readRange(options) {
  const range = await (await request("range", options)).json();
  if (range.first === null) throw new Error("The bank is empty: run `cmt ingest` and `cmt update`.");
  const [first, last] = [dayNumber(range.first), dayNumber(range.last)];
  $("state").textContent = `${range.documents.toLocaleString("en")} documents, ${dateOf(first)} to ${dateOf(last)}`;
  if (stream?.first === first && stream.last === last) return;
  const on = stream && day() < stream.last ? day() : NaN;
  stream = { first, last };
  $("day").max = stream.last - stream.first;
  for (const id of ["first", "last"]) $(id).textContent = dateOf(stream[id]);
  for (const id of ["day", "date"]) $(id).disabled = false;
  Object.assign($("date"), { min: dateOf(stream.first), max: dateOf(stream.last) });
  show(on);
}

const day = () => stream.first + Number($("day").value);

/** Set the slider and the date field to the day `wanted`, or to the nearest day of the stream; NaN is the last one. */
function show(wanted) {
  const on = Math.min(Math.max(Number.isNaN(wanted) ? stream.last : wanted, stream.first), stream.last);
  $("day").value = on - stream.first;
  $("date").value = dateOf(on);
  $("day").setAttribute("aria-valuetext", dateOf(on));
}

function askSoon() {
  clearTimeout(timer);
  if ($("question").value.trim()) timer = setTimeout(ask, PAUSE);
}

async function ask() {
  clearTimeout(timer);
  const question = $("question").value.trim();
  if (!question) return;
  under_way?.abort();
  const mine = (under_way = new AbortController());
  if (question !== asked.question) asked = { question, answers: new Map() };
  $("answer").hidden = false;
  $("fault").hidden = true;
  busy(true);
  if (!asked.answers.size) $("text").textContent = "reading the memories …";
  try {
    await readRange({ signal: mine.signal }); // rounds may have added documents
    const on = day();
    history.replaceState(null, "", `#${new URLSearchParams({ q: question, "as-of": dateOf(on) })}`);
    const body = JSON.stringify({ question, as_of: dateOf(on), previous });
    const headers = { "Content-Type": "application/json" };
    const response = await request("ask/stream", { method: "POST", body, headers, signal: mine.signal });
    await read(response, on);
    busy(false);
  } catch (error) {
    if (error.name === "AbortError") return; // a newer question replaced this one
    busy(false);
    fail(error);
  }
}

/** Show the events of an answer as they arrive. */
async function read(response, on) {
  let text = "";
  for await (const [event, data] of events(response)) {
    if (event === "error") throw new Error(data.message);
    if (event === "text") $("text").textContent = text += data;
    if (event === "answer") return present(data, on);
  }
  throw new Error(CUT);
}

/** Name and data of each server-sent event. */
async function* events(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  const next = () =>
    reader.read().catch((error) => {
      throw error.name === "AbortError" ? error : new Error(CUT); // the browser says "network error"
    });
  let rest = "";
  for (let part = await next(); !part.done; part = await next()) {
    const blocks = (rest + part.value).split("\n\n");
    rest = blocks.pop();
    for (const block of blocks) {
      const event = /^event: (.*)$/m.exec(block);
      const data = /^data: ([^\n]*)$/m.exec(block);
      if (event && data) yield [event[1], JSON.parse(data[1])];
    }
  }
}

function present(found, on) {
  if (found.question !== asked.question && $("question").value.trim() === asked.question) {
    asked.question = $("question").value = found.question; // a follow-up, completed
    history.replaceState(null, "", `#${new URLSearchParams({ q: found.question, "as-of": dateOf(on) })}`);
  }
  previous = [{ question: found.question, answer: found.answer }];
  $("text").textContent = (found.answer || "(an empty answer)") + (found.day ? ` (${found.day})` : "")
    + (found.holds_from ? ` (from ${found.holds_from})` : "")
    + (found.form === "compare" ? found.items.map((item) => `\n${item.text}`).join("") : "");
  $("answer").classList.toggle("unknown", !found.known);
  $("answer").classList.toggle("quoted", found.items.length > 0 && found.form !== "compare");
  const verdict = found.verdict.replaceAll("_", " ");
  $("grounds").textContent = `${verdict} · as of ${dateOf(on)} · confidence ${percent(found.confidence)}${besides(found.other_value)}${absent(found.missing)}${found.reason ? ` · ${found.reason}` : ""}`;
  asked.answers.set(on, found.answer);
  drawHistory(on);
  drawMarks(found.sources);
  drawSources(found);
}

/** The value before a change, or one that may have replaced the answer, with its document. */
function besides(other) {
  if (!other) return "";
  const day = other.published_at.slice(0, 10);
  return other.later
    ? ` · perhaps ${other.text} since ${day} (${other.doc_id})`
    : ` · before: ${other.text} (${day}, ${other.doc_id})`;
}

/** The names of the question that the document of the answer lacks. */
function absent(names) {
  return names.length ? ` · no mention of ${names.join(", ")}` : "";
}

/** List the answers on the days asked so far, neighbouring days with the same answer in one row; a click opens the first day. */
function drawHistory(on) {
  const stretches = [];
  for (const [at, answer] of [...asked.answers].sort((a, b) => a[0] - b[0])) {
    const last = stretches.at(-1);
    if (last?.answer === answer) last.to = at;
    else stretches.push({ answer, from: at, to: at });
  }
  $("history").replaceChildren(...stretches.map((stretch) => historyRow(stretch, on)));
  $("along").hidden = asked.answers.size < 2;
}

function historyRow({ answer, from, to }, on) {
  const dates = from === to ? dateOf(from) : `${dateOf(from)} to ${dateOf(to)}`;
  const row = make("button", { type: "button" }, make("span", { className: "dates" }, dates), " ", answer);
  if (from <= on && on <= to) row.setAttribute("aria-current", "date");
  row.addEventListener("click", () => {
    show(from);
    ask();
  });
  return make("li", {}, row);
}

/** Mark the dates of the sources on the slider. */
function drawMarks(sources) {
  const length = Math.max(stream.last - stream.first, 1);
  const marks = sources.map((source) => {
    const mark = make("span");
    mark.style.setProperty("--at", (dayNumber(source.published_at) - stream.first) / length);
    return mark;
  });
  $("marks").replaceChildren(...marks);
}

function drawSources({ known, sources }) {
  const strongest = Math.max(0, ...sources.flatMap((source) => source.spans.map((span) => span.probability)));
  $("rests-on").textContent = known ? "Sources" : "Nearest documents";
  $("legend").hidden = strongest === 0;
  $("sources").replaceChildren(...sources.map((source) => sourceItem(source, strongest)));
  $("rests").hidden = sources.length === 0;
}

function sourceItem(source, strongest) {
  const text = source.text ?? "(the bank keeps no text)";
  // the text of a memory begins with a line of publisher and title, which is the heading of a titled one
  const line = text.slice(0, Math.max(0, text.indexOf("\n")));
  const end = source.title && line.endsWith(source.title) ? Array.from(line).length : 0;
  const heading = end ? highlighted({ ...source, text }, strongest, 0, end) : [source.title || source.doc_id];
  return make(
    "li",
    {},
    make("h3", {}, ...heading),
    make(
      "p",
      { className: "quiet" },
      make("time", { dateTime: source.published_at }, source.published_at.slice(0, 10)),
      ` · ${source.doc_id}${source.supersedes ? ` supersedes ${source.supersedes}` : ""}` +
        ` · similarity ${source.similarity.toFixed(2)} · weight ${percent(source.weight)} `,
      make("meter", { value: source.weight, "aria-label": "weight" }),
    ),
    make("p", { className: "text" }, ...highlighted({ ...source, text }, strongest, end ? end + 1 : 0)),
  );
}

function busy(is) {
  $("answer").setAttribute("aria-busy", is);
  $("rests").classList.toggle("stale", is);
}

function fail(error) {
  for (const id of ["answer", "along", "rests"]) $(id).hidden = true; // they may belong to another question
  $("fault").textContent = error.message;
  $("fault").hidden = false;
}

$("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  ask();
});
$("day").addEventListener("input", () => {
  show(day());
  askSoon();
});
$("date").addEventListener("change", () => {
  show(dayNumber($("date").value));
  askSoon();
});
begin();
