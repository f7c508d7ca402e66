"""Random histories of rounds through a bank: what a search finds as of each date agrees with the
model.
"""

import random
from collections.abc import Iterable
from pathlib import Path

import pyarrow as pa
import pytest

from cmt.bank._merge import misdated
from cmt.bank.bank import Bank, open_bank
from cmt.bank.location import BankLocation
from cmt.bank.memory_ids import memory_id
from cmt.bank.schema import VERSION_COLUMNS
from cmt.timeline import Version
from tests.common.visibility_model import Model
from tests.helpers.banks import SCHEMA, day, document, key_of, table

HISTORIES = 16


def random_slices(rng: random.Random) -> list[list[Version]]:
    """Up to four slices of up to four versions each."""
    slices = []
    for seq in range(1, rng.randint(2, 4) + 1):
        versions = {}
        for _ in range(rng.randint(1, 4)):
            doc_id, date = rng.choice("abcd"), day(rng.randrange(5))
            supersedes = (
                rng.choice([None, *sorted(set("abcd") - {doc_id})]) if rng.random() < 0.6 else None
            )
            text, source = f"t{rng.randrange(3)}", rng.choice("SSST")
            versions[doc_id, date] = Version(
                doc_id, date, f"2031-01/{seq:04d}", source, text, supersedes
            )
        slices.append(list(versions.values()))
    return slices


def memories(versions: Iterable[Version]) -> pa.Table:
    """A row for each version."""
    latest = {v.doc_id: v.published_at for v in sorted(versions, key=lambda v: v.published_at)}
    rows = []
    for doc_id, date, slice_id, source, sha256, supersedes, _ in versions:
        (row,) = document(
            doc_id, supersedes=supersedes, source=source, slice_id=slice_id, sha=sha256
        )
        name = memory_id(doc_id, 0, None if date == latest[doc_id] else date)
        rows.append(row | {"published_at": date, "memory_id": name})
    return table(rows)


class History:
    """A bank with rounds, and the versions of the stream as they are in it."""

    def __init__(self, folder: Path, slices: list[list[Version]]) -> None:
        self.bank: Bank = open_bank(
            BankLocation(str(folder), 8), schema=SCHEMA
        )  # from 8 rows on with indexes
        self.slices, self.rounds, self.forgotten = slices, list[tuple[int, int]](), set[str]()

    def versions(self) -> list[Version]:
        """All versions, each with whether it is banked; forgotten ones have no text."""
        banked = {number for number, _ in self.rounds}
        flagged = [
            v._replace(banked=n in banked)
            for n, versions in enumerate(self.slices)
            for v in versions
        ]
        return [
            v._replace(banked=False, sha256="") if v.doc_id in self.forgotten else v
            for v in flagged
        ]

    def unbanked(self) -> list[Version]:
        return [version for version in self.versions() if not version.banked]

    def adapt(self, number: int) -> None:
        self.rounds.append((number, self.bank.version))
        rows = memories(
            [version for version in self.slices[number] if version.doc_id not in self.forgotten]
        )
        self.bank.upsert(rows, unbanked=self.unbanked())

    def roll_back(self, index: int) -> None:
        """Undo the round `index` and all later ones, as a refused round does with itself."""
        self.bank.restore(self.rounds[index][1])
        del self.rounds[index:]
        self.bank.remove(self.forgotten, unbanked=self.unbanked())

    def forget(self, doc_id: str) -> None:
        self.forgotten.add(doc_id)
        self.bank.remove(self.forgotten, unbanked=self.unbanked())

    def check(self) -> None:
        model = Model(self.versions())
        for date in map(day, range(-1, 6)):
            found = self.bank.search(key=key_of("q"), text=None, k=20, as_of=date)
            keys = set(
                zip(found["doc_id"].to_pylist(), found["published_at"].to_pylist(), strict=True)
            )
            assert keys == model.visible(date), date
        assert misdated(self.bank.rows(VERSION_COLUMNS), self.unbanked()).num_rows == 0


@pytest.mark.parametrize("seed", range(HISTORIES))
def test_a_search_finds_what_the_model_says_after_every_operation(
    seed: int, tmp_path: Path
) -> None:
    rng = random.Random(seed)
    history = History(tmp_path / "bank", random_slices(rng))
    numbers = list(range(len(history.slices)))
    for number in rng.sample(numbers, len(numbers)):
        history.adapt(number)
        history.check()
        if rng.random() < 0.3:  # a refusal, or the rollback of an earlier round
            history.roll_back(rng.randrange(len(history.rounds)))
            history.check()
    if seed % 3 == 0:
        history.forget(rng.choice("abcd"))
        history.check()
    # the order of the rounds leaves no trace
    for number in sorted(set(numbers) - {number for number, _ in history.rounds}):
        history.adapt(number)
    in_order = History(tmp_path / "in order", history.slices)
    in_order.forgotten = history.forgotten
    for number in numbers:
        in_order.adapt(number)
    history.check()
    audit = history.bank.audit()
    assert (audit.problems, audit.digest) == ([], history.bank.digest())
    assert history.bank.digest() == in_order.bank.digest()
