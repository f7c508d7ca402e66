"""The MLflow model, in this process; `mlflow models serve` is in tests/integration."""

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


def loaded(project: Path) -> Memory:
    """The model as MLflow loads a version that was registered from `project`."""
    params, memory = project / "params.yaml", Memory()
    artifacts = {"compressor": str(cmt.open(params=params).params.compressor.path)}
    memory.load_context(SimpleNamespace(model_config={"params": str(params)}, artifacts=artifacts))
    return memory


def test_each_row_has_its_own_date_and_a_missing_date_is_now(project: Path) -> None:
    dates = [
        date(2031, 2, 15),
        datetime(2031, 2, 15, tzinfo=UTC),
        "2031-02-15",
        None,
        np.nan,
        pd.NaT,
    ]
    questions = pd.DataFrame(
        {"question": [MAYOR] * len(dates), "as_of": pd.Series(dates, dtype=object)}
    )
    answered = loaded(project).predict(None, questions)
    assert list(answered.columns) == ["answer", "verdict", "known", "confidence", "sources"]
    mayors = [
        {source["doc_id"] for source in sources} & {"mayor-1", "mayor-2"}
        for sources in answered["sources"]
    ]
    assert mayors == [{"mayor-1"}] * 3 + [{"mayor-2"}] * 3


def test_an_invalid_row_is_named_and_a_removed_bank_temporarily_unavailable(
    adapted_workspace: Path,
) -> None:
    memory = loaded(adapted_workspace)
    with pytest.raises(MlflowException, match="row 1: question: the question is empty") as caught:
        memory.predict(None, pd.DataFrame([{"question": MAYOR}, {"question": " "}]))
    assert caught.value.error_code == "INVALID_PARAMETER_VALUE"
    (adapted_workspace / "data/bank").rename(adapted_workspace / "data/elsewhere")
    with pytest.raises(MlflowException) as caught:
        memory.predict(None, pd.DataFrame([{"question": MAYOR}]))
    assert caught.value.error_code == "TEMPORARILY_UNAVAILABLE"


def test_a_project_named_by_the_environment_is_opened_instead(
    project: Path, tiny_workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CMT_PARAMS", str(tiny_workspace / "params.yaml"))
    with pytest.raises(cmt.BankError, match="run `cmt update` first"):
        loaded(project)
