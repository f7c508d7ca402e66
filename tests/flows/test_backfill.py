"""An archive as a flow run."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from prefect.artifacts import Artifact

from cmt.errors import RoundError
from cmt.workspace import open
from flows.backfill import backfill
from flows.online_update import one_round


@pytest.fixture
def archive(tmp_path: Path, change: Callable[..., None]) -> str:
    """Seven documents of three years, for a stream of slices of three documents."""
    change(stream={"period": 3, "path": "data/archive"})
    rows = [
        {
            "doc_id": f"old-{n}",
            "published_at": f"202{n % 3}-05-0{n + 1}T07:00:00Z",
            "text": f"Quay {n} opened on day {n}.",
        }
        for n in range(7)
    ]
    file = tmp_path / "archive.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(file)


def test_an_archive_is_adapted_slice_by_slice(project: Path, archive: str) -> None:
    assert backfill(source=archive, params=str(project)) == 7
    rounds = open(params=project).rounds()
    assert [(round_.state, round_.documents) for round_ in rounds] == [("committed", n) for n in (3, 3, 1)]
    progress = Artifact.get("backfill")
    assert progress is not None and progress.data == 100.0
    assert str(progress.description).startswith("7 of 7 documents, ")
    assert backfill(source=archive, params=str(project)) == 0  # nothing is done twice


def test_an_interrupted_backfill_is_continued(project: Path, archive: str, monkeypatch: pytest.MonkeyPatch) -> None:
    done = list[str]()

    def killed(params: str, slice_id: str) -> str:
        if len(done) == 1:
            raise KeyboardInterrupt
        done.append(slice_id)
        return one_round(params, slice_id)

    monkeypatch.setattr("flows.backfill.one_round", killed)
    with pytest.raises(KeyboardInterrupt):
        backfill(source=archive, params=str(project))
    monkeypatch.setattr("flows.backfill.one_round", one_round)
    assert backfill(source=archive, params=str(project)) == 4  # three were adapted before
    assert [round_.state for round_ in open(params=project).rounds()] == ["committed"] * 3


def test_a_refused_round_stops_no_other_one(project: Path, archive: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = list[str]()

    def refused_first(params: str, slice_id: str) -> str:
        asked.append(slice_id)
        if len(asked) == 1:
            raise RoundError(f"round {slice_id} was refused")
        return one_round(params, slice_id)

    monkeypatch.setattr("flows.backfill.one_round", refused_first)
    with pytest.raises(RoundError, match=r"1 of 3 rounds were refused: every-3/0001"):
        backfill(source=archive, params=str(project))
    assert [round_.state for round_ in open(params=project).rounds()] == ["committed"] * 2
