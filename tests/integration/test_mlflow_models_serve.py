"""`mlflow models serve` of the champion, as a process."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

import cmt
from cmt.tracking.registry import CHAMPION
from flows.local.prefect import free_port
from tests.helpers.http import MAYOR


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """The address of `mlflow models serve` of the champion of the project in `folder`."""
    port = str(free_port())
    command = [sys.executable, "-m", "mlflow", "models", "serve", "-m", f"models:/cmt@{CHAMPION}"]
    command += ["--env-manager", "local", "--host", "127.0.0.1", "--port", port]
    environment = os.environ | {
        "MLFLOW_TRACKING_URI": f"sqlite:///{folder / 'mlflow.db'}",
        "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        # MLflow starts uvicorn by its name
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }
    environment.pop("PYTHONPATH", None)
    # away from this repository, as the version has its own code; a group of its own, as the server
    # is a child's child
    options: dict[str, Any] = {"cwd": folder, "env": environment, "start_new_session": True}
    log = folder / "serve.log"
    with (
        log.open("wb") as output,
        subprocess.Popen(command, stdout=output, stderr=output, **options) as process,
    ):
        url, deadline = f"http://127.0.0.1:{port}", time.monotonic() + 120
        try:
            while True:
                assert process.poll() is None and time.monotonic() < deadline, log.read_text()
                with suppress(httpx.TransportError):
                    if httpx.get(f"{url}/ping").status_code == 200:
                        break
                time.sleep(0.1)
            yield url
        finally:
            os.killpg(process.pid, signal.SIGTERM)


def test_the_champion_answers_over_http_and_refuses_with_a_reason(registered: Path) -> None:
    direct = cmt.open(params=registered / "params.yaml").ask(MAYOR)
    with served(registered) as url, httpx.Client(base_url=url, timeout=30) as client:

        def invoke(*rows: dict[str, Any]) -> httpx.Response:
            return client.post("/invocations", json={"dataframe_records": rows})

        both = invoke(
            {"question": MAYOR, "as_of": "2031-02-15"}, {"question": MAYOR, "as_of": None}
        )
        early, late = both.json()["predictions"]
        assert (late["answer"], late["known"]) == (direct.text, True)
        assert [source["doc_id"] for source in late["sources"]] == [
            source.doc_id for source in direct.sources
        ]
        assert late["confidence"] == pytest.approx(direct.confidence, abs=1e-4)
        assert {source["doc_id"] for source in early["sources"]} & {"mayor-1", "mayor-2"} == {
            "mayor-1"
        }
        for row, reason in (
            ({"question": " "}, "row 0: question: the question is empty: write one"),
            ({"question": "Who?", "as_of": "soon"}, "row 0: as_of: 'soon' is not a date-time"),
            ({"as_of": "2031-02-15"}, "question"),
        ):
            response = invoke(row)
            assert response.status_code == 400
            assert reason in response.json()["message"]
