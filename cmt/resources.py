"""The resources of a project: stream, LM, compressor, bank, ledger and tracker, each opened on first use."""

import logging
from collections.abc import Iterator
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from threading import RLock
from typing import TYPE_CHECKING

from cmt.bank.ledger import Ledger, Round
from cmt.config import Params, state_folder
from cmt.errors import BankError, DamageError, ModelError
from cmt.stream.store import SliceStore

if TYPE_CHECKING:
    import torch

    from cmt.answering.answerer import Answerer
    from cmt.answering.cache import PromptCache
    from cmt.answering.confidence import Calibration
    from cmt.bank.bank import Bank
    from cmt.bank.lease import Lease
    from cmt.lm.model import FrozenLM
    from cmt.modeling.model import MemoryModel
    from cmt.retrieval.indexer import EncodeBatches
    from cmt.tracking.runs import Tracker


log = logging.getLogger(__name__)


def with_champion(params: Params, root: Path) -> Params:
    """`params` with the compressor that answers, if one was promoted; `root` is the folder of params.yaml.

    It is the champion or the compressor before it, the one that the bank's pointer names; the champion if that is
    neither. What is damaged or missing is left out with a warning, and `cmt verify` reports it.
    """
    from cmt.modeling.champion import champion_folder, read_champion

    state = state_folder(params, root)
    try:
        named = read_champion(state)
    except ModelError as error:
        log.warning("%s", error)
        return params
    if named is None:
        return params
    both = named.champion, named.previous
    candidates = [one for one in both if champion_folder(state, one.digest).exists()]
    if named.champion not in candidates:
        log.warning("the champion is missing in %s: restore it", champion_folder(state, named.champion.digest))
    if not candidates:
        return params
    answering = _answering(params.bank.uri)
    chosen = next((one for one in candidates if one.bank == answering), candidates[0])
    compressor = params.compressor.model_copy(update={"path": champion_folder(state, chosen.digest)})
    return params.model_copy(update={"compressor": compressor})


def _answering(uri: str) -> str | None:
    """First 12 digits of the compressor whose bank at `uri` answers; None if there is none or it cannot be read."""
    from cmt.bank.tables import MEMORIES, connect, current_table, translate_errors

    with suppress(BankError), translate_errors("the pointer cannot be read"):
        return (current_table(connect(uri)) or "").removeprefix(MEMORIES)
    return None


class Resources:
    """The resources of one project folder, as rounds, evaluation and reports use them.

    `root`: folder of params.yaml. With `follow` the compressor is that of `with_champion`, also after it has changed;
    otherwise it is that of `params`. `declared` has the parameters as they were given. Each property raises the
    CmtError of the package that it opens.
    """

    def __init__(self, params: Params, root: Path, *, follow: bool = False) -> None:
        self.declared, self._follow, self._following = params, follow, RLock()
        self.params, self.root = with_champion(params, root) if follow else params, root
        self.state = state_folder(params, root)
        self._prompt_cache_path = self.state / "prompts.sqlite"
        self.lease: Lease | None = None
        """The lease of the bank while `cmt.rounds.recovery.updating` holds it."""
        self.forgetting_journal = self.state / "forgetting.json"
        """Exists while documents are being forgotten, see `cmt.rounds.forgetting`."""
        self._checked_version = 0  # version of the bank that was last compared with the ledger

    @cached_property
    def store(self) -> SliceStore:
        """The slices of the stream."""
        return SliceStore(path=self.params.stream.path, quarantine=self.params.stream.quarantine)

    @cached_property
    def lm(self) -> "FrozenLM":
        """The frozen LM. Raises ModelError if it was not pulled."""
        return self._load_lm()

    def lm_on(self, device: "torch.device") -> "FrozenLM":
        """The frozen LM on `device`. Raises ModelError if it was not pulled."""
        return self.lm if self.lm.device == device else self._load_lm(device)

    def _load_lm(self, device: "torch.device | None" = None) -> "FrozenLM":
        from cmt.lm.model import FrozenLM
        from cmt.lm.weights import installed

        lm = self.params.lm
        return FrozenLM.load(installed(source=lm.source, path=lm.path), dtype=lm.dtype, device=device)

    @cached_property
    def model(self) -> "MemoryModel":
        """The compressor in use, with its LoRA adapters merged. Raises ModelError if it does not belong to the LM."""
        from cmt.modeling.model import MemoryModel

        compressor = self.params.compressor
        return MemoryModel.load(compressor.path, lm=self.lm, window=compressor.window, merged=True)

    @property
    def encode_batches(self) -> "EncodeBatches | None":
        """What compresses documents beside this process; None: this process does."""
        if self.params.compress.engine == "local":
            return None
        from cmt.lm.weights import installed
        from cmt.retrieval.ray_engine import RayEncoder

        lm, compressor = self.params.lm, self.params.compressor
        return RayEncoder(
            lm=installed(source=lm.source, path=lm.path),
            dtype=lm.dtype,
            compressor=compressor.path,
            window=compressor.window,
            workers=self.params.compress.workers,
        )

    @cached_property
    def bank(self) -> "Bank":
        """The bank of the compressor in use, created if missing. Raises BankError if it cannot be opened."""
        from cmt.bank.bank import Bank
        from cmt.retrieval.indexer import memory_schema

        bank = self.params.bank
        schema = memory_schema(self.model, keep_text=bank.keep_text, number_format=bank.codes)
        return Bank.open(uri=bank.uri, schema=schema, exact_below=bank.exact_below, check_lease=self.check_lease)

    @cached_property
    def stored_bank(self) -> "Bank":
        """The current bank, opened without the compressor, so no LM is loaded. Raises BankError if there is none."""
        from cmt.bank.bank import Bank

        bank = self.params.bank
        return Bank.open(uri=bank.uri, exact_below=bank.exact_below, check_lease=self.check_lease)

    def check_lease(self) -> None:
        """Raise RoundError if this process held the bank's lease and lost it; every write begins with it."""
        if self.lease:
            self.lease.check()

    def answering_bank(self) -> "Bank":
        """The bank of the compressor in use; never creates one.

        Raises BankError if there is no bank, if the current bank belongs to another compressor that was not promoted,
        or if its rows do not match the section `bank` of params.yaml; DamageError if it lacks what the ledger recorded.
        Documents whose forgetting was announced are hidden in it.
        """
        answering, in_use = self.stored_bank.answering, self.model.digest[:12]
        if answering != in_use and self.follow():
            answering, in_use = self.stored_bank.answering, self.model.digest[:12]
        if answering != in_use:
            raise BankError(
                f"the bank is that of compressor {answering}, but {in_use} is in use: "
                "run `cmt update --all` with it, or put the section compressor back, and start again"
            )
        changed = self.bank.version != self._checked_version
        if changed:
            self.check_bank()
            self.recalibrate()
        if changed or self.forgetting_journal.exists():
            self.bank.hidden = frozenset(self.bank.present(self.forgotten()))
        return self.bank

    def current_answerer(self) -> "Answerer":
        """The answerer over `answering_bank`, which raises as that does.

        A thread that answers takes it once for each batch, so that no answer is from two compressors.
        """
        with self._following:
            self.answering_bank()
            return self.answerer

    def follow(self) -> bool:
        """Use the compressor that answers now, if another one was promoted; returns whether that is another one."""
        with self._following:
            params = with_champion(self.declared, self.root) if self._follow else self.params
            if params.compressor.path == self.params.compressor.path:
                return False
            self.params, self._checked_version = params, 0
            for name in ("model", "bank", "stored_bank", "answerer", "compressor_digest"):
                self.__dict__.pop(name, None)
            return True

    def check_bank(self, *, at_rest: bool = False) -> None:
        """Raise DamageError if version or rows of the bank are not those that the ledger recorded.

        `at_rest`: no round is at work, so that more can be compared; see `cmt.bank.integrity.contradiction`.
        """
        from cmt.bank.integrity import contradiction

        rounds = self.rounds()  # before the bank: another process writes the bank first, then the ledger
        version, rows = self.bank.version_and_rows()
        at_rest = at_rest and bool(rounds) and not self.forgotten()
        if problem := contradiction(rounds, version=version, rows=rows, at_rest=at_rest):
            raise DamageError(f"bank {self.params.bank.uri} {problem}: run `cmt verify`, which says how to repair it")
        self._checked_version = version

    @cached_property
    def ledger(self) -> Ledger:
        """The ledger beside the bank. Raises BankError if there is no bank."""
        from cmt.bank.tables import connect

        return Ledger(connect(self.params.bank.uri), check_lease=self.check_lease)

    @cached_property
    def answerer(self) -> "Answerer":
        """Answers questions from the bank of the compressor in use."""
        from cmt.answering.answerer import Answerer

        return Answerer(
            model=self.model, lm=self.lm, bank=self.bank, params=self.params, calibration=self.calibration()
        )

    def recalibrate(self) -> "Answerer":
        """Give the answerer the calibration of the latest round; returns it."""
        self.answerer = self.answerer.with_params(calibration=self.calibration())
        return self.answerer

    def calibration(self) -> "Calibration":
        """The calibration of the confidence that the latest round in the bank recorded; the neutral one before it."""
        from cmt.answering.confidence import NO_CALIBRATION, Calibration

        version = self.bank.version
        in_bank = [
            round_
            for round_ in self.rounds()
            if round_.state == "committed" or (round_.state == "started" and round_.version_before < version)
        ]
        recorded = in_bank[-1].calibration if in_bank else {}
        return Calibration(recorded["slope"], recorded["shift"]) if recorded else NO_CALIBRATION

    @cached_property
    def prompt_cache(self) -> "PromptCache":
        """Earlier answers of the baselines."""
        from cmt.answering.cache import PromptCache

        return PromptCache(self._prompt_cache_path, self.lm)

    @cached_property
    def tracker(self) -> "Tracker":
        """The MLflow tracker."""
        from cmt.tracking.runs import Tracker

        return Tracker(self.params.tracking, self.root)

    @property
    def bank_params(self) -> str:
        """The bank parameters that shape its rows, such as "int8-text"; part of the identity of a round.

        Raises ModelError if the compressor's codebook, which may be one of them, is damaged, or is needed and missing.
        """
        from cmt.modeling.codebook import Codebook, stored_codes

        compressor, bank = self.params.compressor, self.params.bank
        codebook = Codebook.load(compressor.path, compressor.window) if bank.codes in ("auto", "pq") else None
        codes = stored_codes(bank.codes, codebook, keep_text=bank.keep_text)
        return f"{codes}-{'text' if bank.keep_text else 'vectors'}"

    @cached_property
    def compressor_digest(self) -> str:
        """Digest of the compressor in use, from its files: neither LM nor compressor is loaded. Raises ModelError."""
        from cmt.modeling.checkpoint import digest_in_use

        compressor = self.params.compressor
        return digest_in_use(compressor.path, window=compressor.window)

    def use_prompt_cache(self, path: Path) -> None:
        """Keep the answers of the baselines in `path`. Call it before `prompt_cache` is first used."""
        self._prompt_cache_path = path

    def rounds(self) -> list[Round]:
        """The rounds of the compressor in use, sorted by number; empty before the first."""
        return [round_ for round_ in self.all_rounds() if round_.compressor == self.compressor_digest]

    def all_rounds(self) -> list[Round]:
        """The rounds of all compressors, sorted by number; empty before the first."""
        return self.ledger.rounds() if Ledger.exists(self.params.bank.uri) else []

    def pending(self) -> list[str]:
        """The slice_ids without a committed round of this compressor and these bank parameters, oldest first."""
        committed = {round_.identity for round_ in self.rounds() if round_.state == "committed"}
        bank_params = self.bank_params  # with a codebook, it is read for them
        return [
            slice_.slice_id
            for slice_ in self.store.slices()
            if (slice_.digest, self.compressor_digest, bank_params) not in committed
        ]

    def forgotten(self) -> list[str]:
        """The doc_ids that must not be banked again, from the stream and from the ledger, sorted."""
        shared = self.ledger.forgotten() if Ledger.exists(self.params.bank.uri) else []
        return sorted({*self.store.forgotten(), *shared})

    def bank_of(self, compressor: str) -> "Bank":
        """The bank of the compressor with the digest `compressor`. Raises BankError if there is none."""
        from cmt.bank.bank import Bank
        from cmt.bank.tables import MEMORIES

        if compressor == self.compressor_digest:
            return self.bank
        bank, name = self.params.bank, f"{MEMORIES}{compressor[:12]}"
        return Bank.open_table(uri=bank.uri, name=name, exact_below=bank.exact_below, check_lease=self.check_lease)

    def banks(self) -> "Iterator[Bank]":
        """The banks of all compressors. Raises BankError if there is none."""
        from cmt.bank.bank import Bank

        bank = self.params.bank
        return Bank.open_all(uri=bank.uri, exact_below=bank.exact_below, check_lease=self.check_lease)
