"""`prefect deployment run cmt/sync`: synchronise the stream with its sources, then run the rounds.

`python -m flows.sync` gives the deployment a schedule for each source that has one in params.yaml.
"""

import asyncio
import logging
import os
from typing import Any

from prefect import flow
from prefect.artifacts import create_markdown_artifact
from prefect.blocks.system import Secret
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import DeploymentScheduleCreate
from prefect.client.schemas.schedules import CronSchedule
from prefect.runtime import flow_run

from cmt.errors import CmtError, ConfigError, StreamError
from cmt.sources.sync import SyncReport
from cmt.stream.admission.report import without_values
from cmt.text.display import counted
from flows.artifacts import artifact_key, table
from flows.online_update import online_update
from flows.tasks import PARAMS, cmt_task, quoting_no_rows, workspace

log = logging.getLogger("cmt.flows")


def load_secret(name: str) -> str:
    """The value of the Secret block in place of the environment variable `name`. Raises ConfigError
    without one.
    """
    key = artifact_key(name)
    try:
        block: Any = Secret.load(key)
    except ValueError as error:
        raise ConfigError(
            f"${{{name}}} has no value: set the environment variable {name}, or save a Secret "
            f"block {key!r}"
        ) from error
    return str(block.get())


@cmt_task(name="sync")
def sync_source(params: str, name: str, accept_vanished: bool) -> SyncReport:
    """Synchronise the stream with one source, and show its counts and problems as an artifact."""
    opened = workspace(params)
    names = [
        variable
        for source in opened.params.sources
        if source.name == name
        for variable in source.secret_names
    ]
    secrets = {variable: load_secret(variable) for variable in names if variable not in os.environ}
    with quoting_no_rows():
        report = opened.sync(name, accept_vanished=accept_vanished, secrets=secrets)
    lines = [
        table(["", name], [[count, f"{value:,}"] for count, value in report.counts().items()]),
        "",
    ]
    lines += [
        f"    {without_values(problem)}" for problem in report.problems
    ]  # indented: no markup
    create_markdown_artifact("\n".join(lines), key=artifact_key(f"sync-{name}"), description=name)
    if report.refused or report.failed:
        log.warning(
            "source %s: %d rows refused, %d items failed", name, report.refused, report.failed
        )
    return report


def run_name() -> str:
    """`sync-news`, or `sync-all` for every source."""
    return f"sync-{flow_run.parameters.get('source') or 'all'}"


@flow(name="cmt", flow_run_name=run_name)
def sync(
    source: str | None = None, accept_vanished: bool = False, params: str = PARAMS
) -> list[str]:
    """Sync `source`, or every source of params.yaml, and run a round for every pending slice;
    returns their states.

    A source that cannot be opened or listed, lost too much, or has items that could not be fetched,
    fails the run at its end.
    """
    errors: list[str] = []
    for name in [source] if source else [each.name for each in workspace(params).params.sources]:
        try:
            report = sync_source(params, name, accept_vanished)
            if report.failed:
                failed = counted(report.failed, "item")
                raise StreamError(f"{name}: {failed} could not be fetched: repeat it later")
        except CmtError as error:
            log.error("%s", error)
            errors.append(str(error))
    states = list[str]()
    try:
        states = online_update(params=params)
    except CmtError as error:
        if not errors:
            raise
        errors.append(str(error))
    if errors:
        raise StreamError("; ".join(errors))
    return states


async def schedule(params: str) -> int:
    """Replace the schedules of `cmt/sync` by the schedules of the sources; returns their number."""
    wanted = [
        DeploymentScheduleCreate(
            schedule=CronSchedule(cron=source.schedule, timezone="UTC"),
            active=True,
            slug=artifact_key(source.name),
            parameters={"source": source.name},
        )
        for source in workspace(params).params.sources
        if source.schedule
    ]
    async with get_client() as client:
        deployment = await client.read_deployment_by_name("cmt/sync")
        for old in await client.read_deployment_schedules(deployment.id):
            await client.delete_deployment_schedule(deployment.id, old.id)
        if wanted:
            await client.create_deployment_schedules(deployment.id, wanted)
    return len(wanted)


if __name__ == "__main__":
    print(f"cmt/sync has {asyncio.run(schedule(PARAMS))} schedules")
