"""`prefect deployment run cmt/online-update`: the steps of `cmt update` as tasks, for every slice that waits."""

import logging
from contextlib import suppress
from pathlib import Path

from prefect import flow
from prefect.artifacts import create_markdown_artifact
from prefect.runtime import flow_run

from cmt.bank.ledger import Round
from cmt.errors import CmtError, RoundError
from cmt.rounds.runner import RoundRunner
from flows.artifacts import artifact_key, round_report, rounds_report
from flows.tasks import step, workspace

log = logging.getLogger("cmt.flows")


@step(name="ingest")
def ingest(params: str, source: str) -> list[str]:
    """Take `source` into the stream; the new slices."""
    return [slice_.slice_id for slice_ in workspace(params).ingest(source=Path(source)).slices]


@step(name="begin")
def begin(params: str, slice_id: str) -> Round:
    """Open the round, after putting right what an interrupted one left."""
    return RoundRunner(workspace(params), slice_id, prefect_run=str(flow_run.id or "")).begin()


@step(name="compress")
def compress(params: str, slice_id: str) -> str:
    """Documents → memories, staged; the file."""
    return str(RoundRunner(workspace(params), slice_id).compress())


@step(name="bank")
def bank(params: str, slice_id: str) -> int:
    """Upsert the staged memories; the bank's version."""
    return RoundRunner(workspace(params), slice_id).bank()


@step(name="evaluate")
def evaluate(params: str, slice_id: str) -> dict[str, float | None]:
    """Ask the month's questions and a sample of earlier ones; the scores."""
    return RoundRunner(workspace(params), slice_id).evaluate()


@step(name="decide")
def decide(params: str, slice_id: str) -> str:
    """The gate: commit, or put the bank back; the round's state."""
    return RoundRunner(workspace(params), slice_id).decide().state


@step(name="track")
def track(params: str, slice_id: str) -> Round:
    """Record the round in MLflow."""
    return RoundRunner(workspace(params), slice_id).track()


@step(name="report")
def report(params: str, slice_id: str) -> None:
    """The round, and the curve of all, as artifacts in the UI."""
    rounds = workspace(params).rounds()
    round_ = next(r for r in rounds if r.slice_id == slice_id)
    create_markdown_artifact(round_report(round_), key=artifact_key(f"round-{slice_id}"), description=slice_id)
    create_markdown_artifact(rounds_report(rounds), key="rounds", description="All rounds and their curve")


def run_name() -> str:
    """`update-2031-01/0001`, or `update-waiting` for all that wait."""
    return f"update-{flow_run.parameters.get('slice') or 'waiting'}"


@flow(name="cmt", flow_run_name=run_name)
def online_update(slice: str | None = None, source: str | None = None, params: str = "params.yaml") -> list[str]:
    """A round for `slice`, or for every slice that waits, oldest first; the state of each.

    `source`: a file or folder in stream.format to ingest before. The run fails when a round is refused by its gate.
    """
    if source is not None:
        ingest(params, source)
    states = []
    for slice_id in [slice] if slice else workspace(params).pending():
        with workspace(params).updating():
            states.append(one_round(params, slice_id))
    if not states:
        log.info("nothing to do: every slice has its round")
    return states


def one_round(params: str, slice_id: str) -> str:
    """All steps of one round; what goes wrong leaves the bank as it was before it."""
    if begin(params, slice_id).already:
        log.info("round %s is already there", slice_id)
        return "already"
    try:
        compress(params, slice_id)
        bank(params, slice_id)
        evaluate(params, slice_id)
        decide(params, slice_id)
    except Exception:
        with suppress(CmtError):  # the next start tries again
            workspace(params).recover()
        raise
    done = track(params, slice_id)
    report(params, slice_id)
    if done.state == "refused":
        raise RoundError(f"round {slice_id} was refused and the bank put back: {done.reason}")
    return done.state
