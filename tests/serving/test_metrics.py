"""Prometheus metrics of a server after some requests, and its request log."""

import logging
import stat
from pathlib import Path

from cmt.serving._request_log import log_handler
from tests.helpers.http import BEFORE_STREAM, MAYOR, ask
from tests.helpers.servers import serving_client


def test_a_server_counts_its_requests_by_route(project: Path) -> None:
    with serving_client(project) as client:
        for as_of in ("2031-03-01", BEFORE_STREAM, BEFORE_STREAM):
            ask(client, MAYOR, as_of=as_of)
        client.get("/documents/any/path/at/all")
        client.post("/ask", json={"question": ""})
        lines = client.get("/metrics").text.splitlines()
    assert 'cmt_requests_total{method="POST",route="/ask",status="200"} 3.0' in lines
    assert 'cmt_requests_total{method="POST",route="/ask",status="422"} 1.0' in lines
    assert 'cmt_requests_total{method="GET",route="",status="404"} 1.0' in lines
    assert 'cmt_answer_seconds_bucket{le="60.0"} 3.0' in lines
    assert "cmt_abstentions_total 2.0" in lines
    assert {"cmt_bank_rows 6.0", "cmt_waiting_questions 0.0"} <= set(lines)


def test_no_request_adds_a_label_or_a_long_line(project: Path, tmp_path: Path) -> None:
    log = tmp_path / "requests.log"
    with serving_client(
        project, serving__request_log=str(log), serving__requests_per_minute=0
    ) as client:
        for number in range(30):  # any number may be sent
            client.request(f"M{number}" + "X" * 30_000, f"/{number}")
        exposition = client.get("/metrics").text
    assert 'cmt_requests_total{method="other",route="",status="404"} 30.0' in exposition
    assert len(exposition) < 10_000
    assert max(map(len, log.read_text().splitlines())) < 300


def test_the_request_log_is_private_also_after_a_rotation(tmp_path: Path) -> None:
    log = tmp_path / "logs/requests.log"
    handler = log_handler(log)
    log.rename(tmp_path / "rotated.log")
    handler.handle(logging.makeLogRecord({"msg": "a request"}))
    handler.close()
    assert log.read_text() == "a request\n"
    assert stat.S_IMODE(log.stat().st_mode) == 0o600
