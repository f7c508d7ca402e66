"""Changes of a bank besides rounds: the lock, recovery after an interruption, rollback and forgetting.

The ledger is written before the bank is restored, so whoever finds an interrupted change can finish it.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from filelock import FileLock, Timeout

from cmt.bank.ledger import Round
from cmt.errors import BankError, RoundError, ServiceError
from cmt.resources import Resources

log = logging.getLogger(__name__)

LOCK_SECONDS = 600.0


@contextmanager
def updating(resources: Resources) -> Iterator[None]:
    """Hold the right to change the bank; waits for another update, then RoundError."""
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
        yield
    finally:
        lock.release()


def recover(resources: Resources) -> str | None:
    """Undo what an interrupted round left in the bank, or finish an interrupted rollback.

    Returns what was found, None when all is well. Rounds and rollbacks begin with it; call it inside `updating`.
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
    return message


def restore(resources: Resources, version: int) -> None:
    """Bring back a version of the bank, without the documents that were forgotten since."""
    resources.bank.restore(version)
    for doc_id in resources.forgotten():
        if resources.bank.has(doc_id):
            resources.bank.forget(doc_id)


def rollback(resources: Resources, round_id: str) -> Round:
    """Restore the bank to the version before a committed round; it and all later ones are pending afterwards.

    RoundError when there is no such committed round.
    """
    with updating(resources):
        unfinished = {r.round_id for r in resources.rounds() if r.state == "rolling_back"}
        recover(resources)
        if round_id not in unfinished:
            _roll_back(resources, round_id)
        _track_rollback(resources, round_id)
    return next(r for r in resources.rounds() if r.round_id == round_id)


def forget(resources: Resources, doc_id: str) -> int:
    """Remove a document's memories from every bank of the stream, for good; returns how many rows were removed.

    No later rollback, round or re-compression brings it back. A document whose round is still pending has no memories
    and gets none. BankError when neither bank nor stream knows it.
    """
    with updating(resources):
        # 1. who has it
        holding = [bank for bank in resources.banks() if bank.has(doc_id)]
        if not holding and doc_id not in resources.store.all_documents()["doc_id"].to_pylist():
            raise BankError(
                f"document {doc_id!r} is neither in bank {resources.params.bank.uri} nor in "
                f"{resources.params.stream.path}: nothing was forgotten"
            )
        # 2. remember it, for banks to come and for other projects that share this bank
        resources.store.forget(doc_id)
        resources.ledger.forget(doc_id)
        # 3. remove it
        return sum(bank.forget(doc_id) for bank in holding)


def _roll_back(resources: Resources, round_id: str) -> None:
    committed = [r for r in resources.rounds() if r.state == "committed"]
    target = next((r for r in committed if r.round_id == round_id), None)
    if target is None:
        names = ", ".join(r.round_id for r in committed) or "none"
        raise RoundError(f"no committed round {round_id!r}; there are: {names}")
    resources.bank.check_version(target.version_before)  # before the ledger announces what cannot be done
    reason = _rollback_of(round_id)
    later = [replace(r, state="rolled_back", reason=reason) for r in committed if r.number > target.number]
    # one commit: whoever finds it after a kill goes on with the restore
    resources.ledger.write(replace(target, state="rolling_back", reason=reason), *later)
    restore(resources, target.version_before)
    resources.ledger.write(replace(target, state="rolled_back", reason=reason))


def _track_rollback(resources: Resources, round_id: str) -> None:
    """Record the rollback in MLflow; a server that cannot be reached is a warning."""
    reason = _rollback_of(round_id)
    rolled_back = [r for r in resources.rounds() if r.state == "rolled_back" and r.reason == reason]
    if resources.params.tracking.enabled:
        try:
            resources.tracker.take_back(rolled_back)
        except ServiceError as error:
            log.warning("MLflow still has the rounds as committed: %s", error)


def _rollback_of(round_id: str) -> str:
    return f"rollback of {round_id}"
