"""The workspace: the facade of a project for the CLI, the flows, the server and Python callers."""

from collections.abc import Collection
from contextlib import AbstractContextManager
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from cmt.bank.ledger import Round
from cmt.common.progress import NullProgress, OnProgress, Progress
from cmt.config import Params, load_params
from cmt.errors import ConfigError, RoundError
from cmt.resources import Resources
from cmt.rounds import recovery
from cmt.rounds.runner import RoundRunner
from cmt.stream.limits import Limits
from cmt.stream.store import IngestReport

if TYPE_CHECKING:
    from cmt.answering.answer import Answer
    from cmt.evaluation.answer_record import AnswerRecord
    from cmt.evaluation.evaluate import Evaluation, SystemScores
    from cmt.modeling.codebook import Codebook
    from cmt.rounds.forgetting import Candidate, ForgetReport
    from cmt.rounds.verification import PartReport
    from cmt.training.data import TrainingData

HELD_OUT_QUESTIONS = 500  # held-out questions that a trained compressor is scored on
KEY_TEXTS = 2_000  # documents, and questions on them, whose search keys are analysed to shorten keys


def open(*, params: Path | str = "params.yaml", overrides: dict[str, Any] | None = None) -> "Workspace":
    """Open the workspace of a project.

    `params`: path of params.yaml; relative paths in it start from its folder. `overrides`: values by dotted key
    (`{"selection.top_k": 4}`). If a compressor was promoted, the one that answers is used in place of
    `compressor.path`, unless that is overridden. Raises ConfigError if the file or a value is invalid.
    """
    follow = "compressor.path" not in (overrides or {})
    return Workspace(load_params(params, overrides), Path(params).resolve().parent, follow=follow)


class Workspace(Resources):
    """A project: its resources (inherited from `Resources`) and the operations on them.

    Open one with `cmt.open`. Nothing is loaded until it is needed.
    """

    @cached_property
    def answer_record(self) -> "AnswerRecord":
        """Recorded answers, from which an interrupted evaluation resumes."""
        from cmt.evaluation.answer_record import AnswerRecord

        return AnswerRecord(self.state)

    def pull(self, *, on_progress: Any = None) -> Path:
        """Fetch and convert the base LM; returns its folder. Raises ModelError if it cannot be fetched."""
        from cmt.lm.weights import pull

        lm = self.params.lm
        return pull(source=lm.source, sha256=lm.sha256, path=lm.path, on_progress=on_progress)

    def ingest(
        self,
        *,
        source: Path | str | None = None,
        format: str | None = None,
        period: str | int | None = None,
        publisher: str | None = None,
    ) -> IngestReport:
        """Validate a source file or folder and add its new documents and questions to the stream as slices.

        Arguments default to the section `stream` of params.yaml. `publisher`: who published the documents, which
        decides what they may supersede and correct (`stream.authority`); by default the file's column `source` with
        `stream.trust_source`, else the name of the file or folder. Invalid and refused rows go to the quarantine and
        are counted in the report. Raises ConfigError for a bad `publisher`; StreamError if the source or the store
        cannot be read or written, or if a file is above the limits of that section.
        """
        stream = self.params.stream
        return self.store.ingest(
            source=Path(source or stream.source),
            format=format or stream.format,
            period=period or stream.period,
            publisher=publisher,
            params=stream,
        )

    def train(self, *, questions: int = HELD_OUT_QUESTIONS) -> "tuple[Path, SystemScores]":
        """Train a compressor, or resume from the last checkpoint; returns its folder and its held-out scores.

        `questions`: number of held-out questions to score. The folder also gets a model card. Raises ModelError or
        StreamError if LM or training data are missing.
        """
        from cmt.evaluation.held_out import held_out_scores
        from cmt.modeling.checkpoint import checkpoint_digest
        from cmt.training.data import load_with_stream
        from cmt.training.model_card import write_card
        from cmt.training.processes import needs_own_process, run_in_processes

        # 1. Load the data and hold out some articles.
        folder, limits = self.params.train.output, Limits.of(self.params.stream)
        data = load_with_stream(self.params.train, store=self.store, lm=self.lm, seed=self.params.seed, limits=limits)
        # 2. Train.
        if needs_own_process(self.params.train):
            run_in_processes(_train_in_process, self.params, self.root, train=self.params.train)
        else:
            self._train_on(data)
        # 3. Fit what its memories are stored with.
        if self.params.bank.codes == "pq":
            self._fit_codebook(folder, data.seen)
        elif self.params.train.start:
            self._renew_codebook(self.params.train.start, folder, data.seen)
        # 4. Score the compressor and write its card.
        evaluation = held_out_scores(
            folder=folder,
            lm=self.lm,
            data=data,
            params=self.params,
            limit=questions,
        )
        scores = evaluation.systems[0]
        digest = checkpoint_digest(folder)
        write_card(
            folder,
            params=self.params,
            digest=digest,
            documents=len(data.seen),
            scores=scores.to_json(),
            slices=data.slices,
        )
        return folder, scores

    def fit_codebook(self, *, parts: int | None = None, progress: Progress | None = None) -> "Codebook":
        """Fit a codebook for the compressor in use at `compressor.window` to training documents, and write it.

        `parts`: bytes of a vector, see `cmt.retrieval.codebook_fitting`. A bank that was filled with another codebook
        needs that one. Raises ConfigError if a vector cannot be cut so, ModelError or StreamError if compressor or
        training data are missing.
        """
        from cmt.training.data import load_with_stream

        limits = Limits.of(self.params.stream)
        data = load_with_stream(self.params.train, store=self.store, lm=self.lm, seed=self.params.seed, limits=limits)
        return self._fit_codebook(self.params.compressor.path, data.seen, parts=parts, progress=progress)

    def _renew_codebook(self, start: Path, folder: Path, documents: pa.Table) -> None:
        """Give the compressor in `folder` a codebook if `start` has one, of as many bytes; `bank.codes: auto` uses it.

        Of few documents no codebook can be fitted; then it gets that of `start`.
        """
        from cmt.modeling.codebook import Codebook

        window = self.params.compressor.window
        if codebook := Codebook.load(start, window):
            try:
                self._fit_codebook(folder, documents, parts=len(codebook.centroids))
            except ConfigError:
                codebook.save(folder, window)

    def _fit_codebook(
        self, folder: Path, documents: pa.Table, *, parts: int | None = None, progress: Progress | None = None
    ) -> "Codebook":
        from cmt.modeling.model import MemoryModel
        from cmt.retrieval.codebook_fitting import fit_codebook

        compressor = self.params.compressor
        codebook = fit_codebook(
            MemoryModel.load(folder, lm=self.lm, window=compressor.window, merged=True),
            documents,
            parts=parts,
            batch_tokens=compressor.batch_tokens,
            seed=self.params.seed,
            on_progress=None if progress is None else lambda count, _tokens: progress.advance(count),
        )
        codebook.save(folder, compressor.window)
        return codebook

    def shorten_keys(self, output: Path, *, numbers: int, progress: Progress | None = None) -> str:
        """Write the compressor in use with shorter search keys to `output`; returns its digest.

        See `cmt.retrieval.key_shortening`. Raises ConfigError if `output` is not empty or `numbers` does not fit,
        ModelError or StreamError if compressor or training data are missing.
        """
        from cmt.evaluation.sampling import sample_by_position, sample_on_documents
        from cmt.retrieval.key_shortening import shorten_keys
        from cmt.training.data import load_split

        seed = self.params.seed
        data = load_split(self.params.train, limits=Limits.of(self.params.stream))
        documents = sample_by_position(data.seen, limit=KEY_TEXTS, seed=seed)
        asked = sample_on_documents(data.questions, documents, limit=KEY_TEXTS, seed=seed)
        return shorten_keys(
            self.params.compressor.path,
            output,
            numbers=numbers,
            lm=self.lm,
            texts=[*documents["text"].to_pylist(), *asked["question"].to_pylist()],
            on_progress=None if progress is None else progress.advance,
        )

    def _train_on(self, data: "TrainingData") -> None:
        """Train in this process, on the device that `train.device` names."""
        from cmt.training.processes import training_device
        from cmt.training.trainer import train

        callbacks = [self.tracker.log_training(self.params)] if self.params.tracking.enabled else []
        train(
            lm=self.lm_on(training_device(self.params.train)),
            documents=data.seen,
            questions=data.all_questions,
            params=self.params,
            callbacks=callbacks,
        )

    def update(self, *, slice_id: str | None = None, progress: Progress | None = None, prefect_run: str = "") -> Round:
        """Run one round, for the slice `slice_id` or the oldest pending one; returns its row of the ledger.

        A round that the gate refuses is returned with the state `refused`; the bank is then as before the round. A
        round that was committed before is returned with `already` set. Raises RoundError if nothing is pending and
        StreamError if there is no such slice.
        """
        with self.updating():
            pending = self.pending()
            if not (slice_id or pending):
                recovery.move_pointer(self)
                raise RoundError(f"no slice is pending in {self.params.stream.path}: `cmt ingest` new documents first")
            runner = RoundRunner(self, slice_id or pending[0], progress=progress, prefect_run=prefect_run)
            round_ = runner.begin()
            if round_.already:
                return round_
            runner.compress()
            runner.choose_canaries()
            runner.upsert_memories()
            runner.evaluate()
            runner.ask_canaries()
            runner.decide()
            return runner.track()

    def updating(self) -> AbstractContextManager[None]:
        """Hold the lock that every change of the bank needs; see `cmt.rounds.recovery.updating`."""
        return recovery.updating(self)

    def recover(self) -> str | None:
        """Undo an interrupted round or complete an interrupted rollback; returns what was interrupted, or None.

        Call it inside `updating`.
        """
        return recovery.recover(self)

    def move_pointer(self) -> bool:
        """Let the bank of the compressor in use answer if its rounds cover the stream; returns whether that is new.

        Rounds do it by themselves; it is for a change back to an earlier compressor, which leaves no slice pending.
        """
        with self.updating():
            return recovery.move_pointer(self)

    def verify(self, *, progress: Progress | None = None) -> "list[PartReport]":
        """Read LM, compressor, slices, ledger and banks whole, and report what is not as it was written."""
        from cmt.rounds.verification import verify

        return verify(self, progress=progress or NullProgress())

    def rollback(self, round_id: str) -> Round:
        """Restore the bank to the version before a committed round; this round and all later ones are pending again.

        Raises RoundError if there is no committed round `round_id`, and BankError if the version was dropped.
        """
        return recovery.rollback(self, round_id)

    def forget(self, doc_id: str) -> int:
        """Delete the memories of a document from all banks, for good; returns the number of deleted rows.

        Raises BankError if neither a bank nor the stream has the document.
        """
        return self.forget_all([doc_id]).rows

    def forget_all(self, doc_ids: Collection[str], *, purge: bool = False) -> "ForgetReport":
        """Forget documents: no rollback, later round or ingest brings them, or nearly the same texts, back.

        With `purge` their texts, questions and answers are also removed from everything that the project wrote, and all
        earlier versions of the banks are dropped, so that no rollback reaches past it. If it is interrupted, the next
        command that changes the bank finishes it. Raises BankError if neither a bank nor the stream has one of the
        documents, and StreamError or RoundError if a slice is damaged or a file cannot be written.
        """
        from cmt.rounds import forgetting

        with self.updating():
            if purge:
                recovery.recover(self)
            return forgetting.forget(self, doc_ids, purge=purge)

    def forgettable(
        self, *, source: str | None = None, matching: str | None = None, purge: bool = False
    ) -> "list[Candidate]":
        """The documents of a source, and those in the bank that have every word of `matching`.

        Those that were forgotten before are left out, unless it is to `purge` them. Raises BankError if `matching` is
        given and there is no bank that keeps texts.
        """
        from cmt.rounds import forgetting

        found = [] if source is None else forgetting.from_source(self, source)
        found += [] if matching is None else forgetting.matching(self, matching)
        left_out = set() if purge else set(self.forgotten())
        return list({one.doc_id: one for one in found if one.doc_id not in left_out}.values())

    def ask(self, question: str, *, as_of: datetime | None = None, closed_book: bool = False) -> "Answer":
        """Answer a question as of a date (None: now), with the sources of the answer.

        With `closed_book` the answer of the LM without memory is added. Raises BankError if there is no bank of the
        compressor in use, and ConfigError if `as_of` has no time zone.
        """
        return self.current_answerer().answer([question], as_of=[as_of], closed_book=closed_book)[0]

    def evaluate(
        self, *, limit: int | None = None, batch_size: int | None = None, on_progress: OnProgress | None = None
    ) -> "Evaluation":
        """Evaluate all questions of the stream, or a seeded sample of `limit`, each as of its own date.

        `batch_size`: questions per batch, by default `answering.batch_size`; results do not depend on it. `on_progress`
        is called with the number of further answers. Answers are recorded as they come, so an interrupted evaluation of
        the same bank resumes. Raises BankError if there is no bank of the compressor in use.
        """
        from cmt.evaluation.evaluate import evaluate
        from cmt.evaluation.sampling import sample_by_position

        answering = self.params.answering
        answering = answering.model_copy(update={"batch_size": batch_size or answering.batch_size})
        params = self.params.model_copy(update={"answering": answering})
        self.answering_bank()
        questions = self.store.all_questions()
        if limit is not None:
            questions = sample_by_position(questions, limit=limit, seed=self.params.seed)
        return evaluate(
            answerer=self.answerer.with_params(params, calibration=self.calibration()),
            lm=self.lm,
            bank=self.bank,
            questions=questions,
            params=params,
            baselines=params.evaluation.baselines,
            complete=self.prompt_cache.complete,
            record=self.answer_record,
            on_progress=on_progress,
        )


def _train_in_process(params: Params, root: Path) -> None:
    """The part of a training that one of several processes has."""
    from cmt.training.data import load_with_stream

    workspace, limits = Workspace(params, root), Limits.of(params.stream)
    data = load_with_stream(params.train, store=workspace.store, lm=workspace.lm, seed=params.seed, limits=limits)
    workspace._train_on(data)
