"""The maintenance as a flow run."""

from pathlib import Path

import pytest
from prefect.artifacts import Artifact
from prefect.exceptions import ParameterTypeError

from cmt.errors import BankError
from cmt.workspace import Workspace, open
from flows.maintain import maintain


def test_versions_older_than_a_quarter_or_a_given_age_go_and_the_rows_stay(
    project: Path, workspace: Workspace
) -> None:
    workspace.update()
    first = workspace.project.active.stored().version
    workspace.update()
    digest = workspace.project.active.stored().digest()
    with pytest.raises(ParameterTypeError, match="keep_days"):
        maintain(keep_days=-1, params=str(project))
    maintain(keep_days=1e10, params=str(project))
    maintain(params=str(project))
    open(params=project).project.active.stored().check_version(first)
    stats = maintain(keep_days=0, params=str(project))
    bank = open(params=project).project.active.stored()
    assert stats["rows"] == bank.count_rows() > 0
    assert bank.digest() == digest
    with pytest.raises(BankError, match=f"has no version {first}"):
        bank.check_version(first)
    found = Artifact.get("maintain")
    assert found is not None
    assert "| rows |" in str(found.data)
