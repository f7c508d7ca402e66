"""The evaluation as a flow run."""

from pathlib import Path

import pytest
from prefect.artifacts import Artifact
from prefect.exceptions import ParameterTypeError

from cmt.workspace import Workspace
from flows.evaluate import evaluate


def test_the_scores_are_returned_and_an_artifact(project: Path, workspace: Workspace) -> None:
    with pytest.raises(ParameterTypeError, match="limit"):
        evaluate(limit=0, params=str(project))
    workspace.update()
    rows = evaluate(limit=2, params=str(project))["rows"]
    assert [(row["row"], row["n"]) for row in rows] == [("cmt", 2), ("closed", 2), ("rag", 2)]
    found = Artifact.get("evaluation")
    assert found is not None
    assert "| cmt | 2 |" in str(found.data)
