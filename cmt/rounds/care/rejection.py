"""Rejecting inferred changes, and restoring rejected ones."""

from collections.abc import Collection

from cmt.bank.changes import ChangeState
from cmt.errors import RoundError
from cmt.project import Project
from cmt.rounds.recovery import updating


def set_states(
    project: Project, *, reject: Collection[str] = (), restore: Collection[str] = ()
) -> None:
    """Reject changes, and restore rejected ones, by id, in one commit; waits for a running round.

    Raises RoundError if an id is unknown or in both lists; nothing is changed then.
    """
    if both := sorted({*reject} & {*restore}):
        raise RoundError(f"change {both[0]!r} is to be rejected and restored: nothing was changed")
    states: dict[str, ChangeState] = {change_id: "rejected" for change_id in reject}
    states |= {change_id: "found" for change_id in restore}
    with updating(project):
        project.ledger.set_change_states(states)
