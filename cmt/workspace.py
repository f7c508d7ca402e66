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

from cmt.config import Params, load_params
from cmt.errors import BankError, RoundError
from cmt.rounds import Ledger, Round, RoundRun, Watch
from cmt.stream.slices import IngestReport, SliceStore

if TYPE_CHECKING:
    from cmt.answering import Answer, Answerer
    from cmt.bank import Bank
    from cmt.evaluation.cache import PromptCache
    from cmt.evaluation.protocol import Evaluation
    from cmt.memory.lm import FrozenLM
    from cmt.memory.model import MemoryModel
    from cmt.tracking import Tracker

log = logging.getLogger(__name__)

LOCK_SECONDS = 600.0


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
        from cmt.memory.lm import FrozenLM
        from cmt.memory.weights import installed

        return FrozenLM.load(installed(source=self.params.lm.source, path=self.params.lm.path), dtype=self.params.lm.dtype)

    @cached_property
    def model(self) -> "MemoryModel":
        """The compressor in use."""
        from cmt.memory.model import MemoryModel

        return MemoryModel.load(self.params.compressor.path, lm=self.lm)

    @cached_property
    def bank(self) -> "Bank":
        """The bank of the compressor in use, made when there is none."""
        from cmt.bank import Bank
        from cmt.memory.memories import memory_schema

        how = self.params.bank
        schema = memory_schema(self.model, keep_text=how.keep_text, number_format=how.codes)
        return Bank.open(uri=how.uri, schema=schema, exact_below=how.exact_below)

    @cached_property
    def stored_bank(self) -> "Bank":
        """The current bank without its compressor: for looking and mending, no LM is loaded. BankError when there is none."""
        from cmt.bank import Bank

        return Bank.open(uri=self.params.bank.uri, exact_below=self.params.bank.exact_below)

    @cached_property
    def ledger(self) -> Ledger:
        """The rounds beside the bank."""
        return Ledger(self.stored_bank.connection)

    @cached_property
    def answerer(self) -> "Answerer":
        """Answers through bank and LM."""
        from cmt.answering import Answerer

        return Answerer(model=self.model, lm=self.lm, bank=self.bank, params=self.params)

    @cached_property
    def prompt_cache(self) -> "PromptCache":
        """Answers that the baselines gave before."""
        from cmt.evaluation.cache import PromptCache

        return PromptCache(self.state / "prompts.sqlite")

    @cached_property
    def tracker(self) -> "Tracker":
        """MLflow."""
        from cmt.tracking import Tracker

        return Tracker(self.params.tracking, self.root)

    @property
    def bank_params(self) -> str:
        """What shapes the bank's rows beside the compressor."""
        return f"{self.params.bank.codes}-{'text' if self.params.bank.keep_text else 'vectors'}"

    def pull(self, *, progress: Any = None) -> Path:
        """Fetch and convert the base LM; returns its folder."""
        from cmt.memory.weights import pull

        return pull(source=self.params.lm.source, sha256=self.params.lm.sha256, path=self.params.lm.path, progress=progress)

    def ingest(self, *, source: Path | None = None, format: str | None = None, period: str | int | None = None) -> IngestReport:
        """Take a source into the stream; what is not named comes from `stream` in params.yaml."""
        how = self.params.stream
        return self.store.ingest(
            source=source or how.source, format=format or how.format, period=period or how.period, now=how.now()
        )

    def rounds(self) -> list[Round]:
        """The rounds of the compressor in use, by number; [] before the first."""
        try:
            return self.ledger.rounds(self.model.digest)
        except BankError:
            return []

    def pending(self) -> list[str]:
        """Slices without a committed round under the present compressor and bank parameters, oldest first."""
        done = {r.identity for r in self.rounds() if r.state == "committed"}
        return [s.slice_id for s in self.store.slices() if (s.digest, self.model.digest, self.bank_params) not in done]

    def update(self, *, slice_id: str | None = None, on: Watch | None = None, prefect_run: str = "") -> Round:
        """One round: the named slice, or the oldest one pending. RoundError when nothing is pending or it is refused."""
        with self.updating():
            waiting = self.pending()
            if not (slice_id or waiting):
                raise RoundError(f"no slice waits in {self.params.stream.path}: `cmt ingest` new documents first")
            run = RoundRun(self, slice_id or waiting[0], watch=on, prefect_run=prefect_run)
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

        self.state.mkdir(parents=True, exist_ok=True)
        path = self.state / "update.lock"
        lock = FileLock(path)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            log.warning("another update is changing this bank: waiting for it (up to %d minutes)", LOCK_SECONDS // 60)
            try:
                lock.acquire(timeout=LOCK_SECONDS)
            except Timeout:
                raise RoundError(f"another update still holds {path}: wait for it, or end it, and repeat") from None
        try:
            yield
        finally:
            lock.release()

    def recover(self) -> str | None:
        """Undo what an interrupted round left in the bank; says what was found, None when all is well."""
        said = None
        for round_ in self.rounds():
            if round_.state == "started":
                said = f"round {round_.round_id} was interrupted: bank restored to version {round_.version_before}"
                self.bank.restore(round_.version_before)
                self.ledger.write(replace(round_, state="interrupted", reason="interrupted before its decision"))
                log.warning(said)
        return said

    def ask(self, question: str, *, as_of: datetime | None = None, closed_book: bool = False) -> "Answer":
        """The answer, its sources and, with `closed_book`, what the LM says without memory. BankError without a bank."""
        _ = self.stored_bank  # asking must not make an empty bank
        return self.answerer.answer([question], as_of=[as_of], closed_book=closed_book)[0]

    def evaluate(self, *, limit: int | None = None, progress: Callable[[int], None] | None = None) -> "Evaluation":
        """All questions of the stream, or a seeded sample of `limit`, each as of its own date."""
        from cmt.evaluation.protocol import evaluate

        _ = self.stored_bank
        questions = self.store.all_questions()
        if limit is not None and limit < questions.num_rows:
            questions = questions.take(sorted(random.Random(self.params.seed).sample(range(questions.num_rows), limit)))
        return evaluate(
            answerer=self.answerer,
            lm=self.lm,
            bank=self.bank,
            questions=questions,
            params=self.params,
            baselines=self.params.evaluation.baselines,
            cache=self.prompt_cache,
            progress=progress,
        )

    def rollback(self, round_id: str) -> Round:
        """Restore the bank to the version before a committed round; it and all later ones wait again afterwards."""
        with self.updating():
            rounds = self.rounds()
            target = next((r for r in rounds if r.round_id == round_id and r.state == "committed"), None)
            if target is None:
                committed = ", ".join(r.round_id for r in rounds if r.state == "committed") or "none"
                raise RoundError(f"no committed round {round_id!r}; there are: {committed}")
            self.bank.restore(target.version_before)
            self._forget_again()
            for round_ in rounds:
                if round_.number >= target.number and round_.state == "committed":
                    self.ledger.write(replace(round_, state="rolled_back", reason=f"rollback of {round_id}"))
        return next(r for r in self.rounds() if r.round_id == round_id)

    def forget(self, doc_id: str) -> int:
        """Remove a document's memories for good: no rollback or later round brings it back. Returns the rows removed."""
        with self.updating():
            removed = self.stored_bank.forget(doc_id)
            self.ledger.forget(doc_id)
        return removed

    def _forget_again(self) -> None:
        for doc_id in sorted(self.ledger.forgotten()):
            try:
                self.bank.forget(doc_id)
            except BankError:
                continue  # not in that version

