"""A project folder as one object: the facade that the CLI, the flows and Python callers use."""

from contextlib import AbstractContextManager
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cmt.bank.ledger import Round
from cmt.common.progress import OnProgress, Progress
from cmt.config import load_params
from cmt.errors import RoundError
from cmt.resources import Resources
from cmt.rounds import recovery
from cmt.rounds.runner import RoundRunner
from cmt.stream.store import IngestReport

if TYPE_CHECKING:
    from cmt.answering.answer import Answer
    from cmt.evaluation.answer_record import AnswerRecord
    from cmt.evaluation.evaluate import Evaluation, SystemScores

HELD_OUT_QUESTIONS = 500


def open(*, params: Path | str = "params.yaml", overrides: dict[str, Any] | None = None) -> "Workspace":
    """The workspace of a `params.yaml`; `overrides` maps dotted keys to values. Raises ConfigError."""
    return Workspace(load_params(params, overrides), Path(params).resolve().parent)


class Workspace(Resources):
    """A project: what it has (`Resources`), and what can be done with it."""

    @cached_property
    def answer_record(self) -> "AnswerRecord":
        """Answers of interrupted evaluations."""
        from cmt.evaluation.answer_record import AnswerRecord

        return AnswerRecord(self.state)

    def pull(self, *, on_progress: Any = None) -> Path:
        """Fetch and convert the base LM; returns its folder. ModelError when it cannot be had."""
        from cmt.lm.weights import pull

        lm = self.params.lm
        return pull(source=lm.source, sha256=lm.sha256, path=lm.path, on_progress=on_progress)

    def ingest(
        self, *, source: Path | str | None = None, format: str | None = None, period: str | int | None = None
    ) -> IngestReport:
        """Validate a source and add what is new as slices; arguments default to `stream` in params.yaml."""
        stream = self.params.stream
        return self.store.ingest(
            source=Path(source or stream.source),
            format=format or stream.format,
            period=period or stream.period,
            now=stream.now(),
        )

    def train(self, *, questions: int = HELD_OUT_QUESTIONS) -> "tuple[Path, SystemScores]":
        """Train a compressor, or resume from the last checkpoint; its folder and its scores on held-out articles.

        `questions`: how many held-out questions are asked. The model card in the folder records all of it.
        """
        from cmt.evaluation.held_out import held_out_scores
        from cmt.modeling.checkpoint import checkpoint_digest
        from cmt.training.data import hold_out, installed_training_data, load_training_data
        from cmt.training.model_card import write_card
        from cmt.training.trainer import train

        # 1. the data, some articles held out
        train_params = self.params.train
        documents, pairs = load_training_data(
            installed_training_data(source=train_params.source, path=train_params.path)
        )
        seen, held = hold_out(documents, articles=train_params.validation_articles)
        # 2. train
        callbacks = [self.tracker.log_training(self.params)] if self.params.tracking.enabled else []
        folder = train(lm=self.lm, documents=seen, questions=pairs, params=self.params, callbacks=callbacks)
        # 3. score and describe it
        evaluation = held_out_scores(
            folder=folder, lm=self.lm, documents=held, questions=pairs, params=self.params, limit=questions
        )
        scored = evaluation.systems[0]
        digest = checkpoint_digest(folder)
        write_card(folder, params=self.params, digest=digest, documents=len(seen), scores=scored.to_json())
        return folder, scored

    def update(self, *, slice_id: str | None = None, progress: Progress | None = None, prefect_run: str = "") -> Round:
        """Run one round: the named slice, or the oldest pending one. RoundError when nothing is pending.

        A round that its gate refuses comes back with the state `refused`; the bank is as it was before.
        """
        with self.updating():
            pending = self.pending()
            if not (slice_id or pending):
                raise RoundError(f"no slice waits in {self.params.stream.path}: `cmt ingest` new documents first")
            runner = RoundRunner(self, slice_id or pending[0], progress=progress, prefect_run=prefect_run)
            opened = runner.begin()
            if opened.already:
                return opened
            runner.compress()
            runner.bank()
            runner.evaluate()
            runner.decide()
            return runner.track()

    def updating(self) -> AbstractContextManager[None]:
        """Hold the right to change the bank; waits for another update, then RoundError."""
        return recovery.updating(self)

    def recover(self) -> str | None:
        """Undo an interrupted round or finish an interrupted rollback; what was found, or None."""
        return recovery.recover(self)

    def rollback(self, round_id: str) -> Round:
        """Restore the bank to the version before a committed round; it and all later ones are pending afterwards."""
        return recovery.rollback(self, round_id)

    def forget(self, doc_id: str) -> int:
        """Remove a document's memories for good; returns how many rows were removed. BankError on an unknown id."""
        return recovery.forget(self, doc_id)

    def ask(self, question: str, *, as_of: datetime | None = None, closed_book: bool = False) -> "Answer":
        """The answer and its sources; with `closed_book` also the LM's answer without memory.

        BankError when there is no bank.
        """
        self.answering_bank()
        return self.answerer.answer([question], as_of=[as_of], closed_book=closed_book)[0]

    def evaluate(
        self, *, limit: int | None = None, batch_size: int | None = None, on_progress: OnProgress | None = None
    ) -> "Evaluation":
        """Ask all questions of the stream, or a seeded sample of `limit`, each as of its own date.

        `batch_size`: questions answered at once, `answering.batch_size` when None; answers do not depend on it. Answers
        are recorded as they are made, so an interrupted evaluation of the same bank resumes.
        """
        from cmt.answering.answerer import Answerer
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
            answerer=Answerer(model=self.model, lm=self.lm, bank=self.bank, params=params),
            lm=self.lm,
            bank=self.bank,
            questions=questions,
            params=params,
            baselines=params.evaluation.baselines,
            complete=self.prompt_cache.complete,
            record=self.answer_record,
            on_progress=on_progress,
        )
