"""Writers, readers, forgets, rollbacks, kills, wrong clocks and damaged files, compared with a
model of the project.

One seed determines everything. Kills hit the n-th system call that changes the project, not a
moment, so that a seed is repeatable. After each round the bank must hold the rows of the model, and
`cmt verify` must find nothing.
"""

import json
import random
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cmt.errors import CmtError
from cmt.timeline import Version
from tests.common.visibility_model import Model as VisibilityModel
from tests.helpers.projects import change_params
from tests.soak.findings import Findings, Kind
from tests.soak.processes import Outcome, mapping, run
from tests.soak.project import PEOPLE, THINGS, build, opened, problems, write_news

DAY = 24 * 3600
START = datetime(
    2022, 1, 3, 7, tzinfo=UTC
)  # date of the first document; the project uses the system clock
ROUNDS_A_PROJECT = 25  # rounds before a new project begins


@dataclass
class Model:
    """The state that the commands so far must have produced."""

    slices: list[tuple[str, list[dict[str, Any]]]] = field(default_factory=list)
    """Ids and documents, in the order of their ingests."""
    committed: list[str] = field(
        default_factory=list
    )  # the slices with a round, in the order of the rounds
    forgotten: set[str] = field(default_factory=set)

    def current(self) -> list[tuple[str, str]]:
        """doc_id and text of the documents that may answer a question now, sorted."""
        versions, texts = [], dict[tuple[str, datetime], str]()
        for slice_id, rows in self.slices:
            for row in rows:
                key = row["doc_id"], datetime.fromisoformat(row["published_at"])
                banked = slice_id in self.committed and row["doc_id"] not in self.forgotten
                versions.append(
                    Version(*key, slice_id, None, row["text"], row["supersedes"], banked)
                )
                texts[key] = row["text"]
        visible = VisibilityModel(versions).visible(datetime.max.replace(tzinfo=UTC))
        return sorted((key[0], texts[key]) for key in visible)


class Chaos:
    """One project, its model, and its random source."""

    def __init__(self, folder: Path, source: random.Random) -> None:
        self.source, self.model, self.findings = source, Model(), Findings()
        self.folder = build(folder, documents=False)
        self.day = 0
        change_params(self.folder, stream={"clock": "system", "period": "day"})

    def round(self, number: int) -> None:
        """A few operations, then the comparison with the model."""
        log: list[str] = []
        operations = [
            self.write,
            *self.source.sample(
                [self.forget, self.roll_back, self.optimize, self.damage],
                k=self.source.randrange(3),
            ),
        ]
        for operation in operations:
            log.append(operation())
        if wrong := self._wrong():
            self.findings.add(wrong[0], f"{wrong[1]} – round {number}: {'; '.join(log)}")
        self.findings.checked["chaos_rounds"] += 1

    def write(self) -> str:
        """Ingest some documents and adapt to them, perhaps killed, with a question during the
        update.
        """
        rows = [self._document() for _ in range(self.source.randint(1, 4))]
        rows = list(
            {row["doc_id"]: row for row in rows}.values()
        )  # of two corrections at once one is taken
        self.day += 1
        news = write_news(self.folder / "incoming", rows)
        done = [self._command("ingest", str(news))]
        slices = [slice_.slice_id for slice_ in opened(self.folder).project.store.slices()]
        [new] = [
            slice_id
            for slice_id in slices
            if slice_id not in [known for known, _ in self.model.slices]
        ]
        self.model.slices.append((new, rows))
        before = {name for name, _ in self.model.current()}
        waiting = [
            slice_id for slice_id, _ in self.model.slices if slice_id not in self.model.committed
        ]
        with ThreadPoolExecutor(1) as reader:
            asked = (
                reader.submit(
                    run, self.folder, "ask", "--json", f"Who has the {self.source.choice(THINGS)}?"
                )
                if before
                else None
            )
            done.append(self._command("update", "--all"))
        self.model.committed += sorted(waiting)
        if asked:
            self._check_answer(asked.result(), before | {name for name, _ in self.model.current()})
        return " and ".join(done)

    def forget(self) -> str:
        """Forget a document that the bank has."""
        banked = [rows for slice_id, rows in self.model.slices if slice_id in self.model.committed]
        names = sorted({row["doc_id"] for rows in banked for row in rows} - self.model.forgotten)
        if len(names) < 2:
            return "nothing"
        name = self.source.choice(names)
        done = self._command("forget", name)
        self.model.forgotten.add(name)
        return done

    def roll_back(self) -> str:
        """Roll back one of the last rounds; its slices wait for the next update."""
        if not self.model.committed:
            return "nothing"
        target = self.source.choice(self.model.committed[-3:])
        outcome, done = self._attempt("rollback", target)
        killed = outcome.hit is not None
        if killed:
            outcome = run(self.folder, "rollback", target)
        if outcome.status == 1 and "has no version" in outcome.errors:
            return f"{done} (its version was dropped)"
        del self.model.committed[self.model.committed.index(target) :]
        # by the recovery of the second
        completed = killed and "no committed round" in outcome.errors
        if outcome.status != 0 and not completed:
            self.findings.add("wrong", f"{done}: {outcome.status} {outcome.errors[-300:]}")
        return done

    def optimize(self) -> str:
        """Rebuild the indexes and drop old versions, at any hour."""
        return self._command("bank", "optimize", "--keep-days", str(self.source.choice([0, 5, 20])))

    def damage(self) -> str:
        """Change a byte of the bank or of a slice; `cmt verify` must report it or it must be
        harmless. Restore it.
        """
        files = sorted(
            path
            for part in ("bank", "stream")
            for path in (self.folder / part).rglob("*")
            if path.is_file() and path.stat().st_size
        )
        path = self.source.choice(files)
        original = path.read_bytes()
        place = self.source.randrange(len(original))
        path.write_bytes(original[:place] + bytes([original[place] ^ 0x55]) + original[place + 1 :])
        try:
            outcome = run(self.folder, "verify")
            if outcome.status == 0 and (wrong := self._wrong()):
                self.findings.add(
                    "silent",
                    f"byte {place} of {path.relative_to(self.folder)} is not named: {wrong[1]}",
                )
        finally:
            path.write_bytes(original)
        return "damage"

    def _document(self) -> dict[str, Any]:
        """A new document, which may supersede an earlier one, or the correction of an earlier
        document.
        """
        number = sum(len(rows) for _, rows in self.model.slices) + self.source.randrange(10**6)
        thing, person = self.source.choice(THINGS), self.source.choice(PEOPLE)
        earlier = [name for name, _ in self.model.current()]
        kind, other = self.source.random(), self.source.choice(earlier) if earlier else None
        date = START + timedelta(days=self.day, seconds=self.source.randrange(3600))
        return {
            "doc_id": other if other and kind > 0.85 else f"{thing}-{number}",
            "published_at": date.isoformat(),
            "text": f"{person} has the {thing} of house {number}.",
            "supersedes": other if kind < 1 / 3 else None,
        }

    def _command(self, *arguments: str) -> str:
        """Run a command, perhaps killed or with a wrong clock; repeat it if it was killed, and note
        a failure.
        """
        outcome, done = self._attempt(*arguments)
        if outcome.hit:
            outcome = run(self.folder, *arguments)
        if outcome.status != 0:
            self.findings.add("wrong", f"{done}: {outcome.status} {outcome.errors[-300:]}")
        return done

    def _attempt(self, *arguments: str) -> tuple[Outcome, str]:
        clock = self.source.choice([0, 0, -10 * DAY, 10 * DAY])
        fault, place = (
            ("kill", self.source.randint(1, 120)) if self.source.random() < 0.4 else ("", 0)
        )
        outcome = run(self.folder, *arguments, fault=fault, place=place, clock=clock)
        killed = f", killed at call {place}" if outcome.hit else ""
        return outcome, f"{' '.join(arguments)} (clock {clock // DAY:+d} days{killed})"

    def _check_answer(self, outcome: Outcome, allowed: set[str]) -> None:
        """Check that an answer given during an update cites documents from before or after it."""
        if outcome.status != 0:
            return self.findings.add(
                "wrong", f"a question during an update: {outcome.errors[-300:]}"
            )
        sources = {source["doc_id"] for source in json.loads(outcome.output)["sources"]}
        if sources - allowed:
            self.findings.add(
                "wrong",
                f"a question during an update was answered from {sorted(sources - allowed)}",
            )

    def _wrong(self) -> tuple[Kind, str] | None:
        """The kind and description of the first difference from the model."""
        try:
            bank = opened(self.folder).project.active.stored()
            rows = bank.rows(["memory_id", "doc_id", "text", "superseded_at"]).to_pylist()
            found = sorted(
                (row["doc_id"], row["text"]) for row in rows if row["superseded_at"] is None
            )
            damaged = problems(self.folder)
        except CmtError as error:
            return "wrong", str(error)
        expected = self.model.current()
        names = [name for name, _ in found]
        if len(set(names)) < len(names):
            return (
                "doubled",
                f"{sorted(name for name in names if names.count(name) > 1)} is there twice",
            )
        if missing := [row for row in expected if row not in found]:
            return "lost", f"{missing} is gone"
        if found != expected:
            return "wrong", f"{[row for row in found if row not in expected]} should not be there"
        return ("wrong", damaged[0]) if damaged else None


def chaos(
    folder: Path, *, rounds: int, seed: int, workers: int, on_round: Callable[[int, int], None]
) -> Findings:
    """`rounds` rounds in projects of ROUNDS_A_PROJECT rounds; `on_round`, after each project: done
    and total.
    """
    findings = Findings()
    lengths = [
        min(ROUNDS_A_PROJECT, rounds - start) for start in range(0, rounds, ROUNDS_A_PROJECT)
    ]
    folders = [folder / f"chaos-{number}" for number in range(len(lengths))]
    with mapping(workers) as map_:
        for found in map_(_one_project, folders, lengths, range(seed, seed + len(lengths))):
            findings.merge(found)
            on_round(findings.checked["chaos_rounds"], rounds)
    return findings


def _one_project(folder: Path, rounds: int, seed: int) -> Findings:
    project = Chaos(folder, random.Random(seed))
    for number in range(rounds):
        project.round(number)
    shutil.rmtree(folder)
    return project.findings
