"""The maintenance as a flow run."""

from pathlib import Path

import pytest
from prefect.artifacts import Artifact
from prefect.exceptions import ParameterTypeError

from cmt.errors import BankError
from cmt.workspace import Workspace, open
from flows.maintain import maintain


def test_old_versions_go_and_the_answers_stay(project: Path, workspace: Workspace) -> None:
    workspace.update()
    first = workspace.open_bank().version
    workspace.update()
    digest = workspace.open_bank().digest()
    stats = maintain(keep_days=0, params=str(project))
    opened = open(params=project)
    assert stats["rows"] == opened.open_bank().count_rows() > 0
    assert opened.open_bank().digest() == digest
    with pytest.raises(BankError, match=f"has no version {first}"):
        opened.open_bank().check_version(first)
    found = Artifact.get("maintain")
    assert found is not None
    assert "| rows |" in str(found.data)


def test_by_default_every_version_of_the_last_quarter_stays(project: Path, workspace: Workspace) -> None:
    workspace.update()
    first = workspace.open_bank().version
    maintain(params=str(project))
    open(params=project).open_bank().check_version(first)


def test_a_negative_age_is_refused_before_anything_runs(project: Path) -> None:
    with pytest.raises(ParameterTypeError, match="keep_days"):
        maintain(keep_days=-1, params=str(project))
