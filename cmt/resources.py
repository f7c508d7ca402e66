"""What a project has: stream, LM, compressor, bank, ledger and tracker, each opened when it is first used."""

from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from cmt.bank.ledger import Ledger, Round
from cmt.config import Params, state_folder
from cmt.errors import BankError
from cmt.stream.store import SliceStore

if TYPE_CHECKING:
    from cmt.answering.answerer import Answerer
    from cmt.answering.cache import PromptCache
    from cmt.bank.bank import Bank
    from cmt.lm.model import FrozenLM
    from cmt.modeling.model import MemoryModel
    from cmt.tracking.runs import Tracker


class Resources:
    """The parts of one project folder, for rounds, evaluation and reports."""

    def __init__(self, params: Params, root: Path) -> None:
        self.params, self.root = params, root
        self.state = state_folder(params, root)
        self._prompt_cache_path = self.state / "prompts.sqlite"

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
        return MemoryModel.load(how.path, lm=self.lm, window=how.window).merge_lora()

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

        return PromptCache(self._prompt_cache_path, self.lm)

    @cached_property
    def tracker(self) -> "Tracker":
        """MLflow."""
        from cmt.tracking.runs import Tracker

        return Tracker(self.params.tracking, self.root)

    @property
    def bank_params(self) -> str:
        """What shapes the bank's rows beside the compressor."""
        return f"{self.params.bank.codes}-{'text' if self.params.bank.keep_text else 'vectors'}"

    def use_prompt_cache(self, path: Path) -> None:
        """Keep the baselines' answers in `path`; to be called before they are first asked."""
        self._prompt_cache_path = path

    def rounds(self) -> list[Round]:
        """The rounds of the compressor in use, by number; [] before the first."""
        return self.ledger.rounds(self.model.digest) if self._has_ledger() else []

    def pending(self) -> list[str]:
        """Slices without a committed round under the present compressor and bank parameters, oldest first."""
        done = {r.identity for r in self.rounds() if r.state == "committed"}
        return [s.slice_id for s in self.store.slices() if (s.digest, self.model.digest, self.bank_params) not in done]

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
