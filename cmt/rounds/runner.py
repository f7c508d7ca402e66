"""A round: adapt the bank to one slice with one compressor, in one commit.

After `begin` come the STEPS. A kill at any point leaves a ledger row `started`; the next round
restores the bank to the version before it (`cmt.rounds.recovery`). The bank is therefore always in
the state before a round or after it.
"""

import logging
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from functools import cached_property, partial
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa

from cmt.bank.change_values import with_values
from cmt.bank.rounds import ANSWERS, CANARIES, Round, round_folder
from cmt.common.arrow import rows_without
from cmt.common.digests import sha256_hex
from cmt.common.progress import NullProgress, Progress
from cmt.common.provenance import dvc_lock, git_commit
from cmt.common.systems import ScoresBySystem
from cmt.errors import CmtError, RoundError
from cmt.evaluation.changes.admission import admitted
from cmt.evaluation.changes.detection import find_changes
from cmt.evaluation.evaluate import evaluate, round_questions
from cmt.evaluation.gate.asking import ask
from cmt.evaluation.gate.canary import Canary
from cmt.evaluation.gate.choice import Context, choose
from cmt.evaluation.gate.harm import NewDocument, NewSlice
from cmt.evaluation.gate.judgement import judge, why_set_aside
from cmt.evaluation.round_records import write_records
from cmt.project import Project
from cmt.retrieval.indexer import compress_documents
from cmt.rounds._attempts import MAX_ATTEMPTS, Attempts
from cmt.rounds._earlier import EarlierRounds, calibration_by
from cmt.rounds._files import RoundFiles, read_staged, write_staged
from cmt.rounds.budget import MEASURE_STAGES, canaries_within, questions_within
from cmt.rounds.recovery import activate_if_complete, recover, restore
from cmt.stream.quarantine import write_quarantine
from cmt.stream.schema import Rejected, raw_text

log = logging.getLogger(__name__)


class Step(NamedTuple):
    """A step of a round."""

    name: str
    """As Prefect shows it."""
    method: str
    """Of `RoundRunner`."""

    def of(self, runner: "RoundRunner") -> Callable[[], Any]:
        """The step of one round, without arguments."""
        method: Callable[[], Any] = getattr(runner, self.method)
        return method


STEPS = (
    Step("compress", "compress"),
    Step("choose canaries", "choose_canaries"),
    Step("bank", "upsert_memories"),
    Step("find changes", "find_changes"),
    Step("ask canaries", "ask_canaries"),
    Step("evaluate", "evaluate"),
    Step("decide", "decide"),
    Step("track", "track"),
)
"""The steps of a round after `begin`, in their order."""


class RoundRunner:
    """The steps of one round, to be called in order inside `recovery.updating`.

    Each step can be repeated. Steps pass their results through files in the state folder and the
    ledger, so they may run in different processes. `measure_seconds`: time limit for canaries,
    changes and questions; None: no limit. The constructor raises StreamError if there is no slice
    `slice_id`; the steps raise the CmtError of what they use.
    """

    steps: Sequence[Step] = STEPS
    recompresses = False
    """Whether it fills the bank of a champion."""

    def __init__(
        self,
        project: Project,
        slice_id: str,
        *,
        progress: Progress | None = None,
        prefect_run: str = "",
        measure_seconds: float | None = None,
    ) -> None:
        self.project = project
        self.progress = progress or NullProgress()
        self.prefect_run = prefect_run
        self.measure_seconds = measure_seconds
        self.slice = project.store.slice(slice_id)
        self.files = RoundFiles(round_folder(project.state, slice_id))
        self.earlier = EarlierRounds(project, self.slice)
        self._rows: pa.Table | None = None  # of `_staged_rows`, from `begin` on

    def run(self) -> Round:
        """`begin` and all steps; returns the row of the ledger."""
        begun = self.begin()
        if begun.state == "started":
            for step in self.steps:
                step.of(self)()
            begun = self.row
        return begun

    def repeat(self) -> Round:
        """Call `run` until it returns, or raises an error that another attempt would raise again
        (`failed`).
        """
        while True:
            try:
                return self.run()
            except BaseException as error:
                if not self.failed(error):
                    raise

    def failed(self, error: BaseException) -> bool:
        """Note that a step raised `error`; returns whether to begin again, which restores the bank
        (`Attempts.fail`).
        """
        again = self.attempts.fail(error)
        if again:
            log.warning("round %s: a try ended with %s", self.slice.slice_id, type(error).__name__)
            log.debug("the try", exc_info=error)
        return again

    # The steps

    def begin(self) -> Round:
        """Write the ledger row `started`; a round that was committed with the same identity is
        returned instead.

        No further step is needed if the returned round has another state. It has `already` set if
        it was committed before, and is `failed` after MAX_ATTEMPTS attempts; the next call tries
        again. Raises StreamError if the slice does not match its digest, and DamageError if the
        bank is not as the last round left it.
        """
        # 1. Repair what an interrupted round or rollback left.
        recover(self.project)
        # 2. Return if the round was committed before.
        others = {round_.round_id: round_ for round_ in self.project.history.rounds()}
        previous = others.pop(self.slice.slice_id, None)
        if previous and previous.state == "committed" and previous.identity == self._identity:
            return replace(previous, already=True)
        # 3. Count the attempt, then check what the round reads: the slice by its digest, the bank
        #    by version and rows.
        self._rows = None
        self.files.folder.mkdir(parents=True, exist_ok=True)
        ends = self.attempts.ends()
        failed = len(ends) >= MAX_ATTEMPTS
        if not failed:
            self.attempts.begin()
            self.project.store.check(self.slice)
        self.project.active.check(idle=True)
        # 4. Open the round in the ledger.
        self._remove_leftovers()
        started = self._opened(list(others.values()))
        if failed:
            started = replace(started, state="failed", reason=self._why_failed(ends))
        self.project.ledger.write(started)
        if failed:
            self.attempts.clear()
        return started

    def compress(self) -> Path:
        """Compress the documents of the slice into a staged Parquet file; returns its path.

        Staging keeps the write to the bank short. A staged file of an interrupted round is used
        again if it is sound.
        """
        project = self.project
        # 1. The file. Its name changes with the forgotten documents, which are not in it.
        forgotten = project.history.forgotten()
        parts = *self._identity, sha256_hex(*forgotten)
        name = f"memories-{'-'.join(part[:12] for part in parts)}.parquet"
        staged = self.files.folder / name
        if read_staged(staged) is not None:
            return staged
        # 2. The documents, without forgotten ones and near-copies of them.
        documents = project.store.documents(self.slice)
        similar = project.store.forgotten_among(rows_without(documents, "doc_id", forgotten))
        for doc_id, reason in similar.items():
            log.warning("document %r is left out: %s", doc_id, reason)
        documents = rows_without(documents, "doc_id", {*forgotten, *similar})
        # 3. Compress those whose text the bank does not have.
        meter = _Meter(self.progress)
        with self._timed("compress", documents.num_rows):
            rows = compress_documents(
                project.model,
                documents,
                compressed=project.bank.memories_of(set(documents["sha256"].to_pylist())),
                slice_id=self.slice.slice_id,
                params=project.params,
                encode_batches=project.encode_batches,
                on_progress=meter.advance,
            )
        self.files.note(tokens_per_second=meter.tokens_per_second)
        write_staged(staged, rows)
        return staged

    def choose_canaries(self) -> int:
        """Choose the canaries, before the bank changes; returns their number.

        With `measure_seconds`, as many as `budget.canaries_within` says.
        """
        project, limit = self.project, self.project.params.gate.canaries
        if not limit or (self.files.folder / CANARIES).exists():
            return len(self._canaries())
        if self.measure_seconds is not None:
            rounds = self.earlier.of_this_bank()
            limit = canaries_within(self.measure_seconds, rounds, limit=limit)
        rows = self._staged_rows()
        context = Context(
            project.store,
            project.answerer,
            project.authority,
            refused=self.earlier.left_out,
            changes=lambda doc_ids: with_values(project.bank, project.history.changes(doc_ids)),
        )
        with self._timed("choose", note="canaries"):
            kept, unseen = self.earlier.canaries(self.row)
            canaries = choose(context, self.slice, rows, kept=kept, unseen=unseen, limit=limit)
        self.files.canaries = canaries
        return len(canaries)

    def upsert_memories(self) -> int:
        """Upsert the staged memories in one commit; returns the version of the bank after it.

        Documents that were set aside stay out. Raises RoundError if the staged file is damaged
        although it was just written.
        """
        rows = rows_without(self._staged_rows(), "doc_id", self.files.set_aside)
        with self._timed("bank", rows.num_rows):
            self._upsert(rows)
        return self.project.bank.version

    def find_changes(self) -> int:
        """Find the changes that the documents make to earlier ones, and record them; returns their
        number.
        """
        project = self.project
        rows = rows_without(self._staged_rows(), "doc_id", self.files.set_aside)
        with self._timed("changes", rows.num_rows):
            changes = admitted(
                find_changes(project.answerer, rows),
                rows,
                project.bank,
                authority=project.authority,
                past=self.earlier.past_documents,
            )
            project.ledger.write_changes(self.slice.slice_id, project.compressor_digest, changes)
        return len(changes)

    def ask_canaries(self) -> int:
        """Ask the canaries as of now, after the bank has changed, and leave out the documents that
        harm them.

        Returns how many canaries the slice harmed.
        """
        project, gate = self.project, self.project.params.gate
        if not gate.canaries:
            return 0
        # 1. The slice as it was upserted, also if this step is repeated.
        canaries, rows = self._canaries(), self._staged_rows()
        if self.files.set_aside:
            self.files.set_aside = ()
            restore(project, self.row)
            self.upsert_memories()
        documents = {}
        for row in project.store.documents(self.slice).to_pylist():
            document = NewDocument(row["text"], row["source"], row["published_at"])
            documents[row["doc_id"]] = document
        new = NewSlice(rows, documents, project.authority, self.earlier.past_documents)
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
        self.files.canaries = canaries
        return sum(bool(canary.harmed_by or canary.set_aside) for canary in canaries)

    def evaluate(self) -> ScoresBySystem:
        """Score a sample of the questions of this slice and of earlier ones; returns the scores.

        With `measure_seconds`, as many as `budget.questions_within` says. The record of each
        question is written to `answers.parquet` in the folder of the round.
        """
        project, params = self.project, self.project.params
        # 1. The questions.
        own, earlier = self._sample_sizes()
        questions = round_questions(
            store=project.store, slice_=self.slice, own=own, earlier=earlier, seed=params.seed
        )
        questions = rows_without(questions, "doc_id", self.files.set_aside)
        # 2. Their answers. The answerer may have answered in the round before.
        answerer, baselines = project.active.recalibrate(), params.evaluation.round_baselines
        answers = self.earlier.answers(self.row) if answerer.confidence_is_probability else None
        with self._timed("evaluate", (3 if baselines else 1) * questions.num_rows):
            evaluation = evaluate(
                answerer,
                questions,
                baselines=baselines,
                complete=project.prompt_cache.complete,
                earlier=answers,
                on_progress=self.progress.advance,
            )
        # 3. The scores.
        compressor = project.compressor_digest
        write_records(self.files.folder, evaluation.records, compressor=compressor)
        scores = evaluation.scores()
        self.files.write_scores(questions.num_rows, scores)
        return scores

    def decide(self) -> Round:
        """Apply the gate: commit the round, or restore the bank to the version before it (state
        `refused`).
        """
        project, started = self.project, self.row
        self.progress.stage("decide")
        # 1. Judge what the other steps measured.
        canaries = self._canaries()
        decided = self._measured(started, canaries)
        f1 = decided.memory_scores.get("f1")
        judgement, reason = judge(project.params.gate, canaries=canaries, f1=f1)
        decided = replace(decided, judgement=judgement, reason=reason)
        # 2. Commit or roll back.
        if judgement == "refused":
            restore(project, started)
            decided = replace(decided, state="refused")
        else:
            version, set_aside = project.bank.version, tuple(self.files.set_aside)
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
        self.attempts.clear()
        # 4. If this round completes the stream, its bank answers from now on; after a kill,
        #    recover() sees to it.
        activate_if_complete(project)
        self.files.remove_staged()
        return decided

    def track(self) -> Round:
        """Record the round in MLflow, and earlier ones that an unreachable server missed; never
        fails the round.
        """
        project, history = self.project, self.project.history.rounds()
        current, rounds = self.row, []
        for round_ in history:
            is_missed = round_.state == "committed" and not round_.mlflow_run
            if is_missed and not round_.recompressed and round_ != current:
                rounds.append(round_)
        for round_ in [*rounds, current] if project.params.tracking.enabled else []:
            folder = round_folder(project.state, round_.slice_id)
            kept = [folder / ANSWERS, folder / CANARIES]
            try:
                run = project.tracker.log_round(
                    round_, params=project.params, history=history, artifacts=kept
                )
            except CmtError as error:
                problem = "round %s is not in MLflow yet, the next round tries again: %s"
                log.warning(problem, round_.round_id, error)
                break
            project.ledger.write(replace(round_, mlflow_run=run))
        return self.row

    # What the steps share

    @property
    def row(self) -> Round:
        """The row of this round in the ledger."""
        rounds = self.project.history.rounds()
        return next(round_ for round_ in rounds if round_.round_id == self.slice.slice_id)

    @cached_property
    def attempts(self) -> Attempts:
        """The attempts of this round."""
        return Attempts(self.files.folder, self._identity)

    @property
    def _identity(self) -> tuple[str, str, str]:
        return self.slice.digest, self.project.model.digest, self.project.row_format

    def _remove_leftovers(self) -> None:
        """Delete files of earlier attempts, and staged memories of rounds that were killed before
        they could.
        """
        self.files.clear()
        for staged in (self.project.state / "rounds").glob("*/memories-*"):
            is_recompressed = "@" in staged.parent.name
            if staged.parent != self.files.folder and (self.recompresses or not is_recompressed):
                staged.unlink()

    def _opened(self, others: list[Round]) -> Round:
        """The row `started` of this round, which follows the rounds `others`."""
        project = self.project
        committed = [round_.number for round_ in others if round_.state == "committed"]
        return Round(
            round_id=self.slice.slice_id,
            number=1 + max(committed, default=0),
            slice_id=self.slice.slice_id,
            slice_digest=self.slice.digest,
            compressor=project.model.digest,
            row_format=project.row_format,
            params_digest=project.params.digest(
                "seed", "selection", "answering", "evaluation", "gate"
            ),
            state="started",
            version_before=project.bank.version,
            documents=self.slice.n_documents,
            dtype=str(project.lm.model.dtype).removeprefix("torch."),
            git_commit=git_commit(project.root),
            dvc_lock=dvc_lock(project.root),
            recompressed=self.recompresses,
            calibration=calibration_by(project, others),
            prefect_run=self.prefect_run,
            started_at=datetime.now(UTC).isoformat(timespec="seconds"),
        )

    def _why_failed(self, ends: Sequence[str]) -> str:
        command = f"cmt update --slice {self.slice.slice_id}"
        command = "cmt recompress" if self.recompresses else command
        return (
            f"{MAX_ATTEMPTS} tries ended without a decision ({', '.join(ends)}): take its largest "
            f"documents out, or repeat `{command}` with more memory"
        )

    def _staged_rows(self) -> pa.Table:
        """The memories of this slice, compressed if they are not staged; a process reads them
        once.
        """
        if self._rows is None:
            staged = self.compress()
            self._rows = read_staged(staged)
            if self._rows is None:
                raise RoundError(
                    f"{staged} was written and reads back damaged: check the disk, then repeat"
                )
        return self._rows

    def _canaries(self) -> list[Canary]:
        """The canaries that were chosen in this round; none if the project has none."""
        return self.files.canaries if self.project.params.gate.canaries else []

    def _upsert(self, rows: pa.Table) -> None:
        """Upsert `rows`, the memories of the slice, without the documents that are set aside."""
        project, set_aside = self.project, self.files.set_aside
        unbanked = project.history.unbanked(
            project.model.digest, banking=self.slice.slice_id, set_aside=set_aside
        )
        project.bank.upsert(rows_without(rows, "doc_id", set_aside), unbanked=unbanked)

    def _leave_out(self, rows: pa.Table, doc_ids: Collection[str]) -> None:
        """Bring the bank to the state in which `rows`, the memories of the slice, came without the
        documents `doc_ids`.

        Earlier versions of these documents stay. After a kill `recover` restores the bank before
        the round.
        """
        self.files.set_aside = sorted(doc_ids)
        restore(self.project, self.row)
        self._upsert(rows)

    def _sample_sizes(self) -> tuple[int, int]:
        """How many questions of the slice, and how many earlier ones, the round answers."""
        evaluation = self.project.params.evaluation
        own, earlier = evaluation.questions, evaluation.earlier_questions
        if self.measure_seconds is None:
            return own, earlier
        seconds = self.files.seconds
        spent = sum(seconds.get(stage, 0.0) for stage in MEASURE_STAGES)
        rounds = self.earlier.of_this_bank()
        return questions_within(self.measure_seconds, rounds, own=own, earlier=earlier, spent=spent)

    def _measured(self, started: Round, canaries: Sequence[Canary]) -> Round:
        """The round `started` with the results of its steps."""
        seconds = self.files.seconds
        wrong = [canary for canary in canaries if canary.now is not None and not canary.now.right]
        counts = {
            "asked": len(canaries),
            "wrong": len(wrong),
            "harmed": sum(bool(canary.harmed_by or canary.set_aside) for canary in canaries),
            "changed": sum(canary.updated_by is not None for canary in canaries),
        }
        return replace(
            started,
            **self.files.scores,
            canaries=counts,
            tokens_per_second=seconds.pop("tokens_per_second", None),
            seconds=seconds,
            finished_at=datetime.now(UTC).isoformat(timespec="seconds"),
        )

    def _changes_found(self, decided: Round) -> int:
        """The number of inferred changes with which `decided` is committed; 0 if it is not."""
        if decided.state != "committed":
            return 0
        set_aside = {*decided.set_aside}
        doc_ids = {*self.project.store.documents(self.slice)["doc_id"].to_pylist()} - set_aside
        own, number = (decided.round_id, decided.compressor, "found"), 0
        for change in self.project.history.changes(doc_ids):
            is_own = (change.round_id, change.compressor, change.state) == own
            number += is_own and set_aside.isdisjoint(change.doc_ids)
        return number

    def _write_quarantine(self, round_: Round, canaries: Sequence[Canary]) -> None:
        """Write a row for each document that the round set aside, or remove those of an earlier
        attempt.
        """
        store, rejected = self.project.store, []
        documents = store.documents(self.slice).to_pylist() if round_.set_aside else []
        for number, document in enumerate(documents, 1):
            if document["doc_id"] in round_.set_aside:
                reason, text = why_set_aside(document, canaries), raw_text(document)
                rejected.append(Rejected(self.slice.slice_id, number, reason, text))
        write_quarantine(store.quarantine, name=round_.quarantine_file, rejected=rejected)

    @contextmanager
    def _timed(self, stage: str, total: int | None = None, *, note: str = "") -> Iterator[None]:
        """Report a stage of `total` steps and add the seconds that it took to `note`, or else to
        the stage's own.
        """
        self.progress.stage(stage, total)
        began = time.perf_counter()
        yield
        name = note or stage
        before = self.files.seconds.get(name, 0.0)
        self.files.note(**{name: round(before + time.perf_counter() - began, 2)})


class _Meter:
    """Counts the tokens that are compressed, padding left out."""

    def __init__(self, progress: Progress) -> None:
        self._progress, self._began, self._tokens = progress, time.perf_counter(), 0

    @property
    def tokens_per_second(self) -> float:
        return round(self._tokens / max(time.perf_counter() - self._began, 1e-6), 1)

    def advance(self, count: int, tokens: int) -> None:
        self._tokens += tokens
        self._progress.advance(count, f"{self.tokens_per_second:,.0f} tokens/s")
