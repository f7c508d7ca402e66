"""A round: adapt the bank to one slice with one compressor, in one commit.

The steps are begin → compress → choose_canaries → upsert_memories → ask_canaries → evaluate →
decide → track. A kill at any point leaves a ledger row `started`; the next round restores the bank
to the version before it (`cmt.rounds.recovery`). The bank is therefore always in the state before a
round or after it.
"""

import json
import logging
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from cmt.bank.rounds import ANSWERS, CANARIES, Round, round_folder
from cmt.common.arrow import rows_with, rows_without
from cmt.common.digests import sha256_hex
from cmt.common.progress import NullProgress, Progress
from cmt.common.provenance import dvc_lock, git_commit
from cmt.common.storage import write_json
from cmt.common.systems import ScoresBySystem
from cmt.errors import CmtError, RoundError
from cmt.project import Project
from cmt.rounds.recovery import move_pointer, recover, restore
from cmt.rounds.tries import TRIES, Tries
from cmt.stream.quarantine import write_quarantine
from cmt.stream.schema import Rejected, raw_text
from cmt.stream.slices import Slice, read_rows

if TYPE_CHECKING:
    from cmt.evaluation.gate.canary import Canary

log = logging.getLogger(__name__)

SET_ASIDE = "set_aside.json"
"""In the folder of a round: the doc_ids of the documents of the slice that are left out of the
bank.
"""

FEWEST_QUESTIONS = 30
"""Questions of a round whose measuring is limited in time; with fewer, the interval of F1 is wider
than 30 points.
"""
FEWEST_CANARIES = 12
"""Canaries of a round whose measuring is limited in time: three of the fixed sample, nine near the
new documents.
"""
MEASURE_STAGES = ("canaries", "changes")
"""Stages before the evaluation that count as measuring."""


class RoundRunner:
    """The steps of one round, to be called in order inside `recovery.updating`.

    Each step can be repeated. Steps pass their results through files in the state folder and the
    ledger, so they may run in different processes. The constructor raises StreamError if there is
    no slice `slice_id`; the steps raise the CmtError of what they use.
    """

    recompresses = False
    """Whether it fills the bank of a champion."""

    def __init__(
        self,
        project: Project,
        slice_id: str,
        *,
        progress: Progress | None = None,
        prefect_run: str = "",
    ) -> None:
        self.project = project
        self.progress = progress or NullProgress()
        self.prefect_run = prefect_run
        self.slice = project.store.slice(slice_id)
        self.folder = round_folder(project.state, slice_id)

    def run(self) -> Round:
        """All steps; returns the row of the ledger."""
        begun = self.begin()
        if begun.state != "started":
            return begun
        self.compress()
        self.choose_canaries()
        self.upsert_memories()
        self.ask_canaries()
        self.evaluate()
        self.decide()
        return self.track()

    def repeat(self) -> Round:
        """Call `run` until it returns, or raises an error that another try would raise again
        (`failed`).
        """
        while True:
            try:
                return self.run()
            except BaseException as error:
                if not self.failed(error):
                    raise

    def begin(self) -> Round:
        """Write the ledger row `started`; a round that was committed with the same identity is
        returned instead.

        No further step is needed if the returned round has another state. It has `already` set if
        it was committed before, and is `failed` after TRIES tries; the next call tries again.
        Raises StreamError if the slice does not match its digest, and DamageError if the bank is
        not as the last round left it.
        """
        project = self.project
        # 1. Repair what an interrupted round or rollback left.
        recover(project)
        # 2. Return if the round was committed before.
        others = {round_.round_id: round_ for round_ in project.history.rounds()}
        previous = others.pop(self.slice.slice_id, None)
        if previous and previous.state == "committed" and previous.identity == self._identity:
            return replace(previous, already=True)
        # 3. Count the try, then check what the round reads: the slice by its digest, the bank by
        #    version and rows.
        self.folder.mkdir(parents=True, exist_ok=True)
        ends = self.tries.ends()
        failed = len(ends) >= TRIES
        if not failed:
            self.tries.begin()
            project.store.check(self.slice)
        project.active.check(idle=True)
        # 4. Delete files of earlier attempts, and staged memories of rounds that were killed before
        #    they could.
        for name in ("seconds.json", "scores.json", ANSWERS, CANARIES, SET_ASIDE):
            (self.folder / name).unlink(missing_ok=True)
        for staged in (project.state / "rounds").glob("*/memories-*"):
            if staged.parent != self.folder and (
                self.recompresses or "@" not in staged.parent.name
            ):
                staged.unlink()
        # 5. Open the round in the ledger.
        command = (
            "cmt recompress" if self.recompresses else f"cmt update --slice {self.slice.slice_id}"
        )
        started = Round(
            round_id=self.slice.slice_id,
            number=1
            + max(
                (round_.number for round_ in others.values() if round_.state == "committed"),
                default=0,
            ),
            slice_id=self.slice.slice_id,
            slice_digest=self.slice.digest,
            compressor=project.model.digest,
            row_format=project.row_format,
            params_digest=project.params.digest(
                "seed", "selection", "answering", "evaluation", "gate"
            ),
            state="failed" if failed else "started",
            reason=f"{TRIES} tries ended without a decision ({', '.join(ends)}): take its largest documents out, or "
            f"repeat `{command}` with more memory"
            if failed
            else "",
            version_before=project.bank.version,
            documents=self.slice.n_documents,
            dtype=str(project.lm.model.dtype).removeprefix("torch."),
            git_commit=git_commit(project.root),
            dvc_lock=dvc_lock(project.root),
            recompressed=self.recompresses,
            calibration=self._calibration(list(others.values())),
            prefect_run=self.prefect_run,
            started_at=datetime.now(UTC).isoformat(timespec="seconds"),
        )
        project.ledger.write(started)
        if failed:
            self.tries.clear()
        return started

    def failed(self, error: BaseException) -> bool:
        """Note that a step raised `error`; returns whether to begin again, which restores the bank
        (`Tries.fail`).
        """
        again = self.tries.fail(error)
        if again:
            log.warning("round %s: a try ended with %s", self.slice.slice_id, type(error).__name__)
            log.debug("the try", exc_info=error)
        return again

    def compress(self) -> Path:
        """Compress the documents of the slice into a staged Parquet file; returns its path.

        Staging keeps the write to the bank short. A staged file of an interrupted round is used
        again if it is sound.
        """
        from cmt.retrieval.indexer import compress_documents
        from cmt.rounds.staging import read_staged, write_staged

        project = self.project
        forgotten = project.history.forgotten()
        # The name changes with the forgotten documents, which are not in the file.
        parts = *self._identity, sha256_hex(*forgotten)
        staged = self.folder / f"memories-{'-'.join(part[:12] for part in parts)}.parquet"
        if read_staged(staged) is not None:
            return staged
        documents = project.store.documents(self.slice)
        similar = project.store.forgotten_among(rows_without(documents, "doc_id", forgotten))
        for doc_id, reason in similar.items():
            log.warning("document %r is left out: %s", doc_id, reason)
        documents = rows_without(documents, "doc_id", {*forgotten, *similar})
        began, compressed = time.perf_counter(), 0  # tokens, padding not counted

        def tokens_per_second() -> float:
            return round(compressed / max(time.perf_counter() - began, 1e-6), 1)

        def on_progress(count: int, tokens: int) -> None:
            nonlocal compressed
            compressed += tokens
            self.progress.advance(count, f"{tokens_per_second():,.0f} tokens/s")

        with self._timed("compress", documents.num_rows):
            rows = compress_documents(
                project.model,
                documents,
                compressed=project.bank.memories_of(set(documents["sha256"].to_pylist())),
                slice_id=self.slice.slice_id,
                params=project.params,
                encode_batches=project.encode_batches,
                on_progress=on_progress,
            )
        self._note("tokens_per_second", tokens_per_second())
        write_staged(staged, rows)
        return staged

    def choose_canaries(self, *, seconds: float | None = None) -> int:
        """Choose the canaries, before the bank changes; returns their number.

        `seconds` is the time limit for measuring. Half of it is for the canaries, at the speed of
        the latest round: at least FEWEST_CANARIES are chosen, and never more than `gate.canaries`.
        """
        from cmt.bank.change_values import with_values
        from cmt.evaluation.gate.choice import Context, choose
        from cmt.evaluation.gate.storage import write_canaries

        project = self.project
        path = self.folder / CANARIES
        limit = self.project.params.gate.canaries
        if not limit or path.exists():
            return len(self._canaries())
        if seconds is not None:
            speed = self._speed("canaries") or self._speed("evaluate") or 0.0
            limit = min(limit, max(FEWEST_CANARIES, int(speed * seconds / 2)))
        rows = self._staged_rows()
        with self._timed("choose", note="canaries"):
            kept, unseen = self._kept_canaries()
            context = Context(
                project.store,
                project.answerer,
                project.authority,
                refused=self._slices_left_out,
                changes=lambda doc_ids: with_values(project.bank, project.history.changes(doc_ids)),
            )
            canaries = choose(context, self.slice, rows, kept=kept, unseen=unseen, limit=limit)
        write_canaries(path, canaries)
        return len(canaries)

    def upsert_memories(self) -> int:
        """Upsert the staged memories in one commit, and record the changes that they make to
        earlier documents.

        Documents that were set aside stay out. Returns the version of the bank after it. Raises
        RoundError if the staged file is damaged although it was just written.
        """
        from cmt.evaluation.changes.admission import admitted
        from cmt.evaluation.changes.detection import find_changes

        project = self.project
        rows = rows_without(self._staged_rows(), "doc_id", self._set_aside())
        with self._timed("bank", rows.num_rows):
            self._upsert(rows)
        if not self.recompresses:
            with self._timed("changes", rows.num_rows):
                found = find_changes(project.answerer, rows)
                found = admitted(
                    found,
                    rows,
                    project.bank,
                    authority=project.authority,
                    past=self._past,
                )
                project.ledger.write_changes(self._started, found)
        return project.bank.version

    def ask_canaries(self) -> int:
        """Ask the canaries as of now, after the bank has changed, and leave out the documents that
        harm them.

        Returns how many canaries the slice harmed.
        """
        from cmt.evaluation.gate.asking import ask
        from cmt.evaluation.gate.harm import NewDocument, NewSlice
        from cmt.evaluation.gate.storage import write_canaries

        project, gate = self.project, self.project.params.gate
        if not gate.canaries:
            return 0
        # 1. The slice as it was upserted, also if this step is repeated.
        canaries, rows = self._canaries(), self._staged_rows()
        if self._set_aside():
            (self.folder / SET_ASIDE).unlink()
            restore(project, self._started)
            self.upsert_memories()
        columns = (
            project.store.documents(self.slice)[name].to_pylist()
            for name in ("doc_id", *NewDocument._fields)
        )
        documents = {doc_id: NewDocument(*rest) for doc_id, *rest in zip(*columns, strict=True)}
        new = NewSlice(rows, documents, project.authority, self._past)
        # 2. Ask.
        with self._timed("canaries", len(canaries)):
            canaries = ask(
                project.answerer,
                canaries,
                new,
                gate=gate,
                leave_out=partial(self._leave_out, rows),
                on_progress=self.progress.advance,
            )
        write_canaries(self.folder / CANARIES, canaries)
        return sum(bool(canary.harmed_by or canary.set_aside) for canary in canaries)

    def evaluate(self, *, seconds: float | None = None) -> ScoresBySystem:
        """Score a sample of the questions of this slice and of earlier ones; returns the scores.

        `seconds` limits the measuring: the sample has as many questions as the round before
        answered in the time that the canaries leave, but at least FEWEST_QUESTIONS, as in the first
        round. The record of each question is written to `answers.parquet` in the folder of the
        round.
        """
        from cmt.evaluation.evaluate import evaluate, round_questions
        from cmt.evaluation.round_records import write_records

        project, params = self.project, self.project.params
        baselines = params.evaluation.round_baselines
        own, earlier = params.evaluation.questions, params.evaluation.earlier_questions
        if seconds is not None:
            own, earlier = self._affordable(seconds)
        questions = round_questions(
            store=project.store, slice_=self.slice, own=own, earlier=earlier, seed=params.seed
        )
        questions = rows_without(questions, "doc_id", self._set_aside())
        answerer = project.active.recalibrate()  # it may have answered in the round before
        with self._timed("evaluate", (3 if baselines else 1) * questions.num_rows):
            evaluation = evaluate(
                answerer,
                questions,
                baselines=baselines,
                complete=project.prompt_cache.complete,
                earlier=self._earlier_answers() if answerer.confidence_is_probability else None,
                on_progress=self.progress.advance,
            )
        write_records(self.folder, evaluation.records, compressor=project.compressor_digest)
        scores = evaluation.scores()
        write_json(self.folder / "scores.json", {"questions": questions.num_rows, "scores": scores})
        return scores

    def decide(self) -> Round:
        """Apply the gate: commit the round, or restore the bank to the version before it (state
        `refused`).
        """
        from cmt.evaluation.gate.judgement import judge

        project = self.project
        self.progress.stage("decide")
        # 1. Collect the results of the other steps.
        started = self._started
        notes, canaries = self._notes(), self._canaries()
        counts = {
            "asked": len(canaries),
            "wrong": sum(canary.now is not None and not canary.now.right for canary in canaries),
            "harmed": sum(bool(canary.harmed_by or canary.set_aside) for canary in canaries),
            "changed": sum(canary.updated_by is not None for canary in canaries),
        }
        decided = replace(
            started,
            **json.loads((self.folder / "scores.json").read_text()),
            canaries=counts,
            tokens_per_second=notes.pop("tokens_per_second", None),
            seconds=notes,
            finished_at=datetime.now(UTC).isoformat(timespec="seconds"),
        )
        # 2. Commit or roll back.
        judgement, reason = judge(
            project.params.gate, canaries=canaries, f1=decided.memory_scores.get("f1")
        )
        decided = replace(decided, judgement=judgement, reason=reason)
        if judgement == "refused":
            restore(project, started)
            decided = replace(decided, state="refused")
        else:
            version, set_aside = project.bank.version, tuple(self._set_aside())
            decided = replace(
                decided, state="committed", version_after=version, set_aside=set_aside
            )
        if not self.recompresses:
            self._write_quarantine(decided, canaries)
        # 3. Write the ledger. The round is committed from here on.
        decided = replace(
            decided,
            rows=project.bank.count_rows(),
            bank_digest=project.bank.digest(),
            changes=self._changes_found(decided),
        )
        project.ledger.write(decided)
        self.tries.clear()
        # 4. If this round completes the stream, its bank answers from now on; after a kill,
        #    recover() sees to it.
        move_pointer(project)
        for staged in self.folder.glob("memories-*"):
            staged.unlink()
        return decided

    def track(self) -> Round:
        """Record the round in MLflow, and earlier ones that an unreachable server missed; never
        fails the round.
        """
        project = self.project
        history = project.history.rounds()
        current = next(round_ for round_ in history if round_.round_id == self.slice.slice_id)
        missed = [
            round_
            for round_ in history
            if round_.state == "committed"
            and not (round_.mlflow_run or round_.recompressed)
            and round_ != current
        ]
        for round_ in [*missed, current] if project.params.tracking.enabled else []:
            folder = round_folder(project.state, round_.slice_id)
            kept = [folder / ANSWERS, folder / CANARIES]
            try:
                run = project.tracker.log_round(
                    round_, params=project.params, history=history, artifacts=kept
                )
            except CmtError as error:
                log.warning(
                    "round %s is not in MLflow yet, the next round tries again: %s",
                    round_.round_id,
                    error,
                )
                break
            project.ledger.write(replace(round_, mlflow_run=run))
        return next(
            round_ for round_ in project.history.rounds() if round_.round_id == self.slice.slice_id
        )

    def _affordable(self, seconds: float) -> tuple[int, int]:
        """How many questions of the slice and how many earlier ones a round can answer if measuring
        takes `seconds`.
        """
        evaluation, speed = self.project.params.evaluation, self._speed("evaluate")
        own, earlier = evaluation.questions, evaluation.earlier_questions
        if speed is None:  # a first slice has no earlier questions
            return min(own, FEWEST_QUESTIONS), earlier
        # 1. count what the speed allows in the time left after the canaries
        spent = sum(taken for stage, taken in self._notes().items() if stage in MEASURE_STAGES)
        count = max(FEWEST_QUESTIONS, int((seconds - spent) * speed))
        # 2. split it in the proportion of the parameters
        share = min(1.0, count / (own + earlier)) if own + earlier else 1.0
        return round(share * own), round(share * earlier)

    def _speed(self, stage: str) -> float | None:
        """Questions a second in the `stage` "canaries" or "evaluate" of the latest round that asked
        some.
        """
        for round_ in reversed(self._rounds_of_this_bank()):
            count = round_.questions if stage == "evaluate" else round_.canaries.get("asked")
            if count and (taken := round_.seconds.get(stage)):
                return count / taken
        return None

    def _calibration(self, rounds: list[Round]) -> dict[str, float]:
        """The calibration by the answers of the committed ones of `rounds`, see
        `Round.calibration`.
        """
        from cmt.evaluation.calibration import calibrated_by
        from cmt.evaluation.round_records import read_records

        project = self.project
        if not project.answerer.confidence_is_probability:
            return {}
        committed = [round_ for round_ in reversed(rounds) if round_.state == "committed"]
        calibration, answers = calibrated_by(
            records
            for round_ in committed
            if (records := read_records(project, round_)) is not None
        )
        return (
            {"slope": calibration.slope, "shift": calibration.shift, "answers": answers}
            if answers
            else {}
        )

    def _changes_found(self, decided: Round) -> int:
        """The number of inferred changes with which `decided` is committed; 0 if it is not."""
        if decided.state != "committed":
            return 0
        doc_ids = {*self.project.store.documents(self.slice)["doc_id"].to_pylist()} - {
            *decided.set_aside
        }
        own = decided.round_id, decided.compressor, "found"
        found = [
            c
            for c in self.project.history.changes(doc_ids)
            if (c.round_id, c.compressor, c.state) == own
        ]
        return sum({*decided.set_aside}.isdisjoint(change.doc_ids) for change in found)

    @cached_property
    def tries(self) -> Tries:
        """The tries of this round."""
        return Tries(self.folder, self._identity)

    @property
    def _identity(self) -> tuple[str, str, str]:
        return self.slice.digest, self.project.model.digest, self.project.row_format

    def _staged_rows(self) -> pa.Table:
        """The memories of this slice, compressed if they are not staged."""
        from cmt.rounds.staging import read_staged

        staged = self.compress()
        rows = read_staged(staged)
        if rows is None:
            raise RoundError(
                f"{staged} was written and reads back damaged: check the disk, then repeat"
            )
        return rows

    def _canaries(self) -> "list[Canary]":
        """The canaries that were chosen in this round; RoundError if their file is missing or
        damaged.
        """
        from cmt.evaluation.gate.storage import read_canaries

        if not self.project.params.gate.canaries:
            return []
        canaries = read_canaries(self.folder / CANARIES)
        if canaries is None:
            raise RoundError(f"{self.folder / CANARIES} was lost during the round: repeat it")
        return canaries

    def _kept_canaries(self) -> "tuple[list[Canary], list[str]]":
        """The canaries of the round before, and the ids of the slices that came since.

        Those are all earlier slices if nothing is kept. The canaries have the best outcome of
        earlier rounds, and the last one, which is asked for again if it was given with other
        parameters.
        """
        from cmt.evaluation.gate.storage import read_canaries

        # 1. The round before, and what it kept.
        committed = [
            round_ for round_ in self._rounds_of_this_bank() if round_.state == "committed"
        ]
        last = committed[-1] if committed else None
        kept = (
            read_canaries(round_folder(self.project.state, last.slice_id) / CANARIES)
            if last
            else None
        )
        canaries = [
            replace(
                canary,
                fixed=False,
                basis=canary.basis if last and self._answers_like(last) else None,
                before=None,
                harmed_by=(),
                set_aside=(),
                flipped=None,
                updated_by=None,
            )
            for canary in kept or ()
            if canary.best
        ]
        # 2. The slices that no canary was drawn from.
        known = {slice_.slice_id for slice_ in self.project.store.slices()}
        unseen = [round_.slice_id for round_ in (committed if kept is None else committed[-1:])]
        return canaries, [slice_id for slice_id in unseen if slice_id in known]

    def _earlier_answers(self) -> pa.Table:
        """The answers of the round before (RECORD_SCHEMA); empty if this round may give others."""
        from cmt.evaluation.evaluate import RECORD_SCHEMA
        from cmt.evaluation.round_records import read_records

        committed = [
            round_ for round_ in self._rounds_of_this_bank() if round_.state == "committed"
        ]
        records = read_records(self.project, committed[-1]) if committed else None
        return (
            records
            if records is not None and self._answers_like(committed[-1])
            else RECORD_SCHEMA.empty_table()
        )

    def _answers_like(self, round_: Round) -> bool:
        """Whether this round gives the same answer as `round_` from the same memories."""
        started = self._started
        return (round_.params_digest, round_.dtype) == (started.params_digest, started.dtype)

    def _slices_left_out(self) -> list[Slice]:
        """The slices whose rounds were refused or set documents aside, by period."""
        rounds = self._rounds_of_this_bank()
        names = {
            round_.round_id for round_ in rounds if round_.state == "refused" or round_.set_aside
        }
        return [slice_ for slice_ in self.project.store.slices() if slice_.slice_id in names]

    @property
    def _started(self) -> Round:
        """The row of this round in the ledger."""
        return next(
            round_
            for round_ in self.project.history.rounds()
            if round_.round_id == self.slice.slice_id
        )

    def _past(self, sources: Collection[str]) -> dict[str, list[tuple[int, str]]]:
        """The documents of `sources` in the committed slices before this one, see
        `independence.PastDocuments`.
        """
        left_out = {
            round_.round_id: round_.set_aside
            for round_ in self._rounds_of_this_bank()
            if round_.state == "committed"
        }
        found: dict[str, list[tuple[int, str]]] = {source: [] for source in sources}
        slices = self.project.store.slices()
        for number, slice_ in enumerate(slices[: slices.index(self.slice)]):
            if slice_.slice_id in left_out:
                rows = read_rows(slice_, "documents", columns=("doc_id", "source"))
                rows = rows_without(
                    rows_with(rows, "source", sources), "doc_id", left_out[slice_.slice_id]
                )
                for row in rows.to_pylist():
                    found[row["source"]].append((number, row["doc_id"]))
        return found

    def _set_aside(self) -> list[str]:
        """The doc_ids of the documents that `ask_canaries` left out of the bank."""
        path = self.folder / SET_ASIDE
        doc_ids: list[str] = json.loads(path.read_text()) if path.exists() else []
        return doc_ids

    def _leave_out(self, rows: pa.Table, doc_ids: Collection[str]) -> None:
        """Bring the bank to the state in which `rows`, the memories of the slice, came without the
        documents `doc_ids`.

        Earlier versions of these documents stay. After a kill `recover` restores the bank before
        the round.
        """
        write_json(self.folder / SET_ASIDE, sorted(doc_ids))
        restore(self.project, self._started)
        self._upsert(rows)

    def _upsert(self, rows: pa.Table) -> None:
        """Upsert `rows`, the memories of the slice, without the documents that are set aside."""
        project, set_aside = self.project, self._set_aside()
        unbanked = project.history.unbanked(
            project.model.digest, banking=self.slice.slice_id, set_aside=set_aside
        )
        project.bank.upsert(rows_without(rows, "doc_id", set_aside), unbanked=unbanked)

    def _write_quarantine(self, round_: Round, canaries: "Sequence[Canary]") -> None:
        """Write a row for each document that the round set aside, or remove those of an earlier
        attempt.
        """
        from cmt.evaluation.gate.judgement import why_set_aside

        store = self.project.store
        documents = store.documents(self.slice).to_pylist() if round_.set_aside else []
        rejected = [
            Rejected(
                self.slice.slice_id, number, why_set_aside(document, canaries), raw_text(document)
            )
            for number, document in enumerate(documents, 1)
            if document["doc_id"] in round_.set_aside
        ]
        write_quarantine(store.quarantine, name=round_.quarantine_file, rejected=rejected)

    def _rounds_of_this_bank(self) -> list[Round]:
        row_format = self.project.row_format  # with a codebook, it is read for them
        return [
            round_ for round_ in self.project.history.rounds() if round_.row_format == row_format
        ]

    @contextmanager
    def _timed(self, stage: str, total: int | None = None, *, note: str = "") -> Iterator[None]:
        """Report a stage of `total` steps and add the seconds that it took to `note`, or else to
        the stage's own.
        """
        self.progress.stage(stage, total)
        began = time.perf_counter()
        yield
        name = note or stage
        self._note(name, round(self._notes().get(name, 0.0) + time.perf_counter() - began, 2))

    def _note(self, name: str, value: float) -> None:
        write_json(self.folder / "seconds.json", self._notes() | {name: value})

    def _notes(self) -> dict[str, float]:
        path = self.folder / "seconds.json"
        notes: dict[str, float] = json.loads(path.read_text()) if path.exists() else {}
        return notes
