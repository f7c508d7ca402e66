"""Questions to the ledger: rounds, changes, forgotten and pending documents."""

from collections.abc import Collection
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cmt.bank.changes import Change
from cmt.bank.ledger import Ledger
from cmt.bank.rounds import Round
from cmt.common.storage import read_json
from cmt.compressor_in_use import CompressorInUse
from cmt.stream.store import SliceStore
from cmt.timeline import Version

if TYPE_CHECKING:
    from lancedb.db import DBConnection

    from cmt.bank.bank import Bank
    from cmt.bank.location import HeldLease


class History:
    """What a project did with its stream, from the ledger; empty before the first round.

    Raises BankError if the ledger cannot be read, and DamageError if a row of it is damaged.
    """

    def __init__(
        self, store: SliceStore, compressor: CompressorInUse, lease: "HeldLease", state: Path
    ) -> None:
        self._store, self._compressor, self._lease = store, compressor, lease
        self._uri = compressor.location.uri
        self.forgetting_journal = state / "forgetting.json"
        """Exists while documents are being forgotten, see `cmt.rounds.erasure`."""

    @cached_property
    def tables(self) -> "DBConnection":
        """The tables of banks and ledger. Raises BankError if there are none."""
        from cmt.bank.tables import connect

        return connect(self._uri)

    @cached_property
    def ledger(self) -> Ledger:
        """The ledger next to the bank. Raises BankError if there is no bank."""
        return Ledger(self.tables, check_lease=self._lease.check)

    @property
    def exists(self) -> bool:
        """Whether there is a ledger; creates nothing. Raises BankError."""
        return "ledger" in vars(self) or Ledger.exists(self._uri)

    @property
    def versions(self) -> tuple[int, int]:
        """The versions of rounds and changes in the ledger; 0 without a ledger."""
        return self.ledger.versions if self.exists else (0, 0)

    # Rounds

    def all_rounds(self) -> list[Round]:
        """The rounds of all compressors, sorted by number; empty before the first."""
        return self.ledger.rounds() if self.exists else []

    def rounds(self) -> list[Round]:
        """The rounds of the compressor in use, sorted by number; empty before the first."""
        return [
            round_
            for round_ in self.all_rounds()
            if round_.compressor == self._compressor.opened.digest
        ]

    def record_bank(self, bank: "Bank", compressor: str) -> None:
        """Write rows and digest of the bank of `compressor`, which changed, to its last committed
        round.
        """
        committed = [
            round_
            for round_ in self.all_rounds()
            if round_.compressor == compressor and round_.state == "committed"
        ]
        if committed:
            changed = replace(committed[-1], rows=bank.count_rows(), bank_digest=bank.digest())
            self.ledger.write(changed)

    # Slices and documents

    def pending(self) -> list[str]:
        """The slice_ids without a committed or failed round of this compressor and row format.

        The oldest comes first. Slices that the gate refused come last, so that they do not block
        the stream.
        """
        states = {round_.identity: round_.state for round_ in self.rounds()}
        compressor = self._compressor.opened
        row_format = compressor.row_format  # read once: it may need the codebook
        waiting, refused = list[str](), list[str]()
        for slice_ in self._store.slices():
            state = states.get((slice_.digest, compressor.digest, row_format))
            if state == "refused":
                refused.append(slice_.slice_id)
            elif state not in ("committed", "failed"):
                waiting.append(slice_.slice_id)
        return waiting + refused

    def unbanked(
        self, compressor: str, *, banking: str | None = None, set_aside: Collection[str] = ()
    ) -> list[Version]:
        """The versions that the bank of `compressor` lacks, for `Bank.upsert`: of slices that wait
        or were refused, of documents that a round set aside, and of forgotten documents.

        `banking`: the slice that is being banked, of which the documents `set_aside` are left out.
        Slices of a later period than all banked ones are left out: nothing banked can name a
        document of theirs. Raises StreamError.
        """
        # 1. The slices that the bank has, with the documents that their rounds set aside.
        set_aside_by = {
            (round_.slice_id, round_.slice_digest): round_.set_aside
            for round_ in self.all_rounds()
            if round_.compressor == compressor and round_.state == "committed"
        }
        slices = self._store.slices()
        banked: dict[str, Collection[str]] = {}
        newest = ""
        for slice_ in slices:
            key = slice_.slice_id, slice_.digest
            if slice_.slice_id == banking:
                banked[slice_.slice_id] = set_aside
            elif key in set_aside_by:
                banked[slice_.slice_id] = set_aside_by[key]
            else:
                continue
            newest = max(newest, slice_.period)
        # 2. The versions of the other slices, then of the documents that were set aside.
        waiting, left_out = list[Version](), list[Version]()
        for slice_ in slices:
            if slice_.slice_id not in banked:
                if slice_.period <= newest:
                    waiting += self._store.versions(slice_)
            elif doc_ids := banked[slice_.slice_id]:
                for version in self._store.versions(slice_):
                    if version.doc_id in doc_ids:
                        left_out.append(version)
        unbanked = [version._replace(banked=False) for version in waiting + left_out]
        # 3. Forgotten documents.
        return unbanked + self._store.forgotten_versions()

    def forgotten(self) -> list[str]:
        """The doc_ids that must not be banked again, from the stream and from the ledger,
        sorted.
        """
        shared = self.ledger.forgotten() if self.exists else []
        return sorted({*self._store.forgotten(), *shared})

    def announced(self) -> list[str]:
        """The doc_ids of the forgetting at work; none if its journal cannot be read, which `cmt
        verify` reports.
        """
        try:
            return list(read_json(self.forgetting_journal, dict[str, Any])["doc_ids"])
        except (OSError, ValueError, KeyError, TypeError):
            return []

    def changes(self, doc_ids: Collection[str] | None = None) -> list[Change]:
        """The inferred changes of `doc_ids` or of all documents, sorted by `holds_from`. Ask for a
        whole batch: it takes milliseconds.

        Only the process that changes the bank sees the changes of an undecided round. Changes of
        documents whose forgetting was announced are left out.
        """
        if not self.exists:
            return []
        announced = set(self.announced())
        changes = self.ledger.changes(doc_ids, undecided=self._lease.held is not None)
        return [change for change in changes if announced.isdisjoint(change.doc_ids)]
