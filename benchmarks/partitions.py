"""Search in one bank of a million rows, and in partitions of it by date: what a bank beyond that size would cost.

    make bench-bank
    python benchmarks/partitions.py

The rows of data/bench/large are written to PARTITIONS banks, each of a part of the period. Searches with a date in the
later half of it are made in the one bank, and in one partition after the other on the same core, where a partition that
begins after the date is left out; the results are merged by similarity and by BM25. `same` is the share of the best
rows of the one that the other has, too: word statistics are those of a partition, and so are the clusters of an index.
"""

import statistics
from datetime import timedelta
from pathlib import Path
from typing import Annotated

import bench
import numpy as np
import pyarrow as pa
import typer
from bars import spread, timed
from rich.console import Console
from rich.progress import track
from rich.table import Table

from cmt.bank.bank import Bank
from cmt.cli.context import run_script

BLOCK = 50_000  # rows in one write


def partition(large: Bank, number: int, rows: int) -> Bank:
    """A bank of the rows of `large` from `number` times `rows` on; continued if it was begun."""
    bank = Bank.open(uri=str(Path(bench.FOLDER, f"partition-{rows}-{number}")), schema=bench.SCHEMA)
    for first in range(number * rows + bank.count_rows(), (number + 1) * rows, BLOCK):
        documents = range(first, min(first + BLOCK, (number + 1) * rows))
        bank.upsert(large.rows(bench.SCHEMA.names, {bench.memory_id(document) for document in documents}))
    if bank.stats()["indexed"] < rows:
        bank.optimize(keep=timedelta(milliseconds=1))
    return bank


def best(found: pa.Table, score: str) -> list[str]:
    """The best rows by a score."""
    ordered = found.sort_by([(score, "descending"), ("memory_id", "ascending")])
    names: list[str] = ordered["memory_id"].to_pylist()
    return names[: bench.KEPT]


def main(
    partitions: Annotated[int, typer.Option(min=2, help="Partitions, which divide the rows evenly.")] = 10,
    searches: Annotated[int, typer.Option(min=1, help="Searches of each kind.")] = 100,
) -> None:
    """Search the large bank and its partitions in turn, and print seconds and agreement."""
    # 1. the banks
    material, random = bench.Material(), np.random.default_rng(3)
    large, texts, rows = material.large, material.texts, bench.LARGE // partitions
    console = Console(stderr=True)
    parts = [partition(large, number, rows) for number in track(range(partitions), "partitions", console=console)]
    # 2. the searches
    seconds: dict[str, list[float]] = {"one bank": [], f"{partitions} partitions": []}
    same: dict[str, list[float]] = {"similarity": [], "bm25": []}
    searched = []
    for number in track(range(searches + 5), "searches", console=console):
        key, text = bench.question(texts, random)
        minute = int(random.integers(bench.LARGE // 2, bench.LARGE))
        as_of = bench.START + timedelta(minutes=minute)
        found: dict[str, list[pa.Table]] = {name: [] for name in seconds}
        for (name, results), banks in zip(found.items(), ([large], parts[: minute // rows + 1]), strict=True):
            taken = timed(
                lambda banks=banks, results=results, key=key, text=text, as_of=as_of: results.extend(  # type: ignore[misc]
                    bank.search(key=key, text=text, k=bench.KEPT, as_of=as_of) for bank in banks
                )
            )
            if number >= 5:  # the first ones read the indexes
                seconds[name].append(taken)
        searched.append(minute // rows + 1)
        one, merged = (pa.concat_tables(results) for results in found.values())
        for score, shares in same.items():
            wanted = best(one, score)
            shares.append(len(set(wanted) & set(best(merged, score))) / len(wanted))
    # 3. the table
    table = Table("", "ms, median", "middle half", title=f"{bench.LARGE:,} rows, {searches} searches on one core")
    for name, values in seconds.items():
        table.add_row(name, f"{1000 * statistics.median(values):.1f}", spread(values, 1000))
    Console().print(table)
    shares_by = ", ".join(f"{np.mean(shares):.3f} by {score}" for score, shares in same.items())
    Console().print(f"{statistics.mean(searched):.1f} partitions searched on average; the same rows: {shares_by}")


if __name__ == "__main__":
    run_script(main)
