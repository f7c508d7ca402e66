"""`cmt try` on the tiny project: one month, in a folder of its own, is adapted and served."""

from pathlib import Path
from typing import Any

import pytest

from tests.helpers.cli import MAYOR, run


def test_one_month_is_adapted_and_served_beside_the_project(
    tiny_workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    served: list[Any] = []
    monkeypatch.setattr(
        "cmt.cli._try_newspaper.serve", lambda ctx, **_: served.append(ctx.obj.workspace)
    )
    lines = [line.strip() for line in run(tiny_workspace, "try").stdout.splitlines()]
    assert lines[0].startswith("3 articles adapted in ")
    assert MAYOR in lines
    [workspace] = served
    assert {source.doc_id for source in workspace.ask(MAYOR).sources} <= {
        "mayor-1",
        "ferry",
        "raft",
    }
    assert (tiny_workspace / "data/try/bank").is_dir()
    assert (
        not (tiny_workspace / "data/bank").exists()
        and not (tiny_workspace / "data/stream").exists()
    )
    # a second time nothing is adapted again
    assert run(tiny_workspace, "try").stdout.startswith(
        "the articles of the first month are adapted already\n"
    )
