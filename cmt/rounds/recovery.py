"""Changes of a bank outside of rounds: the lock, recovery and rollback.

The ledger is written before the bank is restored or promoted, so an interrupted change can be
completed by the next process.
"""

import logging
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from filelock import FileLock, Timeout

from cmt.bank.ledger import Ledger
from cmt.bank.rounds import Round
from cmt.bank.tables import (
    MEMORIES,
    current_table,
    how_to_refill,
    memory_tables,
    set_current_table,
    table_name,
    translate_errors,
)
from cmt.errors import BankError, CmtError, RoundError, ServiceError
from cmt.modeling.champion import champion_folder, read_champion
from cmt.project import Project

log = logging.getLogger(__name__)

LOCK_SECONDS = 600.0
"""Longest time that an update waits for another one."""


@contextmanager
def updating(project: Project) -> Iterator[None]:
    """Hold the lock and the lease that every change of the bank needs; waits up to LOCK_SECONDS for
    another update.

    The lock is a file of this machine, the lease a row of the bank that other machines see. An
    interrupted forgetting is finished first; if it cannot be, its documents stay hidden and a
    warning says why, because the command may be the one that repairs the bank. The compressor is
    the one that answers by then, see `CompressorInUse.reload_if_promoted`.

    Raises RoundError if another update still holds one of them then, or if the lock file cannot be
    written, and BankError if the lease cannot.
    """
    lock = _locked(project.state / "update.lock")
    try:
        with project.lease.hold(timeout=LOCK_SECONDS):
            _finish_forgetting(project)
            project.active.reload_if_promoted()
            project.active.read_newest()
            yield
    finally:
        lock.release()


def _locked(path: Path) -> FileLock:
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        minutes = LOCK_SECONDS // 60
        log.warning(
            "another update is changing this bank: waiting for it (up to %d minutes)", minutes
        )
        try:
            lock.acquire(timeout=LOCK_SECONDS)
        except Timeout:
            raise RoundError(
                f"another update still holds {path}: wait for it, or end it, and repeat"
            ) from None
    except OSError as error:
        raise RoundError(
            f"{path} cannot be written: {error.strerror or error}; check space and rights"
        ) from error
    return lock


def _finish_forgetting(project: Project) -> None:
    if not project.history.forgetting_journal.exists():
        return
    from cmt.rounds.erasure import finish  # imports torch, which this module does without

    try:
        if report := finish(project):
            log.warning(
                "a forgetting was interrupted: it is finished now, documents: %d",
                len(report.doc_ids),
            )
    except CmtError as error:
        log.warning("documents are still being forgotten, the next command tries again: %s", error)


def recover(project: Project) -> str | None:
    """Undo an interrupted round, or complete an interrupted rollback or promotion; call it inside
    `updating`.

    Every round and rollback starts with it. It covers the rounds of all compressors. Returns a
    description of the interrupted round or rollback, None if there was none.
    """
    message = None
    for round_ in reversed(project.history.all_rounds()):
        if round_.state == "started":
            what = f"round {round_.round_id}"
            reason = "interrupted before its decision"
            recovered = replace(round_, state="interrupted", reason=reason)
        elif round_.state == "rolling_back":
            what = f"the {round_.reason}"
            recovered = replace(round_, state="rolled_back")
        else:
            continue
        restore(project, round_)
        project.ledger.write(recovered)
        message = f"{what} was interrupted: bank restored to version {round_.version_before}"
        log.warning(message)
    activate_if_complete(project)
    return message


def activate_if_complete(project: Project, *, checked: bool = False) -> bool:
    """Let the bank of the compressor in use answer if its rounds cover the stream; call it inside
    `updating`.

    1. List the tables with a committed round: only they may answer.
    2. Read the pointer: which table answers. It is None if it is missing, damaged, or names a table
       that is gone.
    3. Choose the table of the compressor in use if it is complete. The pointer stays while a slice
       of the active bank has a failed round in the new one. A champion also needs `checked`: its
       bank has every slice of the one before it, and its answers were checked
       (`cmt.rounds.recompression`). If nothing answers, choose the table with most rounds.
    4. Set the pointer.

    Neither LM nor compressor is loaded. Returns whether the pointer moved; repeating it changes
    nothing.
    """
    if not project.history.exists:
        return False
    # 1. The tables that may answer.
    ledger = project.ledger
    rounds = ledger.rounds()
    rounds_of = Counter(
        table_name(round_.compressor) for round_ in rounds if round_.state == "committed"
    )
    existing = memory_tables(ledger.connection)
    filled = [name for name in existing if name in rounds_of]
    # 2. The table that answers.
    answering = _answering_table(ledger, existing)
    # 3. Choose one.
    in_use = table_name(project.compressor_digest)
    if _may_take_over(project, in_use in filled, answering, checked=checked):
        if lost := _lost_slices(rounds, answering, in_use):
            log.warning(
                "the bank before it goes on answering: repeat `cmt update --slice %s`, "
                "which failed",
                lost[0],
            )
            return False
        chosen = in_use
    elif filled and answering is None:
        chosen = max(filled, key=lambda name: (rounds_of[name], name == in_use))
    else:
        return False
    # 4. Set the pointer.
    if chosen == answering:
        return False
    problem = f"bank {project.params.bank.uri} cannot be written"
    with translate_errors(problem, "check free space and rights"):
        project.lease.check()
        set_current_table(ledger.connection, chosen, anew=answering is None)
    log.info("the bank of compressor %s answers now", chosen.removeprefix(MEMORIES))
    return True


def _answering_table(ledger: Ledger, existing: Collection[str]) -> str | None:
    """The table that the pointer names; None if it cannot be read, or names a table that is
    gone.
    """
    with suppress(BankError), translate_errors("the pointer cannot be read"):
        name = current_table(ledger.connection)
        return name if name in existing else None
    return None


def _may_take_over(
    project: Project, is_filled: bool, answering: str | None, *, checked: bool
) -> bool:
    """Whether the table of the compressor in use, which has rounds if `is_filled`, is complete and
    need not wait for a check.
    """
    if not is_filled:
        return False
    return checked or not (project.history.pending() or _needs_check(project, answering))


def _needs_check(project: Project, answering: str | None) -> bool:
    """Whether the compressor in use is the champion, and the table `answering` is that of its
    predecessor.
    """
    named = read_champion(project.state)
    if named is None:
        return False
    champion = champion_folder(project.state, named.champion.digest)
    in_use = project.params.compressor.path
    return in_use == champion and answering == table_name(named.previous.bank)


def _lost_slices(rounds: Sequence[Round], answering: str | None, in_use: str) -> list[str]:
    """The slices of the table `answering` whose rounds for the table `in_use` failed."""
    answered, failed = set(), set()
    for round_ in rounds:
        table = table_name(round_.compressor)
        if round_.state == "committed" and table == answering:
            answered.add(round_.slice_id)
        if round_.state == "failed" and table == in_use:
            failed.add(round_.slice_id)
    return sorted(answered & failed)


def restore(project: Project, round_: Round) -> None:
    """Restore the bank to the version before `round_`, then apply what the stream gained since:
    delete the forgotten documents, and follow `supersedes` through the new ones.

    A bank whose table was removed has nothing to restore.
    """
    if table_name(round_.compressor) not in memory_tables(project.ledger.connection):
        return
    bank = project.bank_of(round_.compressor)
    bank.restore(round_.version_before)
    before = bank.version
    bank.remove(project.history.forgotten(), unbanked=project.history.unbanked(round_.compressor))
    if bank.version != before:
        project.history.record_bank(bank, round_.compressor)


def rollback(project: Project, round_id: str) -> Round:
    """Restore the bank to the version before a committed round; this round and all later ones are
    pending again.

    So are the banks of other compressors that have the round; one that cannot be restored keeps it,
    with a warning. Raises RoundError if there is no committed round `round_id`, and BankError if
    the version was dropped.
    """
    with updating(project):
        interrupted = {
            round_.round_id
            for round_ in project.history.all_rounds()
            if round_.state == "rolling_back"
        }
        recover(project)
        reason = f"rollback of {round_id}"
        if round_id not in interrupted:  # otherwise recover() has just completed this rollback
            _roll_back(project, round_id, reason)
        _track_rollback(project, reason)
    return next(round_ for round_ in project.history.rounds() if round_.round_id == round_id)


def _roll_back(project: Project, round_id: str, reason: str) -> None:
    # 1. Check that it can be done before the ledger announces it.
    committed = [round_ for round_ in project.history.all_rounds() if round_.state == "committed"]
    targets = _targets(project, committed, round_id)
    # 2. Announce it in one commit. After a kill, recover() continues from here.
    later = []
    for round_ in committed:
        target = targets.get(round_.compressor)
        if target and round_.number > target.number:
            later.append(replace(round_, state="rolled_back", reason=reason))
    announced = [
        replace(target, state="rolling_back", reason=reason) for target in targets.values()
    ]
    project.ledger.write(*announced, *later)
    # 3. Restore the banks.
    for target in announced:
        restore(project, target)
        project.ledger.write(replace(target, state="rolled_back"))


def _targets(project: Project, committed: Sequence[Round], round_id: str) -> dict[str, Round]:
    """Compressor → its round `round_id`, as far as its bank can be restored."""
    rounds = [round_ for round_ in committed if round_.round_id == round_id]
    in_use = project.compressor_digest
    if all(round_.compressor != in_use for round_ in rounds):
        names = [round_.round_id for round_ in committed if round_.compressor == in_use]
        raise RoundError(
            f"no committed round {round_id!r}; there are: {', '.join(names) or 'none'}"
        )
    return {round_.compressor: round_ for round_ in rounds if _can_restore(project, round_)}


def _track_rollback(project: Project, reason: str) -> None:
    """Record it in MLflow; an unreachable server is a warning."""
    if not project.params.tracking.enabled:
        return
    rounds = [round_ for round_ in project.history.rounds() if round_.state == "rolled_back"]
    rounds = [round_ for round_ in rounds if round_.reason == reason]
    try:
        project.tracker.mark_rolled_back(rounds)
    except ServiceError as error:
        log.warning("MLflow still has the rounds as committed: %s", error)


def _can_restore(project: Project, target: Round) -> bool:
    """Whether the bank of the round `target` still has the version before that round; also True if
    the bank was removed.

    Raises BankError if the version is missing and the round's compressor is in use.
    """
    table = table_name(target.compressor)
    if table not in memory_tables(project.ledger.connection):
        return True
    try:
        project.bank_of(target.compressor).check_version(target.version_before)
    except BankError as error:
        if target.compressor == project.compressor_digest:
            raise BankError(
                f"{error}. To undo it all the same, {how_to_refill(project.params.bank.uri)}"
            ) from None
        log.warning(
            "%s, of a compressor that is not in use, keeps round %s (%s): name a new bank.uri "
            "before it answers again",
            table,
            target.round_id,
            error,
        )
        return False
    return True
