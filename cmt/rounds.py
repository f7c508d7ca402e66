"""The round: one slice adapted by one compressor into one bank version, and the ledger that remembers every round.

begin → compress → bank → evaluate → decide → track. A kill at any point leaves a ledger row `started`; whoever comes
next restores the bank to the version before it and starts the round again, so the bank is always before or after one.
"""

import json
import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from cmt.errors import CmtError, RoundError
from cmt.versioning import git_commit, write_json

if TYPE_CHECKING:
    from lancedb.db import DBConnection

    from cmt.workspace import Workspace

log = logging.getLogger(__name__)

State = Literal["started", "committed", "refused", "rolled_back", "interrupted"]


class Watch(Protocol):
    """Who shows progress."""

    def stage(self, name: str, total: int | None = None) -> None:
        """A new stage begins; `total` steps, None when unknown."""

    def advance(self, n: int, note: str = "") -> None:
        """`n` more steps are done."""


class Quiet:
    """A Watch that shows nothing."""

    def stage(self, name: str, total: int | None = None) -> None: ...

    def advance(self, n: int, note: str = "") -> None: ...


@dataclass(frozen=True)
class Round:
    """A row of the ledger."""

    round_id: str
    """The slice's id."""
    number: int
    slice_id: str
    slice_digest: str
    compressor: str
    bank_params: str
    """Digest of the parameters that shape the rows; with slice and compressor the identity of the round."""
    params_digest: str
    """Digest of all that shapes answers and scores."""
    state: State
    version_before: int
    version_after: int | None = None
    bank_digest: str = ""
    documents: int = 0
    rows: int = 0
    scores: dict[str, float | None] = field(default_factory=dict)
    """Flat: em, em_prefix, f1 (0–100), recall (0–1) of the memory; closed_… and rag_… of the baselines."""
    seconds: dict[str, float] = field(default_factory=dict)
    """Wall-clock a stage."""
    tokens_per_second: float | None = None
    """Compression, tokens of text."""
    git_commit: str = ""
    mlflow_run: str = ""
    prefect_run: str = ""
    started_at: str = ""
    finished_at: str = ""
    reason: str = ""
    """Why it was refused or what interrupted it."""
    already: bool = False
    """Found committed before; nothing was done."""

    @property
    def identity(self) -> tuple[str, str, str]:
        """Two rounds with one identity put the same rows into the bank."""
        return self.slice_digest, self.compressor, self.bank_params


class Ledger:
    """The tables `rounds` (one row a round) and `forgotten` (documents that must not come back) beside the bank."""

    SCHEMAS = {
        "rounds": pa.schema([pa.field("round_id", pa.string(), nullable=False), pa.field("record", pa.large_string())]),
        "forgotten": pa.schema([pa.field("doc_id", pa.string(), nullable=False)]),
    }

    def __init__(self, connection: "DBConnection") -> None:
        self._tables = {
            name: connection.create_table(name, schema=schema, exist_ok=True) for name, schema in self.SCHEMAS.items()
        }

    def rounds(self, compressor: str | None = None) -> list[Round]:
        """All rounds (of one compressor) by number."""
        found = [Round(**json.loads(record)) for record in self._column("rounds", "record")]
        return sorted((r for r in found if compressor in (None, r.compressor)), key=lambda r: r.number)

    def write(self, round_: Round) -> None:
        """Insert or replace the row of a round, in one commit. A round of another compressor has a row of its own."""
        key = f"{round_.round_id}@{round_.compressor[:12]}"
        self._upsert("rounds", {"round_id": [key], "record": [json.dumps(asdict(round_))]})

    def forgotten(self) -> set[str]:
        """Documents that were forgotten and must not come back."""
        return set(self._column("forgotten", "doc_id"))

    def forget(self, doc_id: str) -> None:
        """Remember that `doc_id` was forgotten."""
        self._upsert("forgotten", {"doc_id": [doc_id]})

    def _column(self, name: str, column: str) -> list[str]:
        table: Any = self._tables[name]
        table.checkout_latest()
        values: list[str] = table.search().select([column]).limit(max(table.count_rows(), 1)).to_arrow()[column].to_pylist()
        return values

    def _upsert(self, name: str, columns: dict[str, list[str]]) -> None:
        rows, table = pa.table(columns, schema=self.SCHEMAS[name]), self._tables[name]
        table.merge_insert(rows.column_names[0]).when_matched_update_all().when_not_matched_insert_all().execute(rows)


class RoundRun:
    """The steps of one round. Each is safe to repeat; what passes between them lies in the state folder."""

    def __init__(self, workspace: "Workspace", slice_id: str, *, watch: Watch | None = None, prefect_run: str = "") -> None:
        self.workspace, self.watch, self.prefect_run = workspace, watch or Quiet(), prefect_run
        self.slice = workspace.store.slice(slice_id)
        self.folder = workspace.state / "rounds" / slice_id.replace("/", "-")

    def begin(self) -> Round:
        """Open the round in the ledger; one that is committed with the same identity comes back with `already`."""
        w = self.workspace
        w.recover()
        known = {r.round_id: r for r in w.rounds()}
        before = known.get(self.slice.slice_id)
        if before and before.state == "committed" and before.identity == self._identity:
            return replace(before, already=True)
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "seconds.json").unlink(missing_ok=True)
        opened = Round(
            round_id=self.slice.slice_id,
            number=before.number if before else len(known) + 1,
            slice_id=self.slice.slice_id,
            slice_digest=self.slice.digest,
            compressor=w.model.digest,
            bank_params=w.bank_params,
            params_digest=w.params.digest("seed", "selection", "answering", "evaluation", "gate"),
            state="started",
            version_before=w.bank.version,
            documents=self.slice.n_documents,
            git_commit=git_commit(w.root),
            prefect_run=self.prefect_run,
            started_at=_now(),
        )
        w.ledger.write(opened)
        return opened

    def compress(self) -> Path:
        """Θ over the slice's documents, staged as a file, so that banking them is one short write."""
        from cmt.memory.memories import compress

        staged = self.folder / f"memories-{'-'.join(part[:12] for part in self._identity)}.parquet"
        if staged.exists():
            return staged
        w, bank = self.workspace, self.workspace.params.bank
        documents = w.store.documents(self.slice)
        forgotten = pa.array(sorted(w.ledger.forgotten()), pa.string())
        documents = documents.filter(pc.invert(pc.is_in(documents["doc_id"], value_set=forgotten)))
        with self._timed("compress", documents.num_rows):
            speed = _Speed(self.watch)
            rows = compress(
                w.model,
                documents,
                slice_id=self.slice.slice_id,
                keep_text=bank.keep_text,
                number_format=bank.codes,
                batch_tokens=w.params.compressor.batch_tokens,
                progress=speed,
            )
        self._note("tokens_per_second", speed.rate)
        partial = staged.with_suffix(".partial")
        pq.write_table(rows, partial)
        os.replace(partial, staged)
        return staged

    def bank(self) -> int:
        """Upsert the staged memories; the bank's version after it."""
        rows = pq.read_table(self.compress()).cast(self.workspace.bank.schema)
        with self._timed("bank", rows.num_rows):
            return self.workspace.bank.upsert(rows).version

    def evaluate(self) -> dict[str, float | None]:
        """Scores on this slice's questions and a sample of earlier ones; a record a question goes to a file."""
        from cmt.evaluation.protocol import evaluate, round_questions

        w = self.workspace
        how = w.params.evaluation
        questions = round_questions(store=w.store, slice_=self.slice, earlier=how.earlier_questions, seed=w.params.seed)
        ways = 3 if how.baselines else 1
        with self._timed("evaluate", ways * questions.num_rows):
            result = evaluate(
                answerer=w.answerer,
                lm=w.lm,
                bank=w.bank,
                questions=questions,
                params=w.params,
                baselines=how.baselines,
                cache=w.prompt_cache,
                progress=self.watch.advance,
            )
        pq.write_table(result.records, self.folder / "answers.parquet")
        scores = flat_scores(result.to_json()["rows"])
        write_json(self.folder / "scores.json", scores)
        return scores

    def decide(self) -> Round:
        """The gate: commit the round, or restore the bank to the version before it."""
        w = self.workspace
        opened = next(r for r in w.rounds() if r.round_id == self.slice.slice_id)
        notes = json.loads((self.folder / "seconds.json").read_text())
        done = replace(
            opened,
            scores=json.loads((self.folder / "scores.json").read_text()),
            tokens_per_second=notes.pop("tokens_per_second", None),
            seconds=notes,
            finished_at=_now(),
        )
        if reason := self._refusal(done):
            w.bank.restore(opened.version_before)
            done = replace(done, state="refused", reason=reason, rows=w.bank.count_rows(), bank_digest=w.bank.digest())
        else:
            done = replace(
                done, state="committed", version_after=w.bank.version, rows=w.bank.count_rows(), bank_digest=w.bank.digest()
            )
        w.ledger.write(done)
        for staged in self.folder.glob("memories-*"):
            staged.unlink()
        if done.state == "committed" and not w.pending():
            w.bank.promote()  # a new compressor takes over when it has banked the whole stream
        return done

    def track(self) -> Round:
        """Record this round, and committed ones that an unreachable server missed, in MLflow; never fails the round."""
        w = self.workspace
        history = w.rounds()
        current = next(r for r in history if r.round_id == self.slice.slice_id)
        missed = [r for r in history if r.state == "committed" and not r.mlflow_run and r != current]
        for round_ in [*missed, current] if w.params.tracking.enabled else []:
            try:
                run = w.tracker.log_round(
                    round_, params=w.params, history=history, artifacts=[w.state / "rounds" / round_.round_id.replace("/", "-") / "answers.parquet"]
                )
            except CmtError as error:
                log.warning("round %s is not in MLflow yet, the next round tries again: %s", round_.round_id, error)
                break
            w.ledger.write(replace(round_, mlflow_run=run))
        return next(r for r in w.rounds() if r.round_id == self.slice.slice_id)

    @property
    def _identity(self) -> tuple[str, str, str]:
        return self.slice.digest, self.workspace.model.digest, self.workspace.bank_params

    def _refusal(self, done: Round) -> str:
        gate, f1 = self.workspace.params.gate, done.scores.get("f1")
        if f1 is None:
            return ""  # a slice without questions has nothing to be judged by
        if f1 < gate.min_f1:
            return f"F1 {f1:.1f} is below gate.min_f1 {gate.min_f1:g}"
        earlier = [r for r in self.workspace.rounds() if r.state == "committed" and r.number < done.number]
        last = earlier[-1].scores.get("f1") if earlier else None
        if last is not None and last - f1 > gate.max_f1_drop:
            return f"F1 fell from {last:.1f} to {f1:.1f}, more than gate.max_f1_drop {gate.max_f1_drop:g}"
        return ""

    @contextmanager
    def _timed(self, stage: str, total: int) -> Iterator[None]:
        self.watch.stage(stage, total)
        started = time.perf_counter()
        yield
        self._note(stage, round(time.perf_counter() - started, 2))

    def _note(self, name: str, value: float) -> None:
        path = self.folder / "seconds.json"
        notes = json.loads(path.read_text()) if path.exists() else {}
        write_json(path, notes | {name: value})


class _Speed:
    """Progress of the compression with real tokens a second."""

    def __init__(self, watch: Watch) -> None:
        self.watch, self.started, self.tokens = watch, time.perf_counter(), 0

    def __call__(self, documents: int, tokens: int) -> None:
        self.tokens += tokens
        self.watch.advance(documents, f"{self.rate:,.0f} tokens/s")

    @property
    def rate(self) -> float:
        return round(self.tokens / max(time.perf_counter() - self.started, 1e-6), 1)


def flat_scores(rows: list[dict[str, Any]]) -> dict[str, float | None]:
    """Rows of an evaluation as one flat dict: the memory's names bare, a baseline's behind its name."""
    scores: dict[str, float | None] = {}
    for row in rows:
        prefix = "" if row["row"] == "cmt" else f"{row['row']}_"
        scores |= {f"{prefix}{name}": row[name] for name in ("em", "em_prefix", "f1", "recall") if row["n"]}
    return scores


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


__all__ = ["Ledger", "Quiet", "Round", "RoundError", "RoundRun", "State", "Watch", "flat_scores"]
