"""Changes of a bank outside of rounds: the lock, recovery, rollback and forgetting.

The ledger is written before the bank is restored or promoted, so an interrupted change can be completed by the next
process.
"""

import logging
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from filelock import FileLock, Timeout

from cmt.bank.ledger import Ledger, Round
from cmt.errors import BankError, RoundError, ServiceError
from cmt.resources import Resources

if TYPE_CHECKING:
    from lancedb.db import DBConnection

log = logging.getLogger(__name__)

LOCK_SECONDS = 600.0
"""Longest time that an update waits for another one."""


@contextmanager
def updating(resources: Resources) -> Iterator[None]:
    """Hold the lock and the lease that every change of the bank needs; waits up to LOCK_SECONDS for another update.

    The lock is a file of this machine, the lease a row of the bank that other machines see. Raises RoundError if
    another update still holds one of them then, or if the lock file cannot be written, and BankError if the lease
    cannot.
    """
    from cmt.bank.lease import held

    path = resources.state / "update.lock"
    lock = FileLock(path)
    try:
        resources.state.mkdir(parents=True, exist_ok=True)
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
        with held(resources.params.bank.uri, timeout=LOCK_SECONDS) as resources.lease:
            yield
    finally:
        resources.lease = None
        lock.release()


def recover(resources: Resources) -> str | None:
    """Undo an interrupted round, or complete an interrupted rollback or promotion; call it inside `updating`.

    Every round and rollback starts with it. Returns a description of the interrupted round or rollback, None if there
    was none.
    """
    message = None
    for round_ in reversed(resources.rounds()):
        if round_.state == "started":
            message = f"round {round_.round_id} was interrupted: bank restored to version {round_.version_before}"
            recovered = replace(round_, state="interrupted", reason="interrupted before its decision")
        elif round_.state == "rolling_back":
            message = f"the {round_.reason} was interrupted: bank restored to version {round_.version_before}"
            recovered = replace(round_, state="rolled_back")
        else:
            continue
        restore(resources, round_.version_before)
        resources.ledger.write(recovered)
        log.warning(message)
    promote(resources)
    return message


def promote(resources: Resources) -> bool:
    """Let the bank of the compressor in use answer if its rounds cover the stream; call it inside `updating`.

    A pointer that is missing, damaged, or names a missing table is set again from the ledger. Neither LM nor compressor
    is loaded. Returns whether the pointer moved; repeating it changes nothing.
    """
    from cmt.bank.tables import MEMORIES, drop_pointer, memory_tables, set_current_table, translate_errors

    if not Ledger.exists(resources.params.bank.uri):
        return False
    # 1. The tables that may answer: those with a committed round.
    ledger = resources.ledger
    committed = [round_ for round_ in ledger.rounds() if round_.state == "committed"]
    rounds_of = Counter(f"{MEMORIES}{round_.compressor[:12]}" for round_ in committed)
    tables = [name for name in memory_tables(ledger.connection) if name in rounds_of]
    # 2. Choose one.
    in_use, answering = f"{MEMORIES}{resources.compressor_digest[:12]}", _answering(ledger.connection)
    if in_use in tables and not resources.pending():
        chosen = in_use
    elif tables and answering is None:
        chosen = max(tables, key=lambda name: (rounds_of[name], name == in_use))
    else:
        return False
    # 3. Move the pointer.
    if chosen == answering:
        return False
    with translate_errors(f"bank {resources.params.bank.uri} cannot be written", "check free space and rights"):
        resources.check_lease()
        if answering is None:
            drop_pointer(ledger.connection)
        set_current_table(ledger.connection, chosen)
    log.info("the bank of compressor %s answers now", chosen.removeprefix(MEMORIES))
    return True


def restore(resources: Resources, version: int) -> None:
    """Restore a version of the bank, then delete the documents that were forgotten since."""
    resources.bank.restore(version)
    for doc_id in resources.forgotten():
        if resources.bank.has(doc_id):
            resources.bank.forget(doc_id)


def rollback(resources: Resources, round_id: str) -> Round:
    """Restore the bank to the version before a committed round; this round and all later ones are pending again.

    Raises RoundError if there is no committed round `round_id`, and BankError if the version was dropped.
    """
    with updating(resources):
        interrupted = {round_.round_id for round_ in resources.rounds() if round_.state == "rolling_back"}
        recover(resources)
        if round_id not in interrupted:  # otherwise recover() has just completed this rollback
            _roll_back(resources, round_id)
        _track_rollback(resources, round_id)
    return next(round_ for round_ in resources.rounds() if round_.round_id == round_id)


def forget(resources: Resources, doc_id: str) -> int:
    """Delete the memories of a document from all banks of the stream, for good; returns the number of deleted rows.

    No later rollback, round or recompression brings it back. A document whose round is pending has no rows yet and
    will get none. Raises BankError if neither a bank nor the stream has the document.
    """
    with updating(resources):
        # 1. Find the banks that have it.
        banks = [bank for bank in resources.banks() if bank.has(doc_id)]
        if not banks and doc_id not in resources.store.all_documents()["doc_id"].to_pylist():
            raise BankError(
                f"document {doc_id!r} is neither in bank {resources.params.bank.uri} nor in "
                f"{resources.params.stream.path}: nothing was forgotten"
            )
        # 2. Record it in the stream for future banks, and in the ledger for other projects that share this bank.
        resources.store.forget(doc_id)
        resources.ledger.forget(doc_id)
        # 3. Delete its rows.
        return sum(bank.forget(doc_id) for bank in banks)


def _answering(connection: "DBConnection") -> str | None:
    """Name of the table that answers; None if the pointer is missing, damaged, or names a table that is gone."""
    from cmt.bank.tables import current_table, memory_tables, translate_errors

    with suppress(BankError), translate_errors("the pointer cannot be read"):
        name = current_table(connection)
        return name if name in memory_tables(connection) else None
    return None


def _roll_back(resources: Resources, round_id: str) -> None:
    # 1. Check that it can be done before the ledger announces it.
    committed = [round_ for round_ in resources.rounds() if round_.state == "committed"]
    target = next((round_ for round_ in committed if round_.round_id == round_id), None)
    if target is None:
        names = ", ".join(round_.round_id for round_ in committed) or "none"
        raise RoundError(f"no committed round {round_id!r}; there are: {names}")
    resources.bank.check_version(target.version_before)
    # 2. Announce it in one commit. After a kill, recover() continues from here.
    reason = _reason(round_id)
    later = [
        replace(round_, state="rolled_back", reason=reason) for round_ in committed if round_.number > target.number
    ]
    resources.ledger.write(replace(target, state="rolling_back", reason=reason), *later)
    # 3. Restore the bank.
    restore(resources, target.version_before)
    resources.ledger.write(replace(target, state="rolled_back", reason=reason))


def _track_rollback(resources: Resources, round_id: str) -> None:
    """Record the rollback in MLflow; an unreachable server is a warning."""
    reason = _reason(round_id)
    rounds = [round_ for round_ in resources.rounds() if round_.state == "rolled_back" and round_.reason == reason]
    if resources.params.tracking.enabled:
        try:
            resources.tracker.take_back(rounds)
        except ServiceError as error:
            log.warning("MLflow still has the rounds as committed: %s", error)


def _reason(round_id: str) -> str:
    return f"rollback of {round_id}"
