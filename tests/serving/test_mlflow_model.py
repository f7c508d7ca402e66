"""The MLflow model, in this process and behind `mlflow models serve`."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, date, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import numpy as np
import pandas as pd
import pytest
from mlflow.exceptions import MlflowException

import cmt
from cmt.serving.mlflow_model import Memory
from cmt.tracking.registry import CHAMPION, NAME
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
    assert list(answered.columns) == ["answer", "verdict", "known", "confidence", "sources"]
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


@pytest.fixture(scope="module")
def served(registered: Path) -> Iterator[str]:
    """`mlflow models serve` of the champion, on a free port."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    command = [sys.executable, "-m", "mlflow", "models", "serve", "-m", f"models:/{NAME}@{CHAMPION}"]
    environment = os.environ | {
        "MLFLOW_TRACKING_URI": f"sqlite:///{registered / 'mlflow.db'}",
        "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",  # MLflow starts uvicorn by its name
    }
    where = ["--env-manager", "local", "--host", "127.0.0.1", "--port", port]
    environment.pop("PYTHONPATH", None)
    # away from this repository, as the version has its own code; a group of its own, as the server is a child's child
    options: dict[str, Any] = {"cwd": registered, "env": environment, "start_new_session": True}
    log = registered / "serve.log"
    with (
        log.open("wb") as output,
        subprocess.Popen([*command, *where], stdout=output, stderr=output, **options) as process,
    ):
        try:
            yield _answering(f"http://127.0.0.1:{port}", process, log)
        finally:
            os.killpg(process.pid, signal.SIGTERM)


def _answering(url: str, process: subprocess.Popen[bytes], log: Path) -> str:
    for _ in range(1200):
        assert process.poll() is None, log.read_text()
        with suppress(httpx.TransportError):
            if httpx.get(f"{url}/ping").status_code == 200:
                return url
        time.sleep(0.1)
    raise AssertionError(f"mlflow models serve did not come up within two minutes: {log.read_text()}")


def invoke(url: str, *rows: dict[str, Any]) -> httpx.Response:
    return httpx.post(f"{url}/invocations", json={"dataframe_records": rows}, timeout=30)


def test_the_champion_answers_over_http(served: str, registered: Path) -> None:
    both = invoke(served, {"question": MAYOR, "as_of": "2031-02-15"}, {"question": MAYOR, "as_of": None}).json()
    early, late = both["predictions"]
    direct = cmt.open(params=registered / "params.yaml").ask(MAYOR)
    assert (late["answer"], late["known"]) == (direct.text, True)
    assert [source["doc_id"] for source in late["sources"]] == [source.doc_id for source in direct.sources]
    assert late["confidence"] == pytest.approx(direct.confidence, abs=1e-4)
    assert {source["doc_id"] for source in early["sources"]} & {"mayor-1", "mayor-2"} == {"mayor-1"}
    (alone,) = invoke(served, {"question": MAYOR}).json()["predictions"]
    assert alone == late


def test_the_champion_refuses_with_a_reason(served: str) -> None:
    for row, reason in (
        ({"question": " "}, "row 0: question: the question is empty: write one"),
        ({"question": "Who?", "as_of": "soon"}, "row 0: as_of: 'soon' is not a date-time"),
        ({"as_of": "2031-02-15"}, "question"),
    ):
        response = invoke(served, row)
        assert response.status_code == 400
        assert reason in response.json()["message"]
