"""The resources of a project: stream, LM, compressor, bank, ledger and tracker, each opened on
first use.
"""

import logging
from collections.abc import Collection
from contextlib import suppress
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from threading import RLock
from typing import TYPE_CHECKING, Any

from cmt.bank.changes import Change
from cmt.bank.ledger import Ledger, Round, contradiction
from cmt.bank.location import BankLocation
from cmt.common.storage import read_json
from cmt.config import Params, state_folder
from cmt.errors import BankError, DamageError, ModelError
from cmt.stream.admission.authority import Authority
from cmt.stream.store import SliceStore

if TYPE_CHECKING:
    from lancedb.db import DBConnection

    from cmt.answering.answerer import Answerer
    from cmt.answering.cache import PromptCache
    from cmt.answering.confidence import Calibration
    from cmt.bank.bank import Bank
    from cmt.bank.lease import Lease
    from cmt.lm.model import FrozenLM
    from cmt.modeling.model import MemoryModel
    from cmt.retrieval.indexer import EncodeBatches
    from cmt.timeline import Version
    from cmt.tracking.registry import Registry
    from cmt.tracking.runs import Tracker


log = logging.getLogger(__name__)


def with_active_compressor(params: Params, root: Path) -> Params:
    """`params` with the path of the compressor that answers, if one was promoted; `root` is the
    folder of params.yaml.

    The bank's pointer selects the champion or the compressor before it; the champion if it names
    neither. A damaged or missing one is left out with a warning, and `cmt verify` reports it.
    """
    from cmt.modeling.champion import champion_folder, read_champion

    # 1. The promoted compressors whose files exist.
    state = state_folder(params, root)
    try:
        named = read_champion(state)
    except ModelError as error:
        log.warning("%s", error)
        return params
    if named is None:
        return params
    promoted = [
        each
        for each in (named.champion, named.previous)
        if champion_folder(state, each.digest).exists()
    ]
    if named.champion not in promoted:
        log.warning(
            "the champion is missing in %s: restore it",
            champion_folder(state, named.champion.digest),
        )
    if not promoted:
        return params
    # 2. The one that the pointer names.
    from cmt.bank.tables import active_compressor, connect

    active = None
    with suppress(BankError):
        active = active_compressor(connect(params.bank.uri))
    chosen = next((each for each in promoted if each.bank == active), promoted[0])
    return params.with_values(compressor={"path": champion_folder(state, chosen.digest)})


class Resources:
    """The resources of one project folder, as rounds, evaluation and reports use them.

    `root`: folder of params.yaml. With `follow` the compressor is that of `with_active_compressor`,
    also after a promotion; otherwise that of `params`. `declared` has the parameters as they were
    given. `lm` and `model`: the frozen LM and the compressor, if they are loaded already. Each
    property raises the CmtError of the package that it opens.
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
        self.declared, self._follow, self._following = params, follow, RLock()
        self.params, self.root = with_active_compressor(params, root) if follow else params, root
        self.state = state_folder(params, root)
        self.lease: Lease | None = None
        """The lease of the bank while `cmt.rounds.recovery.updating` holds it."""
        self.bank_location = BankLocation(
            params.bank.uri, params.bank.exact_below, self.check_lease
        )
        self.forgetting_journal = self.state / "forgetting.json"
        """Exists while documents are being forgotten, see `cmt.rounds.care.forgetting`."""
        self._lm = lm
        # what `reload_if_promoted` opens again
        self._model = model
        self._bank: Bank | None = None
        self._answerer: Answerer | None = None
        self._compressor_digest: str | None = None
        self._checked: tuple[int, int, bool] | None = (
            None  # `_versions` that `active_bank` compared
        )

    # Stream, LM and compressor

    @cached_property
    def store(self) -> SliceStore:
        """The slices of the stream."""
        return SliceStore(path=self.params.stream.path, quarantine=self.params.stream.quarantine)

    @property
    def authority(self) -> Authority:
        """Whose documents each source may supersede, and whose facts it may change."""
        return Authority(self.params.stream.authority, self.params.stream.peers)

    @property
    def lm(self) -> "FrozenLM":
        """The frozen LM. Raises ModelError if it was not pulled."""
        if self._lm is None:
            from cmt.lm.model import FrozenLM
            from cmt.lm.weights import installed

            lm = self.params.lm
            self._lm = FrozenLM.load(installed(source=lm.source, path=lm.path), dtype=lm.dtype)
        return self._lm

    @property
    def model(self) -> "MemoryModel":
        """The compressor in use, with its LoRA adapters merged. Raises ModelError if it does not
        belong to the LM.
        """
        if self._model is None:
            from cmt.modeling.model import MemoryModel

            compressor = self.params.compressor
            self._model = MemoryModel.load(
                compressor.path, lm=self.lm, window=compressor.window, merged=True
            )
            self._compressor_digest = (
                self._model.digest
            )  # of the same files: they are not hashed again
        return self._model

    @property
    def compressor_digest(self) -> str:
        """Digest of the compressor in use, from its files: neither LM nor compressor is loaded.
        Raises ModelError.
        """
        if self._compressor_digest is None:
            from cmt.modeling.checkpoint import digest_in_use

            compressor = self.params.compressor
            self._compressor_digest = digest_in_use(compressor.path, window=compressor.window)
        return self._compressor_digest

    @property
    def row_format(self) -> str:
        """The format of the bank's rows, such as "int8-text". Raises ModelError for a damaged or
        missing codebook.
        """
        from cmt.modeling.codebook import Codebook, stored_codes

        compressor, bank = self.params.compressor, self.params.bank
        codebook = (
            Codebook.load(compressor.path, compressor.window)
            if bank.codes in ("auto", "pq")
            else None
        )
        codes = stored_codes(bank.codes, codebook, keep_text=bank.keep_text)
        return f"{codes}-{'text' if bank.keep_text else 'vectors'}"

    @property
    def encode_batches(self) -> "EncodeBatches | None":
        """The Ray workers that compress documents beside this process; None: this process
        compresses them.
        """
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

    # Bank

    @property
    def bank(self) -> "Bank":
        """The bank of the compressor in use, created if missing. Raises BankError if it cannot be
        opened.
        """
        if self._bank is None:
            from cmt.bank.bank import open_bank
            from cmt.retrieval.indexer import memory_schema

            bank = self.params.bank
            schema = memory_schema(self.model, keep_text=bank.keep_text, number_format=bank.codes)
            self._bank = open_bank(self.bank_location, schema=schema)
        return self._bank

    def open_bank(self, compressor: str | None = None) -> "Bank":
        """The bank of the compressor with this digest, by default of the one that answers.

        Loads no LM, except to create the missing bank of the compressor in use. Raises BankError if
        there is none.
        """
        from cmt.bank.bank import open_bank

        if compressor is not None and compressor == self.compressor_digest:
            return self.bank
        return open_bank(self.bank_location, compressor=compressor)

    def active_bank(self) -> "Bank":
        """The bank of the compressor in use, which has to be the one that answers; never creates a
        bank.

        While a round of another process is undecided, at work or after a kill, it is the bank
        before that round. Searches leave out documents whose forgetting was announced. Raises
        BankError if there is no bank, if another compressor answers that was not promoted, or if
        the rows do not match the section `bank` of params.yaml; DamageError if the bank contradicts
        the ledger.
        """
        with self._following:
            # 1. The compressor, after a promotion the promoted one.
            active, in_use = self.active_compressor, self.model.digest[:12]
            if active != in_use and self.reload_if_promoted():
                active, in_use = self.active_compressor, self.model.digest[:12]
            if active != in_use:
                raise BankError(
                    f"the bank is that of compressor {active}, but {in_use} is in use: "
                    "run `cmt update --all` with it, or put the section compressor back, and start again"
                )
            # 2. The rows that rounds committed, and the calibration that they recorded.
            versions = self._versions()
            changed = versions != self._checked
            if changed:
                self.check_bank()
                undecided = (
                    []
                    if self.lease
                    else [each for each in self.rounds() if each.state == "started"]
                )
                bank = self.bank.at(undecided[0].version_before) if undecided else self.bank
                self._answerer = replace(self.recalibrate(), bank=bank)
                self._checked = versions
            # 3. Without the documents that are being forgotten.
            bank = self.answerer.bank
            if changed or self.forgetting_journal.exists():
                excluded = frozenset(bank.present({*self.forgotten(), *self._announced()}))
                if excluded != bank.excluded_doc_ids:
                    bank = bank.excluding(excluded)
                    self._answerer = replace(self.answerer, bank=bank)
            return bank

    @property
    def active_compressor(self) -> str:
        """First 12 digits of the compressor whose bank answers. Raises BankError if there is no
        bank.
        """
        from cmt.bank.tables import active_compressor

        return active_compressor(self._connection)

    def reload_if_promoted(self) -> bool:
        """Reload after a promotion; return whether the compressor changed."""
        with self._following:
            params = (
                with_active_compressor(self.declared, self.root) if self._follow else self.params
            )
            if params.compressor.path == self.params.compressor.path:
                return False
            self.params = params
            self._model = self._bank = self._answerer = self._compressor_digest = None
            self._checked = None
            return True

    def _versions(self) -> tuple[int, int, bool]:
        """The versions of ledger and bank, and whether this process may change them."""
        ledger = self.ledger.version if Ledger.exists(self.params.bank.uri) else 0
        return ledger, self.bank.version, self.lease is not None

    def read_newest(self) -> None:
        """Let answers come from the newest version of the bank, as the process that changes it
        needs them.
        """
        with self._following:
            if self._answerer is not None:
                bank = self.bank.excluding(self._answerer.bank.excluded_doc_ids)
                self._answerer = replace(self._answerer, bank=bank)

    def check_bank(self, *, idle: bool = False) -> None:
        """Raise DamageError if the bank differs from the ledger's record. `idle`: no round runs, so
        compare more.
        """
        rounds = (
            self.rounds()
        )  # before the bank: another process writes the bank first, then the ledger
        version, rows = self.bank.version_and_rows()
        idle = idle and bool(rounds) and not self.forgotten()
        if problem := contradiction(rounds, version=version, rows=rows, idle=idle):
            raise DamageError(
                f"bank {self.params.bank.uri} {problem}: run `cmt verify`, which says how to repair it"
            )

    def check_lease(self) -> None:
        """Raise RoundError if this process held the bank's lease and lost it; every write begins
        with it.
        """
        if self.lease:
            self.lease.check()

    # Answers

    @property
    def answerer(self) -> "Answerer":
        """Answers questions from the bank of the compressor in use."""
        if self._answerer is None:
            from cmt.answering.answerer import Answerer

            self._answerer = Answerer(
                model=self.model,
                lm=self.lm,
                bank=self.bank,
                params=self.params,
                calibration=self.calibration(),
                changes_of=self.changes,
                may_change=self.authority.may_change,
            )
        return self._answerer

    def current_answerer(self) -> "Answerer":
        """The answerer over `active_bank`; take it once for each batch, so that no answer is from
        two compressors.
        """
        with self._following:
            self.active_bank()
            return self.answerer

    def recalibrate(self) -> "Answerer":
        """Give the answerer the calibration of the latest round; returns it."""
        self._answerer = replace(self.answerer, calibration=self.calibration())
        return self._answerer

    def calibration(self) -> "Calibration":
        """The calibration of the confidence that the latest round in the bank recorded; the neutral
        one before it.
        """
        from cmt.answering.confidence import NO_CALIBRATION, Calibration

        version = self.bank.version
        in_bank = [
            round_
            for round_ in self.rounds()
            if round_.state == "committed"
            or (self.lease and round_.state == "started" and round_.version_before < version)
        ]
        recorded = in_bank[-1].calibration if in_bank else {}
        return Calibration(recorded["slope"], recorded["shift"]) if recorded else NO_CALIBRATION

    @cached_property
    def prompt_cache(self) -> "PromptCache":
        """Earlier answers of the baselines."""
        from cmt.answering.cache import PromptCache

        return PromptCache(self.state / "prompts.sqlite", self.lm)

    # Rounds

    @cached_property
    def ledger(self) -> Ledger:
        """The ledger beside the bank. Raises BankError if there is no bank."""
        return Ledger(self._connection, check_lease=self.check_lease)

    def all_rounds(self) -> list[Round]:
        """The rounds of all compressors, sorted by number; empty before the first."""
        return self.ledger.rounds() if Ledger.exists(self.params.bank.uri) else []

    def record_bank(self, bank: "Bank", compressor: str) -> None:
        """Write rows and digest of the bank of `compressor`, which changed, to its last committed
        round.
        """
        own = [
            r for r in self.all_rounds() if r.compressor == compressor and r.state == "committed"
        ]
        if own:
            self.ledger.write(replace(own[-1], rows=bank.count_rows(), bank_digest=bank.digest()))

    def rounds(self) -> list[Round]:
        """The rounds of the compressor in use, sorted by number; empty before the first."""
        return [
            round_ for round_ in self.all_rounds() if round_.compressor == self.compressor_digest
        ]

    def pending(self) -> list[str]:
        """The slice_ids without a committed or failed round of this compressor and row format.

        The oldest comes first. Slices that the gate refused come last, so that they do not block
        the stream.
        """
        states = {round_.identity: round_.state for round_ in self.rounds()}
        row_format = self.row_format  # read once: it may need the codebook
        found = {
            slice_.slice_id: states.get((slice_.digest, self.compressor_digest, row_format))
            for slice_ in self.store.slices()
        }
        waiting = [
            slice_id for slice_id, state in found.items() if state not in ("committed", "failed")
        ]
        return sorted(waiting, key=lambda slice_id: found[slice_id] == "refused")

    def unbanked(
        self, compressor: str, *, banking: str | None = None, set_aside: Collection[str] = ()
    ) -> "list[Version]":
        """The versions that the bank of `compressor` lacks, for `Bank.upsert`: of slices that wait
        or were refused, of documents that a round set aside, and of forgotten documents.

        `banking`: the slice that is being banked, of which the documents `set_aside` are left out.
        Slices of a later period than all banked ones are left out: nothing banked can name a
        document of theirs. Raises StreamError.
        """
        committed = {
            (round_.slice_id, round_.slice_digest): round_.set_aside
            for round_ in self.all_rounds()
            if round_.compressor == compressor and round_.state == "committed"
        }
        slices = self.store.slices()
        banked = {
            s.slice_id: s.period
            for s in slices
            if (s.slice_id, s.digest) in committed or s.slice_id == banking
        }
        newest = max(banked.values(), default="")
        waiting = [
            version
            for s in slices
            if s.slice_id not in banked and s.period <= newest
            for version in self.store.versions(s)
        ]
        for slice_ in slices:
            left_out = (
                set_aside
                if slice_.slice_id == banking
                else committed.get((slice_.slice_id, slice_.digest))
            )
            if left_out:
                waiting += [
                    version for version in self.store.versions(slice_) if version.doc_id in left_out
                ]
        return [
            version._replace(banked=False) for version in waiting
        ] + self.store.forgotten_versions()

    def forgotten(self) -> list[str]:
        """The doc_ids that must not be banked again, from the stream and from the ledger,
        sorted.
        """
        shared = self.ledger.forgotten() if Ledger.exists(self.params.bank.uri) else []
        return sorted({*self.store.forgotten(), *shared})

    def _announced(self) -> list[str]:
        """The doc_ids of the forgetting at work; none if its journal cannot be read, which `cmt
        verify` reports.
        """
        try:
            return list(read_json(self.forgetting_journal, dict[str, Any])["doc_ids"])
        except (OSError, ValueError, KeyError, TypeError):
            return []

    def changes(self, doc_ids: Collection[str] | None = None) -> list[Change]:
        """The inferred changes of `doc_ids` or of all documents. Ask for a whole batch: it takes
        milliseconds.

        Only the process that changes the bank sees the changes of an undecided round. Changes of
        documents whose forgetting was announced are left out.
        """
        if not Ledger.exists(self.params.bank.uri):
            return []
        announced = set(self._announced())
        found = self.ledger.changes(doc_ids, undecided=self.lease is not None)
        return [change for change in found if announced.isdisjoint(change.doc_ids)]

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

    @cached_property
    def _connection(self) -> "DBConnection":
        from cmt.bank.tables import connect

        return connect(self.params.bank.uri)
