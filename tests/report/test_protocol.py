"""The tables of the published protocol, read from the file that its benchmark writes."""

import json
from pathlib import Path

import pytest

from cmt.report._protocol import FILE, read_protocol

ROW = {
    "row": "cmt",
    "em": 50.0,
    "em_prefix": 60.0,
    "f1": 65.25,
    "ci": [60.0, 70.04],
    "recall": {"1": 0.8125},
    "n": 1000,
}
CLOSED = ROW | {"row": "closed", "recall": None, "first_token": 31.7}


def write(root: Path, text: str) -> None:
    (root / FILE).parent.mkdir(exist_ok=True)
    (root / FILE).write_text(text)


def test_rows_and_parts_become_tables(tmp_path: Path) -> None:
    retention = {"before": 61.0, "questions": 1200}
    write(
        tmp_path,
        json.dumps({"documents": 1665, "seed": 0, "rows": [ROW, CLOSED], "retention": retention}),
    )
    protocol = read_protocol(tmp_path)
    assert protocol == {
        "documents": 1665,
        "rows": [
            ["cmt", "65.2 (60.0 – 70.0)", "50.0", "60.0", "0.812", "–", "1,000"],
            ["closed", "65.2 (60.0 – 70.0)", "50.0", "60.0", "–", "32", "1,000"],
        ],
        "parts": [["retention", "before", "61"], ["retention", "questions", "1,200"]],
    }


@pytest.mark.parametrize(
    "text", ["", "[]", '{"documents": 3}', '{"documents": 3, "rows": [{"row": "cmt"}]}']
)
def test_a_file_that_cannot_be_read_is_ignored(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, text: str
) -> None:
    write(tmp_path, text)
    assert read_protocol(tmp_path) is None
    assert "protocol.json cannot be read and is ignored" in caplog.text
