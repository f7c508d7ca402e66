"""Find words of texts in the files of a folder: raw bytes, Parquet, SQLite, all versions of Lance
tables.
"""

import sqlite3
from collections.abc import Collection, Iterable, Iterator
from contextlib import closing
from pathlib import Path

import lancedb
import pyarrow.parquet as pq

from cmt.text.shingles import shingles, words

RUN = 8  # words in a row that count as a trace


def traces(
    folder: Path,
    texts: Iterable[str],
    *,
    phrases: Iterable[str] = (),
    outside: Collection[Path] = (),
) -> list[str]:
    """Where a run of RUN words of one of `texts`, or one of `phrases` as a whole, occurs below
    `folder`.

    `phrases`: such as questions and short answers. `outside`: files and folders that are left out.
    """
    runs = {
        run for text in texts for run in shingles(words(text), RUN) if run.count(" ") == RUN - 1
    }
    wholes = [f" {' '.join(words(phrase))} " for phrase in phrases]
    assert runs or wholes

    def holds(text: str) -> bool:
        own = words(text)
        line = f" {' '.join(own)} "
        return (
            any(whole in line for whole in wholes)
            or bool(runs)
            and not runs.isdisjoint(shingles(own, RUN))
        )

    found = []
    for path in sorted(folder.rglob("*")):
        if not path.is_file() or any(path.is_relative_to(other) for other in outside):
            continue
        for place, content in contents(path):
            if holds(content):
                found.append(f"{path.relative_to(folder)} ({place})")
    for table in sorted(folder.rglob("*.lance")):
        if table.is_dir():
            found += [
                f"{table.relative_to(folder)} ({place})"
                for place, text in lance(table)
                if holds(text)
            ]
    return found


def contents(path: Path) -> Iterator[tuple[str, str]]:
    """The bytes of a file as text, and its rows if it is a table."""
    raw = path.read_bytes()
    for encoding in ("utf-8", "utf-16-le"):
        yield f"raw bytes as {encoding}", raw.decode(encoding, errors="replace")
    if raw.startswith(b"PAR1"):
        for row in pq.read_table(path).to_pylist():
            yield "Parquet", repr(row)
    if raw.startswith(b"SQLite format 3\0"):
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
            database.text_factory = lambda value: value.decode(errors="replace")
            for (name,) in database.execute(
                "SELECT name FROM sqlite_master WHERE type = 'table'"
            ).fetchall():
                for row in database.execute(f'SELECT * FROM "{name}"'):  # noqa: S608 - its own name
                    yield (
                        f"SQLite, {name}",
                        " | ".join(
                            value.decode(errors="replace")
                            if isinstance(value, bytes)
                            else str(value)
                            for value in row
                        ),
                    )


def lance(path: Path) -> Iterator[tuple[str, str]]:
    """The rows of all versions of a Lance table."""
    table = lancedb.connect(path.parent).open_table(path.stem)
    for version in table.list_versions():
        table.checkout(version["version"])
        columns = [field.name for field in table.schema if field.name not in ("key", "memory")]
        for row in (
            table.search().select(columns).limit(max(table.count_rows(), 1)).to_arrow().to_pylist()
        ):
            yield f"version {version['version']}", repr(row)


def data_files(folder: Path) -> set[Path]:
    """The files of all tables of memories that may hold deleted rows: data, deletions, indexes,
    transactions.
    """
    names = ("data", "_deletions", "_indices", "_transactions")
    return {
        path
        for name in names
        for path in folder.glob(f"memories_*.lance/{name}/**/*")
        if path.is_file()
    }
