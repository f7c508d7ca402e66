"""An archive as a flow run."""

from pathlib import Path

import pytest
from prefect.artifacts import Artifact
from prefect.exceptions import ParameterTypeError

from cmt.errors import RoundError
from cmt.workspace import open
from flows.backfill import backfill
from flows.online_update import one_round
from tests.helpers.projects import change_params
from tests.helpers.rows import write_lines


@pytest.fixture
def archive(project: Path) -> str:
    """Seven documents of three years, for a stream of slices of three documents."""
    change_params(project.parent, stream={"period": 3, "path": "data/archive"})
    rows = [
        {
            "doc_id": f"old-{n}",
            "published_at": f"202{n % 3}-05-0{n + 1}T07:00:00Z",
            "text": f"Quay {n} opened on day {n}.",
        }
        for n in range(7)
    ]
    return str(write_lines(project.parent / "archive.jsonl", rows))


def test_an_archive_is_adapted_slice_by_slice_after_a_kill_and_a_refusal(
    project: Path, archive: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # the outcome of each round in turn: a kill is continued by the next flow run, a refusal stops
    # no other round
    outcomes: list[BaseException | str] = ["", KeyboardInterrupt(), "refused", "", ""]

    def scripted(params: str, slice_id: str) -> str:
        outcome = outcomes.pop(0)
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome or one_round(params, slice_id)

    monkeypatch.setattr("flows.backfill.one_round", scripted)
    with pytest.raises(KeyboardInterrupt):
        backfill(source=archive, params=str(project))
    with pytest.raises(RoundError, match=r"1 of 2 rounds were refused or failed: every-3/0002"):
        backfill(source=archive, params=str(project))
    refused = Artifact.get("backfill")
    assert refused is not None and str(refused.description).startswith("1 of 4 documents, ")
    assert backfill(source=archive, params=str(project)) == 3
    progress = Artifact.get("backfill")
    assert progress is not None and progress.data == 100.0
    assert str(progress.description).startswith("3 of 3 documents, ")
    rounds = open(params=project).rounds()
    assert [(round_.state, round_.documents) for round_ in rounds] == [
        ("committed", n) for n in (3, 1, 3)
    ]
    assert backfill(source=archive, params=str(project)) == 0  # nothing is done twice
    with pytest.raises(ParameterTypeError, match="source"):
        backfill(source="", params=str(project))  # not the project's folder
