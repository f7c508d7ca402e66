"""The project of `make year`, and the record of its rounds."""

from pathlib import Path

import numpy as np
import pytest

from cmt.common.storage import write_json
from cmt.config import load_params
from cmt.errors import ServiceError
from cmt.rounds.promotion import DECISION_FILE
from cmt.workspace import open
from flows.local import year
from tests.helpers.servers import serving
from tests.helpers.training import FARES, write_squad


def test_a_project_has_a_source_a_month_and_trains_on_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(year, "YEAR", tmp_path / "year")
    base = write_squad(tmp_path / "base.json", {fare["doc_id"]: fare["text"] for fare in FARES})
    params = load_params(year.write_project(f"path:{base}"))
    months = sorted(path.name for path in (tmp_path / "year/news").iterdir())
    assert months == [f"2031-{month:02}" for month in range(1, 9)]
    assert params.train.from_stream
    assert params.train.shares == {"stream": 0.5, f"path:{base}": 0.5}
    assert params.stream.path.is_relative_to(tmp_path)
    assert params.compressor.path == load_params(year.ROOT / "params.yaml").compressor.path
    report = open(params=tmp_path / "year/params.yaml").ingest(
        source=tmp_path / "year/news/2031-03"
    )
    assert [slice_.slice_id for slice_ in report.slices] == ["2031-03/0001"]


def test_the_record_compares_the_months_after_the_one_that_decides(
    adapted_workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(year, "LEARNED", 0)  # January decides, February is later
    workspace = open(params=adapted_workspace / "params.yaml")
    figures = {"gain": [5.0, 1.0, 9.0], "base_gain": [-0.5, -1.0, 0.0]}
    write_json(
        workspace.project.state / DECISION_FILE,
        {"promoted": True, "reason": "better", "figures": figures},
    )
    january, february = (slice_.slice_id for slice_ in workspace.project.store.slices())
    shipped = {january: np.array([50.0, 70.0]), february: np.array([0.0, 100.0])}
    record = year._record(
        workspace, shipped | {february: np.array([50.0, 100.0])}, shipped, {"documents": 4}
    )
    assert [(month["slice"], month["f1"], month["f1_shipped"]) for month in record["months"]] == [
        (january, 60.0, 60.0),
        (february, 75.0, 50.0),
    ]
    assert record["decision"] == {
        "promoted": True, "gain": 5.0, "ci": [1.0, 9.0], "base_loss": 0.5, "reason": "better"
    }  # fmt: skip
    assert (record["later"]["gain"], record["later"]["n"]) == (25.0, 2)


def test_a_question_that_the_server_refuses_is_an_error(adapted_workspace: Path) -> None:
    with serving(adapted_workspace) as url:
        port = int(url.rpartition(":")[2])
        answering = open(params=adapted_workspace / "params.yaml").project.active.pointer
        assert year._answered_by(port, "Who is the mayor of Port Ellery?") == answering
        with pytest.raises(ServiceError, match="with 422"):
            year._answered_by(port, "")
