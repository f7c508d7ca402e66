"""The bank that answers: it follows a promotion, is checked against the ledger and calibrated."""

from dataclasses import replace
from threading import RLock
from typing import TYPE_CHECKING

from cmt.bank.rounds import contradiction
from cmt.compressor_in_use import CompressorInUse
from cmt.errors import BankError, DamageError
from cmt.history import History
from cmt.stream.admission.authority import Authority

if TYPE_CHECKING:
    from lancedb.table import LanceTable

    from cmt.answering.answerer import Answerer
    from cmt.answering.confidence import Calibration
    from cmt.bank.bank import Bank
    from cmt.bank.location import HeldLease


class ActiveBank:
    """The bank that answers, which is that of the compressor in use.

    Threads may share it. `answerer` and `bank` follow the pointer and check the bank; the other
    methods read what is stored.
    """

    def __init__(
        self,
        compressor: CompressorInUse,
        history: History,
        lease: "HeldLease",
        authority: Authority,
    ) -> None:
        self._compressor, self._history, self._lease = compressor, history, lease
        self._authority = authority
        self._lock = RLock()
        self._answerer: Answerer | None = None
        # versions of ledger and bank that `answerer` compared, and the lease by then
        self._checked: tuple[object, ...] | None = None
        self._pointer: LanceTable | None = None

    def answerer(self) -> "Answerer":
        """The answerer over the bank of the compressor in use, after checking that this bank
        answers; never creates a bank.

        While a round of another process is undecided, at work or after a kill, it is the bank
        before that round. Searches leave out documents whose forgetting was announced. Take it once
        for each batch, so that no answer is from two compressors. Raises BankError if there is no
        bank, if another compressor answers that was not promoted, or if the rows do not match the
        section `bank` of params.yaml; DamageError if the bank contradicts the ledger.
        """
        with self._lock:
            # 1. The compressor, after a promotion the promoted one.
            self._follow_pointer()
            # 2. The rows that rounds committed, and the calibration that they recorded.
            bank = self._compressor.opened.bank
            versions = self._history.versions, bank.version, self._lease.held
            changed = versions != self._checked
            if changed or self._answerer is None:
                self.check()
                self._answerer = replace(self.recalibrate(), bank=self._decided())
                self._checked = versions
            # 3. Without the documents that are being forgotten.
            if changed or self._history.forgetting_journal.exists():
                bank = self._answerer.bank
                hidden = {*self._history.forgotten(), *self._history.announced()}
                self._answerer = replace(self._answerer, bank=bank.excluding(bank.present(hidden)))
            return self._answerer

    def bank(self) -> "Bank":
        """The bank of `answerer`."""
        return self.answerer().bank

    @property
    def unchecked_answerer(self) -> "Answerer":
        """Answers questions from the bank of the compressor in use, even if the pointer names
        another bank.
        """
        if self._answerer is None:
            from cmt.answering.answerer import Answerer

            self._answerer = Answerer(
                model=self._compressor.opened.model,
                lm=self._compressor.lm,
                bank=self._compressor.opened.bank,
                params=self._compressor.opened.params,
                calibration=self.calibration(),
                changes_of=self._history.changes,
                may_change=self._authority.may_change,
            )
        return self._answerer

    @property
    def pointer(self) -> str:
        """First 12 digits of the compressor whose bank answers. Raises BankError if there is no
        bank.
        """
        from cmt.bank.tables import active_compressor, open_pointer

        tables = self._history.tables
        if self._pointer is None:
            self._pointer = open_pointer(tables)
        return active_compressor(tables, self._pointer)

    def stored(self) -> "Bank":
        """The bank that the pointer names, as it is stored: neither loads a model nor checks.
        Raises BankError if there is none.
        """
        from cmt.bank.bank import open_bank

        return open_bank(self._compressor.location)

    def reload_if_promoted(self) -> bool:
        """Reload after a promotion; return whether the compressor changed."""
        with self._lock:
            changed = self._compressor.reload_if_promoted()
            if changed:
                self._answerer = self._checked = None
            return changed

    def read_newest(self) -> None:
        """Let answers come from the newest version of the bank, as the process that changes it
        needs them.
        """
        with self._lock:
            if self._answerer is not None:
                excluded = self._answerer.bank.excluded_doc_ids
                bank = self._compressor.opened.bank.excluding(excluded)
                self._answerer = replace(self._answerer, bank=bank)

    def check(self, *, idle: bool = False) -> None:
        """Raise DamageError if the bank differs from the ledger's record. `idle`: no round runs, so
        compare more.
        """
        # before the bank: another process writes the bank first, then the ledger
        rounds = self._history.rounds()
        version, rows = self._compressor.opened.bank.version_and_rows()
        idle = idle and bool(rounds) and not self._history.forgotten()
        if problem := contradiction(rounds, version=version, rows=rows, idle=idle):
            raise DamageError(
                f"bank {self._compressor.location.uri} {problem}: run `cmt verify`, which says how "
                "to repair it"
            )

    def recalibrate(self) -> "Answerer":
        """Give the answerer the calibration of the latest round; returns it."""
        self._answerer = replace(self.unchecked_answerer, calibration=self.calibration())
        return self._answerer

    def calibration(self) -> "Calibration":
        """The calibration of the confidence that the latest round in the bank recorded; the neutral
        one before it.
        """
        from cmt.answering.confidence import NO_CALIBRATION, Calibration

        version = self._compressor.opened.bank.version
        in_bank = [
            round_
            for round_ in self._history.rounds()
            if round_.state == "committed"
            or (self._lease.held and round_.state == "started" and round_.version_before < version)
        ]
        recorded = in_bank[-1].calibration if in_bank else {}
        return Calibration(recorded["slope"], recorded["shift"]) if recorded else NO_CALIBRATION

    def _follow_pointer(self) -> None:
        """Reload if another compressor was promoted. Raises BankError if the one in use does not
        answer.
        """
        active, in_use = self.pointer, self._compressor.opened.model.digest[:12]
        if active != in_use and self.reload_if_promoted():
            active, in_use = self.pointer, self._compressor.opened.model.digest[:12]
        if active != in_use:
            raise BankError(
                f"the bank is that of compressor {active}, but {in_use} is in use: "
                "run `cmt update --all` with it, or put the section compressor back, and start "
                "again"
            )

    def _decided(self) -> "Bank":
        """The bank without a round of another process that is undecided."""
        bank = self._compressor.opened.bank
        if self._lease.held:
            return bank
        undecided = [round_ for round_ in self._history.rounds() if round_.state == "started"]
        return bank.at(undecided[0].version_before) if undecided else bank
