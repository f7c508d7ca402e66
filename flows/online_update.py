"""`prefect deployment run cmt/online-update`: the steps of `cmt update` as tasks, for every pending
slice.
"""

import logging
from contextlib import suppress
from typing import TYPE_CHECKING, Annotated

from prefect import flow
from prefect.artifacts import create_markdown_artifact
from prefect.runtime import flow_run
from pydantic import Field

from cmt.errors import CmtError, RoundError, StreamError
from cmt.evaluation import drift
from cmt.rounds import recovery
from flows.artifacts import artifact_key, drift_report, rejected_report, round_report, rounds_report
from flows.challenger import decide_on_challenger
from flows.events import emit_drift, emit_round
from flows.tasks import PARAMS, cmt_task, quoting_no_rows, workspace

if TYPE_CHECKING:
    from cmt.bank.rounds import Round
    from cmt.rounds.runner import RoundRunner

log = logging.getLogger("cmt.flows")


def runner(
    params: str, slice_id: str, *, prefect_run: str = "", measure_seconds: float | None = None
) -> "RoundRunner":
    """The steps of a round. Imported here, so that `prefect deploy` does not import torch."""
    from cmt.rounds.runner import RoundRunner

    return RoundRunner(
        workspace(params).project,
        slice_id,
        progress=LoggedProgress(slice_id),
        prefect_run=prefect_run,
        measure_seconds=measure_seconds,
    )


class LoggedProgress:
    """Progress of a round as lines of the log: a line for each part of a stage that asks
    questions.
    """

    def __init__(self, slice_id: str) -> None:
        self._title, self._name, self._done = slice_id, "", 0
        self._total: int | None = None

    def stage(self, name: str, total: int | None = None) -> None:
        """Begin a stage."""
        self._name, self._total, self._done = name, total, 0

    def advance(self, n: int, note: str = "") -> None:
        """Log the count of a stage that asks questions."""
        self._done += n
        if self._total and n and self._name in ("canaries", "evaluate"):
            log.info("%s: %s, %d of %d questions", self._title, self._name, self._done, self._total)


@cmt_task(name="ingest")
def ingest(params: str, source: str, publisher: str | None) -> None:
    """Add the files `source` of `publisher` to the stream.

    A relative `source` is relative to the project. Raises StreamError if more than
    `stream.max_rejected` of the rows are rejected; the others are in the stream then.
    """
    project = workspace(params)
    with quoting_no_rows():
        report = project.ingest(source=project.project.root / source, publisher=publisher)
    if report.rejected:
        log.warning("%s: %s", source, report.summary())
        create_markdown_artifact(
            rejected_report(report), key=artifact_key(f"rejected-{source}"), description=source
        )
    limit = project.params.stream.max_rejected
    if report.rejected_fraction > limit:
        raise StreamError(
            f"{source}: {report.rejected_fraction:.0%} of its rows are rejected, more than "
            f"stream.max_rejected ({limit:.0%}); the others are in the stream. "
            f"See {report.quarantine}"
        )


@cmt_task(name="begin")
def begin(params: str, slice_id: str) -> "Round":
    """Open the round in the ledger, after recovering from an interrupted one."""
    round_ = runner(params, slice_id, prefect_run=str(flow_run.id or ""))
    try:
        return round_.begin()
    except (CmtError, OSError) as error:  # the retry of this task is the same attempt
        round_.failed(error)
        raise


@cmt_task(name="report")
def report(params: str, slice_id: str) -> None:
    """Show the round and all rounds as artifacts, and emit its event."""
    rounds = workspace(params).rounds()
    round_ = next(r for r in rounds if r.slice_id == slice_id)
    create_markdown_artifact(
        round_report(round_), key=artifact_key(f"round-{slice_id}"), description=slice_id
    )
    create_markdown_artifact(rounds_report(rounds), key="rounds", description="All rounds")
    emit_round(round_)


@cmt_task(name="find drift")
def find_drift(params: str) -> None:
    """Compare the newest round with earlier ones; warn if its questions are answered worse."""
    compared = drift.find_drift(workspace(params).project)
    if compared is None:
        return
    create_markdown_artifact(drift_report(compared), key="drift", description=compared.slice_id)
    if compared.drifted:
        log.warning("drift: %s", compared)
        emit_drift(compared)


def run_name() -> str:
    """`update-2031-01/0001`, or `update-pending` for every pending slice."""
    return f"update-{flow_run.parameters.get('slice') or 'pending'}"


@flow(name="cmt", flow_run_name=run_name)
def online_update(
    slice: str | None = None,
    source: str | None = None,
    publisher: str | None = None,
    params: str = PARAMS,
    measure_seconds: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None,
) -> list[str]:
    """Run a round for `slice`, or for every pending slice in the order of `History.pending`;
    returns the states.

    `source`: files or a folder to ingest first, relative to the project. `publisher`: see
    `Workspace.ingest`. `measure_seconds`: time limit for measuring a round,
    see `RoundRunner`; null: none. A round that the gate refuses or that
    failed does not stop the others, but fails the flow run at its end.
    """
    if source:  # an empty one would be the project's folder
        ingest(params, source, publisher)
    states: dict[str, str] = {}
    for slice_id in [slice] if slice else workspace(params).pending():
        with recovery.updating(workspace(params).project):
            states[slice_id] = one_round(params, slice_id, measure_seconds)
    if not states:
        log.info("nothing to do: every slice has a committed round")
        workspace(params).activate_if_complete()
    else:
        try:
            decide_on_challenger(params)
        except CmtError as error:  # the rounds are committed; the next one decides
            log.warning("the challenger waits for its decision: %s", error)
    rounds = workspace(params).rounds() if states else []
    if problems := [
        round_.problem for round_ in rounds if round_.slice_id in states and round_.problem
    ]:
        raise RoundError("; ".join(problems))
    return [*states.values()]


def one_round(params: str, slice_id: str, measure_seconds: float | None = None) -> str:
    """All steps of one round; returns its state. A refusal or failure leaves the bank as it was
    before.
    """
    begun = None
    try:
        begun = begin(params, slice_id)
        if begun.already:
            log.info("round %s is committed already", slice_id)
            return "already"
        if begun.state == "failed":
            log.error("round %s failed and the bank was restored: %s", slice_id, begun.reason)
            report(params, slice_id)
            return begun.state
        round_ = runner(params, slice_id, measure_seconds=measure_seconds)
        for step in round_.steps:
            cmt_task(step.name)(step.of(round_))()
    except BaseException as error:  # also a cancellation, which is no attempt
        noted = not begun and isinstance(error, CmtError | OSError)  # by `begin`
        again = not noted and runner(params, slice_id).failed(error)
        with suppress(CmtError):  # the next start recovers
            recovery.recover(workspace(params).project)
        if not again:
            raise
        return one_round(params, slice_id, measure_seconds)
    report(params, slice_id)
    done = round_.row
    if done.state == "committed":
        find_drift(params)
    if done.state == "refused":
        log.warning("%s", done.problem)
    return done.state
