"""A project folder as one object: its parameters, stream, LM, compressor and bank, each opened when first used.

The CLI, the flows and Python callers all go through here.
"""

import logging
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cmt.bank.ledger import Ledger, Round
from cmt.common.progress import Progress
from cmt.config import Params, load_params
from cmt.errors import BankError, RoundError, ServiceError
from cmt.rounds.runner import RoundRunner
from cmt.stream.store import IngestReport, SliceStore

if TYPE_CHECKING:
    from cmt.answering.answer import Answer
    from cmt.answering.answerer import Answerer
    from cmt.answering.cache import PromptCache
    from cmt.bank.bank import Bank
    from cmt.evaluation.answer_record import AnswerRecord
    from cmt.evaluation.evaluate import Evaluation, SystemScores
    from cmt.lm.model import FrozenLM
    from cmt.modeling.model import MemoryModel
    from cmt.tracking.runs import Tracker

log = logging.getLogger(__name__)

LOCK_SECONDS = 600.0
HELD_OUT_QUESTIONS = 500


def open(*, params: Path | str = "params.yaml", overrides: dict[str, Any] | None = None) -> "Workspace":
    """The workspace of a `params.yaml`; `overrides` maps dotted keys to values. Raises ConfigError."""
    return Workspace(load_params(params, overrides), Path(params).resolve().parent)


class Workspace:
    """Everything a round or a question needs."""

    def __init__(self, params: Params, root: Path) -> None:
        self.params, self.root = params, root
        uri = params.bank.uri
        self.state = root / "data/state" if "://" in uri else Path(uri).parent / "state"

    @cached_property
    def store(self) -> SliceStore:
        """The slices."""
        return SliceStore(path=self.params.stream.path, quarantine=self.params.stream.quarantine)

    @cached_property
    def lm(self) -> "FrozenLM":
        """The frozen LM. ModelError when it was not pulled."""
        from cmt.lm.model import FrozenLM
        from cmt.lm.weights import installed

        return FrozenLM.load(
            installed(source=self.params.lm.source, path=self.params.lm.path), dtype=self.params.lm.dtype
        )

    @cached_property
    def model(self) -> "MemoryModel":
        """The compressor in use."""
        from cmt.modeling.model import MemoryModel

        how = self.params.compressor
        return MemoryModel.load(how.path, lm=self.lm, window=how.window).folded()

    @cached_property
    def bank(self) -> "Bank":
        """The bank of the compressor in use, made when there is none."""
        from cmt.bank.bank import Bank
        from cmt.retrieval.indexer import memory_schema

        how = self.params.bank
        schema = memory_schema(self.model, keep_text=how.keep_text, number_format=how.codes)
        return Bank.open(uri=how.uri, schema=schema, exact_below=how.exact_below)

    @cached_property
    def stored_bank(self) -> "Bank":
        """The current bank without its compressor, so that no LM is loaded. BankError when there is none."""
        from cmt.bank.bank import Bank

        return Bank.open(uri=self.params.bank.uri, exact_below=self.params.bank.exact_below)

    def answering_bank(self) -> "Bank":
        """The bank of the compressor in use, without making one.

        BankError when there is none, when the current one is that of another compressor, which may take over at any
        time, and when its rows are of another kind than `bank` in params.yaml says.
        """
        answering, in_use = self.stored_bank.answering, self.model.digest[:12]
        if answering != in_use:
            raise BankError(
                f"the bank is that of compressor {answering}, and {in_use} is in use: "
                "run `cmt update --all` with it, or put the section compressor back, and start again"
            )
        return self.bank

    @cached_property
    def ledger(self) -> Ledger:
        """The rounds beside the bank."""
        return Ledger(self.stored_bank.connection)

    @cached_property
    def answerer(self) -> "Answerer":
        """Answers through bank and LM."""
        from cmt.answering.answerer import Answerer

        return Answerer(model=self.model, lm=self.lm, bank=self.bank, params=self.params)

    @cached_property
    def prompt_cache(self) -> "PromptCache":
        """Answers that the baselines gave before."""
        from cmt.answering.cache import PromptCache

        return PromptCache(self.state / "prompts.sqlite")

    @cached_property
    def answer_record(self) -> "AnswerRecord":
        """Answers that the memory gave before."""
        from cmt.evaluation.answer_record import AnswerRecord

        return AnswerRecord(self.state)

    @cached_property
    def tracker(self) -> "Tracker":
        """MLflow."""
        from cmt.tracking.runs import Tracker

        return Tracker(self.params.tracking, self.root)

    @property
    def bank_params(self) -> str:
        """What shapes the bank's rows beside the compressor."""
        return f"{self.params.bank.codes}-{'text' if self.params.bank.keep_text else 'vectors'}"

    def pull(self, *, progress: Any = None) -> Path:
        """Fetch and convert the base LM; returns its folder."""
        from cmt.lm.weights import pull

        return pull(
            source=self.params.lm.source, sha256=self.params.lm.sha256, path=self.params.lm.path, progress=progress
        )

    def ingest(
        self, *, source: Path | str | None = None, format: str | None = None, period: str | int | None = None
    ) -> IngestReport:
        """Take a source into the stream; what is not named comes from `stream` in params.yaml."""
        how = self.params.stream
        return self.store.ingest(
            source=Path(source or how.source),
            format=format or how.format,
            period=period or how.period,
            now=how.now(),
        )

    def train(self, *, questions: int = HELD_OUT_QUESTIONS) -> "tuple[Path, SystemScores]":
        """Train a compressor, or go on from the last checkpoint; its folder and what it scores on held-out articles.

        `questions`: how many of those articles' questions are asked. The card in the folder says all of it.
        """
        from cmt.evaluation.held_out import held_out_scores
        from cmt.modeling.checkpoint import checkpoint_digest
        from cmt.training.data import hold_out, installed_training_data, load_training_data
        from cmt.training.model_card import write_card
        from cmt.training.trainer import train

        how = self.params.train
        documents, pairs = load_training_data(installed_training_data(source=how.source, path=how.path))
        seen, held = hold_out(documents, articles=how.validation_articles)
        curves = [self.tracker.log_training(self.params)] if self.params.tracking.enabled else []
        folder = train(lm=self.lm, documents=seen, questions=pairs, params=self.params, callbacks=curves)
        scored = held_out_scores(
            folder=folder, lm=self.lm, documents=held, questions=pairs, params=self.params, limit=questions
        ).rows[0]
        write_card(
            folder, params=self.params, digest=checkpoint_digest(folder), documents=len(seen), scores=scored.to_json()
        )
        return folder, scored

    def rounds(self) -> list[Round]:
        """The rounds of the compressor in use, by number; [] before the first."""
        return self.ledger.rounds(self.model.digest) if self._has_ledger() else []

    def pending(self) -> list[str]:
        """Slices without a committed round under the present compressor and bank parameters, oldest first."""
        done = {r.identity for r in self.rounds() if r.state == "committed"}
        return [s.slice_id for s in self.store.slices() if (s.digest, self.model.digest, self.bank_params) not in done]

    def update(self, *, slice_id: str | None = None, on: Progress | None = None, prefect_run: str = "") -> Round:
        """One round: the named slice, or the oldest one pending. RoundError when nothing is pending.

        A round that its gate refuses comes back with the state `refused`; the bank is as it was before.
        """
        with self.updating():
            waiting = self.pending()
            if not (slice_id or waiting):
                raise RoundError(f"no slice waits in {self.params.stream.path}: `cmt ingest` new documents first")
            run = RoundRunner(self, slice_id or waiting[0], watch=on, prefect_run=prefect_run)
            opened = run.begin()
            if opened.already:
                return opened
            run.compress()
            run.bank()
            run.evaluate()
            run.decide()
            return run.track()

    @contextmanager
    def updating(self) -> Iterator[None]:
        """Hold the right to change the bank; waits for another update, then RoundError."""
        from filelock import FileLock, Timeout

        path = self.state / "update.lock"
        lock = FileLock(path)
        try:
            self.state.mkdir(parents=True, exist_ok=True)
            lock.acquire(timeout=0)
        except Timeout:
            log.warning("another update is changing this bank: waiting for it (up to %d minutes)", LOCK_SECONDS // 60)
            try:
                lock.acquire(timeout=LOCK_SECONDS)
            except Timeout:
                raise RoundError(f"another update still holds {path}: wait for it, or end it, and repeat") from None
        except OSError as error:
            raise RoundError(f"{path} cannot be written: {error.strerror or error}; check space and rights") from error
        try:
            yield
        finally:
            lock.release()

    def recover(self) -> str | None:
        """Undo what an interrupted round left in the bank, or finish an interrupted rollback.

        Returns what was found, None when all is well. Rounds and rollbacks begin with it; it belongs into `updating()`.
        """
        said = None
        for round_ in reversed(self.rounds()):
            if round_.state == "started":
                said = f"round {round_.round_id} was interrupted: bank restored to version {round_.version_before}"
                found = replace(round_, state="interrupted", reason="interrupted before its decision")
            elif round_.state == "rolling_back":
                said = f"the {round_.reason} was interrupted: bank restored to version {round_.version_before}"
                found = replace(round_, state="rolled_back")
            else:
                continue
            self.restore(round_.version_before)
            self.ledger.write(found)
            log.warning(said)
        return said

    def restore(self, version: int) -> None:
        """Bring back a version of the bank, without the documents that were forgotten since."""
        self.bank.restore(version)
        for doc_id in self.forgotten():
            if self.bank.has(doc_id):
                self.bank.forget(doc_id)

    def ask(self, question: str, *, as_of: datetime | None = None, closed_book: bool = False) -> "Answer":
        """The answer, its sources, with `closed_book` also the LM's without memory. BankError when there is no bank."""
        self.answering_bank()
        return self.answerer.answer([question], as_of=[as_of], closed_book=closed_book)[0]

    def evaluate(
        self,
        *,
        limit: int | None = None,
        batch_size: int | None = None,
        progress: Callable[[int], None] | None = None,
    ) -> "Evaluation":
        """All questions of the stream, or a seeded sample of `limit`, each as of its own date.

        `batch_size`: questions answered at once, `answering.batch_size` when None; the answers are the same for all.
        Answers are recorded as they are made: after a kill, the next evaluation of the same bank goes on from there.
        """
        from cmt.answering.answerer import Answerer
        from cmt.evaluation.evaluate import evaluate

        answering = self.params.answering
        how = answering.model_copy(update={"batch_size": batch_size or answering.batch_size})
        params = self.params.model_copy(update={"answering": how})

        self.answering_bank()
        questions = self.store.all_questions()
        if limit is not None and limit < questions.num_rows:
            source = random.Random(self.params.seed)  # noqa: S311 - a sample, no secret
            questions = questions.take(sorted(source.sample(range(questions.num_rows), limit)))
        return evaluate(
            answerer=Answerer(model=self.model, lm=self.lm, bank=self.bank, params=params),
            lm=self.lm,
            bank=self.bank,
            questions=questions,
            params=params,
            baselines=params.evaluation.baselines,
            cache=self.prompt_cache,
            record=self.answer_record,
            progress=progress,
        )

    def rollback(self, round_id: str) -> Round:
        """Restore the bank to the version before a committed round; it and all later ones wait again afterwards."""
        with self.updating():
            unfinished = {r.round_id for r in self.rounds() if r.state == "rolling_back"}
            self.recover()
            if round_id not in unfinished:
                self._roll_back(round_id)
            self._track_rollback(round_id)
        return next(r for r in self.rounds() if r.round_id == round_id)

    def _track_rollback(self, round_id: str) -> None:
        """MLflow hears of it too; one that cannot be reached is a warning."""
        reason = _rollback_of(round_id)
        gone = [r for r in self.rounds() if r.state == "rolled_back" and r.reason == reason]
        if self.params.tracking.enabled:
            try:
                self.tracker.take_back(gone)
            except ServiceError as error:
                log.warning("MLflow still has the rounds as committed: %s", error)

    def _roll_back(self, round_id: str) -> None:
        committed = [r for r in self.rounds() if r.state == "committed"]
        target = next((r for r in committed if r.round_id == round_id), None)
        if target is None:
            names = ", ".join(r.round_id for r in committed) or "none"
            raise RoundError(f"no committed round {round_id!r}; there are: {names}")
        self.bank.check_version(target.version_before)  # or the ledger would tell of what cannot be done
        reason = _rollback_of(round_id)
        later = [replace(r, state="rolled_back", reason=reason) for r in committed if r.number > target.number]
        # one commit: whoever finds it after a kill goes on with the restore
        self.ledger.write(replace(target, state="rolling_back", reason=reason), *later)
        self.restore(target.version_before)
        self.ledger.write(replace(target, state="rolled_back", reason=reason))

    def forget(self, doc_id: str) -> int:
        """Remove a document's memories, whatever is rolled back, repeated or banked anew later; returns how many.

        One whose round is still to come has none, and gets none. BankError when bank and stream do not know it.
        """
        with self.updating():
            holding = [bank for bank in self.banks() if bank.has(doc_id)]
            if not holding and doc_id not in self.store.all_documents()["doc_id"].to_pylist():
                raise BankError(
                    f"document {doc_id!r} is neither in bank {self.params.bank.uri} nor in {self.params.stream.path}: "
                    "nothing was forgotten"
                )
            self.store.forget(doc_id)  # for banks to come
            self.ledger.forget(doc_id)  # for whoever shares this one
            return sum(bank.forget(doc_id) for bank in holding)

    def forgotten(self) -> list[str]:
        """Documents that must not come back, in this bank or in another one of this stream."""
        return sorted({*self.store.forgotten(), *self.ledger.forgotten()})

    def _has_ledger(self) -> bool:
        import lancedb

        from cmt.bank.tables import explained

        uri = self.params.bank.uri
        if "://" not in uri and not Path(uri).is_dir():
            return False
        with explained(f"bank {uri} cannot be opened"):
            return "rounds" in lancedb.connect(uri).list_tables().tables

    def banks(self) -> "Iterator[Bank]":
        """The banks of all compressors."""
        from cmt.bank.bank import Bank

        connection = self.stored_bank.connection
        for name in connection.list_tables().tables:
            if name.startswith("memories_"):
                schema = connection.open_table(name).schema
                yield Bank.open(uri=self.params.bank.uri, schema=schema, exact_below=self.params.bank.exact_below)


def _rollback_of(round_id: str) -> str:
    return f"rollback of {round_id}"
