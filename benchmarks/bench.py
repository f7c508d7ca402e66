"""The bars: limits on what a round, a question and a row of the bank cost, as ratios within one
run.

    make bench-bank     # the million rows, once
    make bench          # all bars; exit status 1 unless every one holds
    make bench ONLY=2   # one bar

Bars 1, 2, 9 and 12 measure the bank, bar 8 `cmt ingest`; bars 3, 5, 6 and 7
(`benchmarks/model_bars.py`) measure the language model and the compressor on the bundled newspaper.
Rows are synthetic: texts with the word frequencies of a language, keys around some thousand topics,
memories as large as those of 16 tokens a vector in int4. The rest is what a round does, without Θ
and the LM. The large and the small bank take turns in one run, and every change is undone.
data/bench keeps the result of a bar until it is measured again. Writes benchmarks/RESULTS.md and
metrics/bench.json = [{"bar", "value", "limit", "ok"}, …].
"""

import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from functools import cache, partial
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import numpy as np
import pyarrow as pa
import typer
import yaml
from model_bars import MODEL_BARS
from protocol import ROOT, Bar, spread, take_turns, timed
from rich.console import Console
from rich.progress import track

from cmt.bank.bank import Bank, open_bank
from cmt.bank.ledger import Ledger
from cmt.bank.location import BankLocation
from cmt.bank.quantization import vector_bytes
from cmt.bank.rounds import Round
from cmt.bank.schema import bank_schema
from cmt.cli.context import run_script
from cmt.common.storage import write_bytes, write_json
from cmt.errors import BankError, StreamError

STATM = Path("/proc/self/statm")  # its second number is the resident memory in pages
FOLDER = ROOT / "data/bench"
RESULTS, METRICS = ROOT / "benchmarks/RESULTS.md", ROOT / "metrics/bench.json"

LARGE, SMALL = 1_000_000, 1_000  # rows
DOCUMENTS = 20  # of a round
ROUNDS, SEARCHES = 30, 200
THOUSAND = 1_000  # rounds
CANARIES = 10  # searches of the gate in a round
KEPT = 8  # rows of a search that are compared with an exact one
KEY_DIM, DIM = 128, 576  # of the shipped compressor
CODES, WINDOW, TOKENS = (
    "int4",
    16,
    (64, 193),
)  # number format, tokens a vector, tokens of a text: from, below
SLICE = 10_000  # documents
TOPICS, SPREAD = 5_000, 0.7  # keys are a topic and this share of noise
WORDS, LENGTH = 50_000, 90  # vocabulary, and words of a text
SCHEMA = bank_schema(key_dim=KEY_DIM, codes=CODES, dim=DIM, compressor="be" * 32)
DOC_ID = "bench-{:09d}"
START = datetime(2020, 1, 1, tzinfo=UTC)
INGESTED, INGESTED_AT_ONCE, INGESTED_WORDS = (
    1_000_000,
    100_000,
    30,
)  # documents, documents a file, words a document
MAINTENANCE_EVERY = 50  # rounds, of a thousand
MEASURE = """
import os, subprocess, sys
command = subprocess.Popen(sys.argv[1:], stdout=subprocess.DEVNULL)
_, status, usage = os.wait4(command.pid, 0)
print(usage.ru_maxrss)
sys.exit(os.waitstatus_to_exitcode(status))
# run by a small process: on Linux the peak of a command begins with that of the process that starts
# it
"""


class Texts:
    """Synthetic documents: the same number makes the same document."""

    def __init__(self) -> None:
        random = np.random.default_rng(0)
        letters = np.array(list("abcdefghijklmnopqrstuvwxyz"))
        self.words = np.array(
            ["".join(random.choice(letters, random.integers(3, 10))) for _ in range(WORDS)]
        )
        frequencies = 1 / np.arange(1, WORDS + 1)  # Zipf
        self.frequencies = (frequencies / frequencies.sum()).cumsum()
        self.topics = random.standard_normal((TOPICS, KEY_DIM)).astype(np.float32)

    def drawn(self, random: np.random.Generator, count: int, words: int) -> list[str]:
        """`count` texts of `words` words each."""
        drawn = self.words[np.searchsorted(self.frequencies, random.random((count, words)))]
        return [" ".join(text) for text in drawn]

    def rows(self, first: int, count: int, supersedes: Sequence[str | None] = ()) -> pa.Table:
        """Rows of the documents `first` to `first + count`; document n is published n minutes after
        START.
        """
        random = np.random.default_rng(first)
        texts = self.drawn(random, count, LENGTH)
        keys = self.topics[random.integers(0, TOPICS, count)]
        keys = keys + SPREAD * random.standard_normal(keys.shape, np.float32)
        tokens = random.integers(*TOKENS, count)
        vectors = -(-tokens // WINDOW)
        numbers = range(first, first + count)
        names = [DOC_ID.format(number) for number in numbers]
        columns = {
            "memory_id": [f"{name}#0" for name in names],
            "doc_id": names,
            "slice_id": [f"bench/{number // SLICE:04d}" for number in numbers],
            "published_at": [START + timedelta(minutes=number) for number in numbers],
            "superseded_at": [None] * count,
            "hidden": [None] * count,
            "source": ["bench"] * count,
            "supersedes": [*supersedes, *[None] * (count - len(supersedes))],
            "sha256": [f"{number:064x}" for number in numbers],
            "compressor": ["be" * 32] * count,
            "title": names,
            "key": pa.FixedSizeListArray.from_arrays(pa.array(keys.ravel()), KEY_DIM),
            "memory": [random.bytes(vector_bytes(CODES, DIM) * k) for k in vectors.tolist()],
            "n_vectors": vectors,
            "n_tokens": tokens,
            "text": texts,
        }
        return pa.table(
            {name: pa.array(values, SCHEMA.field(name).type) for name, values in columns.items()},
            SCHEMA,
        )


texts = cache(Texts)


@cache
def large_bank() -> Bank:
    """The large bank. Raises BankError if it is not complete."""
    if (FOLDER / "large").is_dir():
        bank = open_bank(BankLocation(str(FOLDER / "large")), schema=SCHEMA)
        if bank.count_rows() >= LARGE:
            return bank
    raise BankError(
        f"there is no bank of {LARGE:,} rows in {FOLDER / 'large'}: run `make bench-bank` first"
    )


def build(rows: int, folder: Path) -> Bank:
    """An indexed bank of `rows` rows; a bank that was begun is completed."""
    bank = open_bank(BankLocation(str(folder)), schema=SCHEMA)
    block = min(rows, 50_000)
    for first in track(
        range(bank.count_rows(), rows, block), f"{rows:,} rows", console=Console(stderr=True)
    ):
        bank.upsert(texts().rows(first, min(block, rows - first)))
        if first >= block:
            # a write rewrites a table of up to a million rows (docs/scale.md): drop the old one
            bank.optimize(keep=timedelta(milliseconds=1))
    if bank.stats()["indexed"] < rows and rows >= 10_000:
        bank.optimize(keep=timedelta(milliseconds=1))
    return bank


def round_of(bank: Bank, first: int) -> None:
    """A round of the documents from `first`, of which two supersede stored ones, without Θ and
    LM.
    """
    ledger = Ledger(bank.connection)
    stored = [DOC_ID.format(first % 997), DOC_ID.format(first % 991)]
    rows = texts().rows(first, DOCUMENTS, stored)
    version_before, _ = bank.version_and_rows()
    ledger.rounds()
    started = Round(
        round_id=f"bench-{first}",
        number=1,
        slice_id="bench",
        slice_digest="",
        compressor="be" * 32,
        row_format="",
        params_digest="",
        state="started",
        version_before=version_before,
    )
    ledger.write(started)
    bank.upsert(rows)
    for row in rows.slice(0, CANARIES).to_pylist():
        bank.search(
            key=np.array(row["key"]), text=" ".join(row["text"].split()[:8]), k=8, as_of=None
        )
    bank.check_version(version_before)
    bank.digest()
    ledger.write(started)


def bar_1() -> Iterator[Bar]:
    """The time of a round with many rows in the bank and with few."""
    banks = {"large": large_bank(), "small": fresh("small")}
    large, before, first = banks["large"], banks["large"].version, 10 * LARGE
    turns = (
        {name: partial(round_of, bank, first + number * DOCUMENTS) for name, bank in banks.items()}
        for number in track(range(ROUNDS + 1), "rounds", console=Console(stderr=True))
    )
    try:
        # the first round builds what is missing
        seconds = {name: values[1:] for name, values in take_turns(turns).items()}
        refresh = timed(lambda: large.upsert(texts().rows(first + 10_000, 1_001)))
    finally:  # rows that are left would make the next run faster
        large.restore(before)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    detail = (
        f"{medians['large']:.3f} s ({spread(seconds['large'])}) next to "
        f"{large.count_rows():,} rows, {medians['small']:.3f} s ({spread(seconds['small'])}) next "
        f"to {SMALL:,}; after 1,000 new rows one write "
        f"updates the indexes of the large bank, in {refresh:.1f} s"
    )
    ratio = medians["large"] / medians["small"]
    yield Bar(1, "round of 20 documents: 1,000,000 rows ÷ 1,000", ratio, 1.5, False, detail)


def bar_2() -> Iterator[Bar]:
    """The time of a search among many rows and among few, and the recall of the index."""
    banks = {"large": large_bank(), "small": fresh("small")}
    rows = {name: bank.count_rows() for name, bank in banks.items()}
    random = np.random.default_rng(1)
    asked = [
        {name: question(random, count) for name, count in rows.items()} for _ in range(SEARCHES + 5)
    ]
    turns = (
        {name: partial(search, banks[name], *arguments) for name, arguments in one.items()}
        for one in track(asked, "searches", console=Console(stderr=True))
    )
    with one_core():
        seconds = {name: values[5:] for name, values in take_turns(turns).items()}
    recalls = [recall(banks["large"], one["large"][0], one["large"][2]) for one in asked[5::4]]
    medians = {name: 1000 * statistics.median(values) for name, values in seconds.items()}
    detail = (
        f"{medians['large']:.1f} ms ({spread(seconds['large'], 1000)}) in {rows['large']:,} rows, "
        f"{medians['small']:.1f} ms ({spread(seconds['small'], 1000)}) in {SMALL:,}; key, eight "
        f"words and a date "
        "in the later half of the stream, on one core"
    )
    yield Bar(
        2, "search: 1,000,000 rows ÷ 1,000", medians["large"] / medians["small"], 2.5, False, detail
    )
    yield Bar(
        2,
        f"recall@{KEPT} of the key's index",
        float(np.mean(recalls)),
        0.97,
        True,
        f"{len(recalls)} searches",
    )


@contextmanager
def one_core() -> Iterator[None]:
    """All threads of this process on one core, those of LanceDB included."""
    cores = os.sched_getaffinity(0)

    def move(chosen: set[int]) -> None:
        for thread in Path("/proc/self/task").iterdir():
            with suppress(ProcessLookupError):  # a thread that has ended meanwhile
                os.sched_setaffinity(int(thread.name), chosen)

    move({min(cores)})
    try:
        yield
    finally:
        move(cores)


def question(random: np.random.Generator, rows: int) -> tuple[np.ndarray, str, datetime]:
    """A key near a topic, eight words, and a date in the later half of the `rows` documents."""
    key = texts().topics[random.integers(0, TOPICS)] + SPREAD * random.standard_normal(
        KEY_DIM, np.float32
    )
    return (
        key,
        texts().drawn(random, 1, 8)[0],
        START + timedelta(minutes=int(random.integers(rows // 2, rows))),
    )


def search(bank: Bank, key: np.ndarray, text: str | None, as_of: datetime | None) -> set[str]:
    """Ids of the KEPT best rows."""
    return set(bank.search(key=key, text=text, k=KEPT, as_of=as_of)["memory_id"].to_pylist())


def recall(bank: Bank, key: np.ndarray, as_of: datetime) -> float:
    """Share of the nearest rows that a search by key finds."""
    truth = search(open_bank(BankLocation(bank.connection.uri, 10**12)), key, None, as_of)
    return len(search(bank, key, None, as_of) & truth) / len(truth)


def bar_12() -> Iterator[Bar]:
    """A thousand rounds, with maintenance."""
    bank = fresh("thousand", rows=0)
    seconds, sizes = [], {}
    for number in track(range(1, THOUSAND + 1), "a thousand rounds", console=Console(stderr=True)):
        seconds.append(timed(partial(round_of, bank, number * DOCUMENTS)))
        if number % MAINTENANCE_EVERY == 0:
            bank.optimize(keep=timedelta(milliseconds=1))
            files = Path(bank.connection.uri, f"{bank.name}.lance").rglob("*")
            sizes[number] = (
                sum(path.stat().st_size for path in files if path.is_file()) / bank.count_rows()
            )
    early, late = (
        statistics.median(seconds[end - MAINTENANCE_EVERY : end])
        for end in (MAINTENANCE_EVERY, THOUSAND)
    )
    detail = (
        f"median of 50 rounds: {early:.3f} s, then {late:.3f} s, while the bank grew to "
        f"{bank.count_rows():,} rows"
    )
    yield Bar(
        12,
        "1,000 rounds: time of a round at the end ÷ at round 50",
        late / early,
        1.3,
        False,
        detail,
    )
    early, late = sizes[MAINTENANCE_EVERY], sizes[THOUSAND]
    detail = (
        f"{early:,.0f} bytes a row after round 50, {late:,.0f} at the end, each after maintenance"
    )
    yield Bar(
        12, "1,000 rounds: bytes a row at the end ÷ at round 50", late / early, 1.3, False, detail
    )


def bar_8() -> Iterator[Bar]:
    """Seconds and memory of `cmt ingest` while the stream grows to INGESTED documents."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        stream = {
            "path": "stream",
            "quarantine": "quarantine",
            "period": INGESTED_AT_ONCE // 10,
            "clock": "system",
        }
        (folder / "params.yaml").write_text(yaml.safe_dump({"stream": stream}), encoding="utf-8")
        # 1. the memory that a small stream takes
        _, small = ingest(folder, INGESTED, INGESTED_AT_ONCE // 10)
        shutil.rmtree(folder / "stream")
        # 2. the large one
        starts = range(0, INGESTED, INGESTED_AT_ONCE)
        tracked = track(starts, "ingest", console=Console(stderr=True))
        seconds, peaks = zip(
            *(ingest(folder, first, INGESTED_AT_ONCE) for first in tracked), strict=True
        )
    thousands = INGESTED_AT_ONCE / 1000
    early, late = (statistics.median(part) / thousands for part in (seconds[:3], seconds[-3:]))
    detail = (
        f"{INGESTED:,} documents in files of {INGESTED_AT_ONCE:,}, near-copies capped: {early:.3f} "
        f"s a thousand in the first three files, {late:.3f} in the last three; peak memory "
        f"{max(peaks) / 1e6:.0f} MB, "
        f"{small / 1e6:.0f} MB for {INGESTED_AT_ONCE // 10:,} documents"
    )
    yield Bar(
        8,
        "ingest: seconds a document, last three files ÷ first three",
        late / early,
        1.2,
        False,
        detail,
    )
    yield Bar(
        8,
        "ingest: peak memory over that of 10,000 documents, GB",
        (max(peaks) - small) / 1e9,
        1,
        False,
        detail,
    )


def ingest(folder: Path, first: int, count: int) -> tuple[float, int]:
    """Seconds and peak memory in bytes of `cmt ingest` of the documents `first` to `first +
    count`.
    """
    rows = (
        {
            "doc_id": f"document-{number}",
            "text": text,
            "published_at": (START + timedelta(minutes=number)).isoformat(),
        }
        for number, text in enumerate(
            texts().drawn(np.random.default_rng(first), count, INGESTED_WORDS), first
        )
    )
    source = folder / "documents.jsonl"
    source.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    command = [
        sys.executable,
        "-m",
        "cmt",
        "--params",
        str(folder / "params.yaml"),
        "ingest",
        str(source),
    ]
    began = time.perf_counter()
    measured = subprocess.run(  # noqa: S603
        [sys.executable, "-c", MEASURE, *command], stdout=subprocess.PIPE, text=True
    )
    if measured.returncode:
        raise StreamError(f"`{' '.join(command)}` ended with {measured.returncode}")
    return time.perf_counter() - began, int(measured.stdout) * 1024


def bar_9() -> Iterator[Bar]:
    """Memory of a process that opens and searches the large bank."""
    large_bank()  # raises the error if there is none
    with ProcessPoolExecutor(1, get_context("spawn")) as process:
        gigabytes = process.submit(search_memory).result() / 1e9
    detail = (
        f"resident memory after {SEARCHES} searches less that before the bank is opened, "
        "without an LM"
    )
    yield Bar(9, "resident memory with 1,000,000 rows, GB", gigabytes, 2, False, detail)


def search_memory() -> int:
    """Bytes by which this process grows when it opens the large bank and searches it."""
    texts()  # made before the memory is measured
    random, before = np.random.default_rng(2), STATM.read_text().split()[1]
    bank = large_bank()
    for _ in range(SEARCHES):
        search(bank, *question(random, LARGE))
    return (int(STATM.read_text().split()[1]) - int(before)) * os.sysconf("SC_PAGE_SIZE")


BARS: dict[int, Callable[[], Iterator[Bar]]] = dict(
    sorted({1: bar_1, 2: bar_2, 8: bar_8, 9: bar_9, 12: bar_12, **MODEL_BARS}.items())
)


def fresh(name: str, rows: int = SMALL) -> Bank:
    """A new bank."""
    shutil.rmtree(FOLDER / name, ignore_errors=True)
    return (
        build(rows, FOLDER / name)
        if rows
        else open_bank(BankLocation(str(FOLDER / name)), schema=SCHEMA)
    )


def main(
    only: Annotated[
        list[int] | None, typer.Option(help="A bar to measure; repeatable. Default: all.")
    ] = None,
    build_only: Annotated[
        bool, typer.Option("--bank", help="Build the large bank, or go on with it.")
    ] = False,
) -> None:
    """Measure the bars and write them down; exit status 1 unless every one holds."""
    if build_only:
        seconds = timed(lambda: build(LARGE, FOLDER / "large"))
        Console(stderr=True).print(f"{LARGE:,} rows in {FOLDER / 'large'} after {seconds:,.0f} s")
        return
    if unknown := set(only or ()) - BARS.keys():
        raise typer.BadParameter(f"bar {min(unknown)} is none of {', '.join(map(str, BARS))}")
    kept = FOLDER / "bars.json"
    for number in only or BARS:
        measured = [asdict(bar) for bar in BARS[number]()]
        others = [
            bar
            for bar in (json.loads(kept.read_text()) if kept.exists() else [])
            if bar["number"] != number
        ]
        write_json(kept, sorted([*others, *measured], key=lambda bar: bar["number"]))
    bars = [Bar(**bar) for bar in json.loads(kept.read_text()) if bar["number"] in BARS]
    values = [
        {"bar": bar.bar, "value": round(bar.value, 3), "limit": bar.limit, "ok": bar.ok}
        for bar in bars
    ]
    write_json(METRICS, values)
    write_bytes(RESULTS, page(bars).encode())
    typer.echo(page(bars))
    if not all(bar.ok for bar in bars):
        raise typer.Exit(1)


def page(bars: Sequence[Bar]) -> str:
    """RESULTS.md."""
    versions = ", ".join(
        f"{name} {version(name)}" for name in ("torch", "transformers", "lancedb", "pyarrow")
    )
    missing = sorted(BARS.keys() - {bar.number for bar in bars})
    signs, words = {True: "≥", False: "≤"}, {True: "holds", False: "**fails**"}
    rows = []
    for bar in bars:
        limit = f"{signs[bar.at_least]} {bar.limit:g}"
        cells = (bar.number, bar.bar, f"{bar.value:.3g}", limit, words[bar.ok])
        rows.append(f"| {' | '.join(map(str, cells))} |")
    table = "\n".join(rows)
    details = list(dict.fromkeys(f"- **{bar.number}**: {bar.detail}." for bar in bars))
    details += [f"- Not measured yet: {', '.join(map(str, missing))}."] if missing else []
    machine = (
        f"{platform.system()} on {platform.machine()}, {os.cpu_count()} cores, "
        f"Python {platform.python_version()}"
    )
    return f"""# The bars

`make bench-bank`, then `make bench`. Medians, and in parentheses the middle half. {machine},
{versions}.

| # | figure | value | limit | |
|---|---|---|---|---|
{table}

{chr(10).join(details)}
"""


if __name__ == "__main__":
    run_script(main)
