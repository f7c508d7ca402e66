"""The sync as a flow run: rounds behind it, an artifact a source, secrets of Prefect, schedules."""

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from prefect.artifacts import Artifact
from prefect.blocks.system import Secret
from prefect.client.orchestration import get_client
from pydantic import SecretStr

from cmt.errors import CmtError, RoundError, StreamError
from cmt.workspace import Workspace
from flows import tasks
from flows.sync import schedule, sync
from tests.helpers.rows import write_lines


@pytest.fixture
def sources(project: Path) -> Callable[..., None]:
    """Set the sources of the project's params.yaml."""

    def set_(*sources: dict[str, Any]) -> None:
        raw = yaml.safe_load(project.read_text())
        project.write_text(yaml.safe_dump(raw | {"sources": [*sources]}))
        tasks.workspace.cache_clear()

    return set_


def test_a_source_is_synced_and_the_rounds_follow(
    project: Path,
    workspace: Workspace,
    sources: Callable[..., None],
    caplog: pytest.LogCaptureFixture,
) -> None:
    folder = project.parent / "posts-of-today"
    folder.mkdir()
    row = {
        "doc_id": "tram",
        "published_at": "2031-03-09T07:00:00Z",
        "text": "The tram to Saltby is green.",
    }
    bad = [
        row | {"doc_id": "b", "text": ""},
        row | {"doc_id": "c", "published_at": "The tram is blue."},
    ]
    write_lines(folder / "a.jsonl", [row, *bad])
    Secret(value=SecretStr(str(folder))).save("source-folder", overwrite=True)
    missing = {"name": "missing", "kind": "folder", "address": "nowhere", "schedule": "0 6 * * *"}
    sources(missing, {"name": "posts", "kind": "folder", "address": "${SOURCE_FOLDER}"})
    with (
        caplog.at_level(logging.WARNING),
        pytest.raises(StreamError, match="nowhere is not a folder"),
    ):
        sync(params=str(project))
    assert "source posts: 2 rows refused, 0 items failed" in caplog.text
    assert [round_.state for round_ in workspace.rounds()] == ["committed"] * 3
    found = Artifact.get("sync-posts")
    assert found is not None
    assert "| documents | 1 |" in str(found.data)
    assert "text is empty" in str(found.data)
    assert "published_at: … is not a date-time" in str(found.data) and "blue" not in str(found.data)
    assert sync(source="posts", params=str(project)) == []


@pytest.mark.parametrize(
    ("address", "problem"),
    [
        ("${NO_SUCH_BLOCK}", "save a Secret block 'no-such-block'"),
        ("lost", "first: 1 item could not be fetched"),
    ],
)
def test_a_source_without_its_secret_or_items_fails_the_run_after_the_others_and_the_rounds(
    project: Path,
    sources: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
    address: str,
    problem: str,
) -> None:
    def read(path: Path, *_: Any) -> bytes:
        if path.parent.name == "lost":
            raise OSError("the disk is broken")
        return path.read_bytes()

    monkeypatch.setattr("cmt.sources._folder.read_regular", read)
    for folder in ("lost", "posts"):
        (project.parent / folder).mkdir()
        (project.parent / folder / "2031-03-09.txt").write_text("A tram.")
    first = {"name": "first", "kind": "folder", "address": address}
    sources(first, {"name": "posts", "kind": "folder", "address": "posts"})
    pending = list[str]()
    monkeypatch.setattr(
        "flows.sync.online_update", lambda params: pending.extend(tasks.workspace(params).pending())
    )
    with pytest.raises(CmtError, match=problem):
        sync(params=str(project))
    assert pending[-1] == "2031-03/0001"


def test_the_errors_of_all_sources_and_of_the_rounds_are_in_one_message(
    project: Path, sources: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(params: str) -> list[str]:
        raise RoundError("round 2031-01/0001 was refused")

    sources(*({"name": name, "kind": "folder", "address": name} for name in ("lost", "gone")))
    monkeypatch.setattr("flows.sync.online_update", refused)
    with pytest.raises(
        StreamError, match="lost is not.*; .*gone is not.*; round 2031-01/0001 was refused"
    ):
        sync(params=str(project))


def test_every_source_has_its_schedule(project: Path, sources: Callable[..., None]) -> None:
    sources(
        {"name": "posts", "kind": "folder", "address": "posts", "schedule": "*/30 * * * *"},
        {"name": "once", "kind": "folder", "address": "once"},
    )

    async def deployed() -> dict[str, Any]:
        async with get_client() as client:
            flow_id = await client.create_flow_from_name("cmt")
            deployment_id = await client.create_deployment(flow_id, "sync")
            for _ in range(2):
                assert await schedule(str(project)) == 1
            found = await client.read_deployment_schedules(deployment_id)
            return {one.slug: (one.schedule.cron, one.parameters) for one in found}  # type: ignore[misc]

    assert asyncio.run(deployed()) == {"posts": ("*/30 * * * *", {"source": "posts"})}
