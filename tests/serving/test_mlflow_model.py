"""The MLflow model in this process; `tests/tracking/test_registry.py` serves a registered version."""

from datetime import UTC, date, datetime
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from mlflow.exceptions import MlflowException

import cmt
from cmt.serving.mlflow_model import Memory
from tests.helpers.http import MAYOR


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """The variable that names another project is not set."""
    monkeypatch.delenv("CMT_PARAMS", raising=False)


def context(project: Path) -> SimpleNamespace:
    """What MLflow passes to a version that was registered from `project`."""
    params = project / "params.yaml"
    compressor = cmt.open(params=params).params.compressor.path
    return SimpleNamespace(model_config={"params": str(params)}, artifacts={"compressor": str(compressor)})


def loaded(project: Path) -> Memory:
    memory = Memory()
    memory.load_context(context(project))
    return memory


def test_a_question_has_one_row_with_the_answer_of_the_project(project: Path) -> None:
    direct = cmt.open(params=project / "params.yaml").ask(MAYOR)
    answered = loaded(project).predict(None, pd.DataFrame([{"question": MAYOR}]))
    assert list(answered.columns) == ["answer", "known", "confidence", "sources"]
    (row,) = answered.to_dict("records")
    assert (row["answer"], row["known"]) == (direct.text, True)
    assert [source["doc_id"] for source in row["sources"]] == [source.doc_id for source in direct.sources]


def test_each_row_has_its_own_date_and_a_missing_date_is_now(project: Path) -> None:
    dates = [date(2031, 2, 15), datetime(2031, 2, 15, tzinfo=UTC), "2031-02-15", None, np.nan, pd.NaT]
    questions = pd.DataFrame({"question": [MAYOR] * len(dates), "as_of": pd.Series(dates, dtype=object)})
    answered = loaded(project).predict(None, questions)
    mayors = [{source["doc_id"] for source in sources} & {"mayor-1", "mayor-2"} for sources in answered["sources"]]
    assert mayors == [{"mayor-1"}] * 3 + [{"mayor-2"}] * 3


def test_an_invalid_row_is_named(project: Path) -> None:
    with pytest.raises(MlflowException, match="row 1: question: the question is empty") as caught:
        loaded(project).predict(None, pd.DataFrame([{"question": MAYOR}, {"question": " "}]))
    assert caught.value.error_code == "INVALID_PARAMETER_VALUE"


def test_a_project_named_by_the_environment_is_opened_instead(
    project: Path, tiny_workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CMT_PARAMS", str(tiny_workspace / "params.yaml"))
    with pytest.raises(cmt.BankError, match="run `cmt update` first"):
        loaded(project)


def test_a_bank_that_was_removed_is_temporarily_unavailable(project_copy: Path) -> None:
    memory = loaded(project_copy)
    (project_copy / "data/bank").rename(project_copy / "data/elsewhere")
    with pytest.raises(MlflowException) as caught:
        memory.predict(None, pd.DataFrame([{"question": MAYOR}]))
    assert caught.value.error_code == "TEMPORARILY_UNAVAILABLE"
