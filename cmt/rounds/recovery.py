"""Changes of a bank outside of rounds: the lock, recovery and rollback.

The ledger is written before the bank is restored or promoted, so an interrupted change can be
completed by the next process.
"""

import logging
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace

from filelock import FileLock, Timeout

from cmt.bank.ledger import Ledger
from cmt.bank.rounds import Round
from cmt.errors import BankError, CmtError, RoundError, ServiceError
from cmt.project import Project

log = logging.getLogger(__name__)

LOCK_SECONDS = 600.0
"""Longest time that an update waits for another one."""


@contextmanager
def updating(project: Project) -> Iterator[None]:
    """Hold the lock and the lease that every change of the bank needs; waits up to LOCK_SECONDS for
    another update.

    The lock is a file of this machine, the lease a row of the bank that other machines see. A
    forgetting that was interrupted is finished first; if it cannot be, its documents stay hidden
    and a warning says why, because the command may be the one that repairs the bank. The compressor
    is the one that answers by then, see `CompressorInUse.reload_if_promoted`.

    Raises RoundError if another update still holds one of them then, or if the lock file cannot be
    written, and BankError if the lease cannot.
    """
    from cmt.rounds.care import forgetting

    path = project.state / "update.lock"
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        log.warning(
            "another update is changing this bank: waiting for it (up to %d minutes)",
            LOCK_SECONDS // 60,
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
    try:
        with project.lease.hold(timeout=LOCK_SECONDS):
            try:
                if report := forgetting.finish(project):
                    log.warning(
                        "a forgetting was interrupted: it is finished now, documents: %d",
                        len(report.doc_ids),
                    )
            except CmtError as error:
                log.warning(
                    "documents are still being forgotten, the next command tries again: %s", error
                )
            project.active.reload_if_promoted()
            project.active.read_newest()
            yield
    finally:
        lock.release()


def recover(project: Project) -> str | None:
    """Undo an interrupted round, or complete an interrupted rollback or promotion; call it inside
    `updating`.

    Every round and rollback starts with it. It covers the rounds of all compressors. Returns a
    description of the interrupted round or rollback, None if there was none.
    """
    message = None
    for round_ in reversed(project.history.all_rounds()):
        if round_.state == "started":
            message = f"round {round_.round_id} was interrupted: bank restored to version {round_.version_before}"
            recovered = replace(
                round_, state="interrupted", reason="interrupted before its decision"
            )
        elif round_.state == "rolling_back":
            message = f"the {round_.reason} was interrupted: bank restored to version {round_.version_before}"
            recovered = replace(round_, state="rolled_back")
        else:
            continue
        restore(project, round_)
        project.ledger.write(recovered)
        log.warning(message)
    move_pointer(project)
    return message


def move_pointer(project: Project, *, checked: bool = False) -> bool:
    """Let the bank of the compressor in use answer if its rounds cover the stream; call it inside
    `updating`.

    It waits for slices that the table which answers has and whose rounds failed. The champion waits
    for `checked`: that its bank has every slice of the one before it, and that its answers were
    checked (`cmt.rounds.recompression`). A pointer that is missing, damaged, or names a missing
    table is set again from the ledger. Neither LM nor compressor is loaded. Returns whether the
    pointer moved; repeating it changes nothing.
    """
    from cmt.bank import tables

    if not Ledger.exists(project.params.bank.uri):
        return False
    # 1. The tables that may answer: those with a committed round.
    ledger = project.ledger
    rounds = ledger.rounds()
    committed = [round_ for round_ in rounds if round_.state == "committed"]
    rounds_of = Counter(tables.table_name(round_.compressor) for round_ in committed)
    existing = tables.memory_tables(ledger.connection)
    filled = [name for name in existing if name in rounds_of]
    # 2. The table that answers; None if the pointer is missing, damaged, or names a table that is
    #    gone.
    answering = None
    with suppress(BankError), tables.translate_errors("the pointer cannot be read"):
        name = tables.current_table(ledger.connection)
        answering = name if name in existing else None
    # 3. Choose one.
    in_use = tables.table_name(project.compressor_digest)
    complete = in_use in filled and (checked or not project.history.pending())
    if complete and (checked or not _waits(project, answering)):
        answered = {
            round_.slice_id
            for round_ in committed
            if tables.table_name(round_.compressor) == answering
        }
        failed = [
            r.slice_id
            for r in rounds
            if r.state == "failed" and tables.table_name(r.compressor) == in_use
        ]
        if lost := sorted(answered.intersection(failed)):
            log.warning(
                "the bank before it goes on answering: repeat `cmt update --slice %s`, which failed",
                lost[0],
            )
            return False
        chosen = in_use
    elif filled and answering is None:
        chosen = max(filled, key=lambda name: (rounds_of[name], name == in_use))
    else:
        return False
    # 4. Move the pointer.
    if chosen == answering:
        return False
    with tables.translate_errors(
        f"bank {project.params.bank.uri} cannot be written", "check free space and rights"
    ):
        project.lease.check()
        tables.set_current_table(ledger.connection, chosen, anew=answering is None)
    log.info("the bank of compressor %s answers now", chosen.removeprefix(tables.MEMORIES))
    return True


def restore(project: Project, round_: Round) -> None:
    """Restore the bank to the version before `round_`, then apply what the stream gained since:
    delete the forgotten documents, and follow `supersedes` through the new ones.

    A bank whose table was removed has nothing to restore.
    """
    from cmt.bank.tables import memory_tables, table_name

    if table_name(round_.compressor) not in memory_tables(project.ledger.connection):
        return
    bank = project.bank_of(round_.compressor)
    bank.restore(round_.version_before)
    before = bank.version
    bank.remove(project.history.forgotten(), unbanked=project.history.unbanked(round_.compressor))
    if bank.version != before:
        project.history.record_bank(bank, round_.compressor)


def _waits(project: Project, answering: str | None) -> bool:
    """Whether the compressor in use is the champion, and the one before it answers, whose table is
    `answering`.
    """
    from cmt.bank.tables import table_name
    from cmt.modeling.champion import champion_folder, read_champion

    named = read_champion(project.state)
    if named is None:
        return False
    champion = champion_folder(project.state, named.champion.digest)
    return project.params.compressor.path == champion and answering == table_name(
        named.previous.bank
    )


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
        # Record it in MLflow; an unreachable server is a warning.
        rounds = [
            round_
            for round_ in project.history.rounds()
            if round_.state == "rolled_back" and round_.reason == reason
        ]
        if project.params.tracking.enabled:
            try:
                project.tracker.mark_rolled_back(rounds)
            except ServiceError as error:
                log.warning("MLflow still has the rounds as committed: %s", error)
    return next(round_ for round_ in project.history.rounds() if round_.round_id == round_id)


def _roll_back(project: Project, round_id: str, reason: str) -> None:
    # 1. Check that it can be done before the ledger announces it.
    committed = [round_ for round_ in project.history.all_rounds() if round_.state == "committed"]
    targets = {round_.compressor: round_ for round_ in committed if round_.round_id == round_id}
    if project.compressor_digest not in targets:
        names = (
            ", ".join(
                round_.round_id
                for round_ in project.history.rounds()
                if round_.state == "committed"
            )
            or "none"
        )
        raise RoundError(f"no committed round {round_id!r}; there are: {names}")
    targets = {
        compressor: target
        for compressor, target in targets.items()
        if _can_restore(project, target)
    }
    # 2. Announce it in one commit. After a kill, recover() continues from here.
    later = [
        replace(round_, state="rolled_back", reason=reason)
        for round_ in committed
        if round_.compressor in targets and round_.number > targets[round_.compressor].number
    ]
    announced = [
        replace(target, state="rolling_back", reason=reason) for target in targets.values()
    ]
    project.ledger.write(*announced, *later)
    # 3. Restore the banks.
    for target in announced:
        restore(project, target)
        project.ledger.write(replace(target, state="rolled_back"))


def _can_restore(project: Project, target: Round) -> bool:
    """Whether the bank of `target` has the version before it, or was removed. Raises BankError for
    the one in use.
    """
    from cmt.bank.tables import how_to_refill, memory_tables, table_name

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
            "%s, of a compressor that is not in use, keeps round %s (%s): name a new bank.uri before it answers again",
            table,
            target.round_id,
            error,
        )
        return False
    return True
