"""A project: stream, LM, compressor, bank, history and tracker, each opened on first use."""

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from cmt.active_bank import ActiveBank
from cmt.bank.ledger import Ledger
from cmt.bank.location import BankLocation, HeldLease
from cmt.compressor_in_use import CompressorInUse
from cmt.config import Params, state_folder
from cmt.history import History
from cmt.stream.admission.authority import Authority
from cmt.stream.store import SliceStore

if TYPE_CHECKING:
    from cmt.answering.answerer import Answerer
    from cmt.answering.cache import PromptCache
    from cmt.bank.bank import Bank
    from cmt.lm.model import FrozenLM
    from cmt.modeling.model import MemoryModel
    from cmt.retrieval.indexer import EncodeBatches
    from cmt.tracking.registry import Registry
    from cmt.tracking.runs import Tracker


class Project:
    """One project folder, as rounds, evaluation and reports use it.

    `root`: folder of params.yaml. `declared`: the parameters as they were given. `history`:
    questions to the ledger. `active`: the bank that answers. `lease`: that of the bank, while this
    process changes it. The other arguments are those of `CompressorInUse`. Each property raises the
    CmtError of the package that it opens.
    """

    def __init__(
        self,
        params: Params,
        root: Path,
        *,
        follow: bool = False,
        lm: "FrozenLM | None" = None,
        model: "MemoryModel | None" = None,
    ) -> None:
        self.declared, self.root, self.state = params, root, state_folder(params, root)
        self.store = SliceStore(path=params.stream.path, quarantine=params.stream.quarantine)
        unnamed = {source.name for source in params.sources if source.publisher is None}
        self.authority = Authority(params.stream.authority, params.stream.peers, unnamed)
        self.lease = HeldLease(params.bank.uri)
        self.bank_location = BankLocation(
            params.bank.uri, params.bank.exact_below, self.lease.check
        )
        self._compressor = CompressorInUse(
            params, root, self.bank_location, follow=follow, lm=lm, model=model
        )
        self.history = History(self.store, self._compressor, self.lease, self.state)
        self.active = ActiveBank(self._compressor, self.history, self.lease, self.authority)

    @property
    def params(self) -> Params:
        """The parameters, with the path of the compressor in use."""
        return self._compressor.opened.params

    # LM and compressor

    @property
    def lm(self) -> "FrozenLM":
        """The frozen LM. Raises ModelError if it was not pulled."""
        return self._compressor.lm

    @property
    def model(self) -> "MemoryModel":
        """The compressor in use, with its LoRA adapters merged. Raises ModelError if it does not
        belong to the LM.
        """
        return self._compressor.opened.model

    @property
    def compressor_digest(self) -> str:
        """Digest of the compressor in use, from its files: neither LM nor compressor is loaded.
        Raises ModelError.
        """
        return self._compressor.opened.digest

    @property
    def row_format(self) -> str:
        """The format of the bank's rows, such as "int8-text". Raises ModelError for a damaged or
        missing codebook.
        """
        return self._compressor.opened.row_format

    @property
    def encode_batches(self) -> "EncodeBatches | None":
        """The Ray workers that compress documents in addition to this process; None: this process
        compresses them.
        """
        if self.params.compress.engine == "local":
            return None
        from cmt.lm.installed import installed
        from cmt.retrieval.ray_engine import RayEncoder

        lm, compressor = self.params.lm, self.params.compressor
        return RayEncoder(
            lm=installed(source=lm.source, path=lm.path),
            dtype=lm.dtype,
            compressor=compressor.path,
            window=compressor.window,
            workers=self.params.compress.workers,
        )

    # Bank

    @property
    def bank(self) -> "Bank":
        """The bank of the compressor in use, created if missing. Raises BankError if it cannot be
        opened.
        """
        return self._compressor.opened.bank

    def bank_of(self, compressor: str) -> "Bank":
        """The bank of the compressor with this digest. Raises BankError if there is none; that of
        the compressor in use is created.
        """
        from cmt.bank.bank import open_bank

        if compressor == self.compressor_digest:
            return self.bank
        return open_bank(self.bank_location, compressor=compressor)

    @property
    def answerer(self) -> "Answerer":
        """Answers questions from the bank of the compressor in use, also if another one answers;
        see `ActiveBank.answerer`.
        """
        return self.active.unchecked_answerer

    @property
    def ledger(self) -> Ledger:
        """The ledger next to the bank. Raises BankError if there is no bank."""
        return self.history.ledger

    @cached_property
    def prompt_cache(self) -> "PromptCache":
        """Earlier answers of the baselines."""
        from cmt.answering.cache import PromptCache

        return PromptCache(self.state / "prompts.sqlite", self.lm)

    # MLflow

    @cached_property
    def tracker(self) -> "Tracker":
        """The MLflow tracker."""
        from cmt.tracking.runs import Tracker

        return Tracker(self.params.tracking, self.root)

    @property
    def registry(self) -> "Registry":
        """MLflow's model registry."""
        from cmt.tracking.registry import Registry

        return Registry(self.params.tracking, self.root)
