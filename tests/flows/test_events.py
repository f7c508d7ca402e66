"""Events of the pipeline in Prefect's feed, and the decision on a challenger after a round."""

import time
from pathlib import Path
from typing import Any

import yaml
from prefect.client.orchestration import get_client
from prefect.events.schemas.deployment_triggers import DeploymentEventTrigger

from cmt.evaluation.drift import find_drift
from cmt.workspace import open
from flows.events import COMMITTED, DRIFT, PROMOTED, emit_drift
from flows.online_update import online_update
from tests.helpers.projects import FEBRUARY, JANUARY, change_params

ROOT = Path(__file__).parents[2]


def events(name: str, resource: str) -> list[dict[str, Any]]:
    """The payloads of the events of this name and resource, as soon as there is one."""
    deadline = time.monotonic() + 60
    body = {"filter": {"event": {"name": [name]}, "resource": {"id": [resource]}}, "limit": 50}
    with get_client(sync_client=True) as client:
        while time.monotonic() < deadline:
            found = client._client.post("/events/filter", json=body).json()["events"]
            if found:
                return [event["payload"] for event in found]
            time.sleep(0.1)
    raise AssertionError(f"no event {name} of {resource}")


def test_rounds_and_drift_are_events_with_their_figures(project: Path) -> None:
    change_params(project.parent, drift={"reference_rounds": 1}, evaluation={"questions": 2})
    online_update(params=str(project))
    first = open(params=project).rounds()[0]
    figures = next(
        event for event in events(COMMITTED, f"cmt.slice.{JANUARY}") if event["rows"] == first.rows
    )
    assert (figures["documents"], figures["compressor"]) == (3, first.compressor)
    assert (figures["f1"], figures["bank_version"]) == (
        first.memory_scores["f1"],
        first.version_after,
    )
    found = find_drift(open(params=project).project)
    assert found
    emit_drift(found)
    assert events(DRIFT, f"cmt.slice.{FEBRUARY}")[0]["reference"] == [JANUARY]


def test_the_triggers_expect_events_that_are_emitted() -> None:
    deployments = {
        row["name"]: row
        for row in yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]
    }
    triggers = {
        name: DeploymentEventTrigger.model_validate(trigger)
        for name, row in deployments.items()
        for trigger in row.get("triggers", [])
    }
    assert {name: set(trigger.expect) for name, trigger in triggers.items()} == {
        "retrain": {DRIFT},
        "recompress": {PROMOTED},
    }
    assert triggers["retrain"].within.days == 7
