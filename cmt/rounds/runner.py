"""The round: one slice adapted by one compressor into one bank version.

begin → compress → bank → evaluate → decide → track. A kill at any point leaves a ledger row `started`; whoever comes
next restores the bank to the version before it and starts the round again, so the bank is always before or after one.
"""

import hashlib
import json
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from cmt.bank.ledger import Round, flat_scores
from cmt.common.progress import NullProgress, Progress
from cmt.common.provenance import git_commit
from cmt.common.storage import write_json, write_table
from cmt.errors import CmtError
from cmt.resources import Resources
from cmt.rounds.recovery import recover, restore

log = logging.getLogger(__name__)


class RoundRunner:
    """The steps of one round. Each is safe to repeat; what passes between them lies in the state folder."""

    def __init__(
        self, resources: Resources, slice_id: str, *, progress: Progress | None = None, prefect_run: str = ""
    ) -> None:
        self.resources, self.progress, self.prefect_run = resources, progress or NullProgress(), prefect_run
        self.slice = resources.store.slice(slice_id)
        self.folder = _folder(resources, slice_id)

    def begin(self) -> Round:
        """Open the round in the ledger; one that is committed with the same identity comes back with `already`."""
        w = self.resources
        recover(w)
        known = {r.round_id: r for r in w.rounds()}
        before = known.pop(self.slice.slice_id, None)
        if before and before.state == "committed" and before.identity == self._identity:
            return replace(before, already=True)
        self.folder.mkdir(parents=True, exist_ok=True)
        for left in ("seconds.json", "scores.json", "answers.parquet"):
            (self.folder / left).unlink(missing_ok=True)
        for staged in (w.state / "rounds").glob("*/memories-*"):
            if staged.parent != self.folder:
                staged.unlink()  # of a round that was killed when it was about to do this itself
        opened = Round(
            round_id=self.slice.slice_id,
            number=1 + sum(r.state == "committed" for r in known.values()),
            slice_id=self.slice.slice_id,
            slice_digest=self.slice.digest,
            compressor=w.model.digest,
            bank_params=w.bank_params,
            params_digest=w.params.digest("seed", "selection", "answering", "evaluation", "gate"),
            state="started",
            version_before=w.bank.version,
            documents=self.slice.n_documents,
            dtype=str(w.lm.model.dtype).removeprefix("torch."),
            git_commit=git_commit(w.root),
            prefect_run=self.prefect_run,
            started_at=_now(),
        )
        w.ledger.write(opened)
        return opened

    def compress(self) -> Path:
        """Θ over the slice's documents, staged as a file, so that banking them is one short write."""
        from cmt.retrieval.indexer import compress_documents

        w, bank = self.resources, self.resources.params.bank
        forgotten = w.forgotten()
        staged = self._staged(forgotten)
        if staged.exists():
            return staged
        documents = w.store.documents(self.slice)
        known = pa.array(forgotten, pa.string())
        documents = documents.filter(pc.invert(pc.is_in(documents["doc_id"], value_set=known)))
        with self._timed("compress", documents.num_rows):
            speed = _Speed(self.progress)
            rows = compress_documents(
                w.model,
                documents,
                slice_id=self.slice.slice_id,
                keep_text=bank.keep_text,
                number_format=bank.codes,
                batch_tokens=w.params.compressor.batch_tokens,
                on_progress=speed,
            )
        self._note("tokens_per_second", speed.rate)
        write_table(staged, rows)
        return staged

    def bank(self) -> int:
        """Upsert the staged memories; the bank's version after it."""
        rows = pq.read_table(self.compress()).cast(self.resources.bank.schema)
        with self._timed("bank", rows.num_rows):
            return self.resources.bank.upsert(rows).version

    def evaluate(self) -> dict[str, float | None]:
        """Scores on this slice's questions and a sample of earlier ones; a record a question goes to a file."""
        from cmt.evaluation.evaluate import evaluate, round_questions

        w = self.resources
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
                complete=w.prompt_cache.complete,
                on_progress=self.progress.advance,
            )
        write_table(self.folder / "answers.parquet", result.records)
        scores = flat_scores(result.to_json()["rows"])
        write_json(self.folder / "scores.json", scores)
        return scores

    def decide(self) -> Round:
        """The gate: commit the round, or restore the bank to the version before it."""
        w = self.resources
        self.progress.stage("decide")
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
            restore(w, opened.version_before)
            done = replace(done, state="refused", reason=reason)
        else:
            done = replace(done, state="committed", version_after=w.bank.version)
            if w.pending() == [self.slice.slice_id]:
                w.bank.promote()  # a new compressor takes over with the round that completes the stream
        done = replace(done, rows=w.bank.count_rows(), bank_digest=w.bank.digest())
        w.ledger.write(done)
        for staged in self.folder.glob("memories-*"):
            staged.unlink()
        return done

    def track(self) -> Round:
        """Record this round, and committed ones that an unreachable server missed, in MLflow; never fails the round."""
        w = self.resources
        history = w.rounds()
        current = next(r for r in history if r.round_id == self.slice.slice_id)
        missed = [r for r in history if r.state == "committed" and not r.mlflow_run and r != current]
        for round_ in [*missed, current] if w.params.tracking.enabled else []:
            answers = _folder(w, round_.slice_id) / "answers.parquet"
            try:
                run = w.tracker.log_round(round_, params=w.params, history=history, artifacts=[answers])
            except CmtError as error:
                log.warning("round %s is not in MLflow yet, the next round tries again: %s", round_.round_id, error)
                break
            w.ledger.write(replace(round_, mlflow_run=run))
        return next(r for r in w.rounds() if r.round_id == self.slice.slice_id)

    @property
    def _identity(self) -> tuple[str, str, str]:
        return self.slice.digest, self.resources.model.digest, self.resources.bank_params

    def _staged(self, forgotten: list[str]) -> Path:
        """The file of this slice's memories; another one once a document was forgotten."""
        parts = *self._identity, hashlib.sha256("\0".join(forgotten).encode()).hexdigest()
        return self.folder / f"memories-{'-'.join(part[:12] for part in parts)}.parquet"

    def _refusal(self, done: Round) -> str:
        gate, f1 = self.resources.params.gate, done.scores.get("f1")
        if f1 is None:
            return ""  # a slice without questions has nothing to be judged by
        if f1 < gate.min_f1:
            return f"F1 {f1:.1f} is below gate.min_f1 {gate.min_f1:g}"
        earlier = [r for r in self.resources.rounds() if r.state == "committed" and r.number < done.number]
        last = earlier[-1].scores.get("f1") if earlier else None
        if last is not None and last - f1 > gate.max_f1_drop:
            return f"F1 fell from {last:.1f} to {f1:.1f}, more than gate.max_f1_drop {gate.max_f1_drop:g}"
        return ""

    @contextmanager
    def _timed(self, stage: str, total: int) -> Iterator[None]:
        self.progress.stage(stage, total)
        started = time.perf_counter()
        yield
        self._note(stage, round(time.perf_counter() - started, 2))

    def _note(self, name: str, value: float) -> None:
        path = self.folder / "seconds.json"
        notes = json.loads(path.read_text()) if path.exists() else {}
        write_json(path, notes | {name: value})


class _Speed:
    """Progress of the compression with real tokens a second."""

    def __init__(self, progress: Progress) -> None:
        self.progress, self.started, self.tokens = progress, time.perf_counter(), 0

    def __call__(self, documents: int, tokens: int) -> None:
        self.tokens += tokens
        self.progress.advance(documents, f"{self.rate:,.0f} tokens/s")

    @property
    def rate(self) -> float:
        return round(self.tokens / max(time.perf_counter() - self.started, 1e-6), 1)


def _folder(resources: Resources, slice_id: str) -> Path:
    return resources.state / "rounds" / slice_id.replace("/", "-")


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
