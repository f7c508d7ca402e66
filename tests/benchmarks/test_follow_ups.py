"""How many questions are taken for follow-ups."""

import json
from pathlib import Path

import pytest

from tests.helpers.scripts import load_script

SCRIPT = load_script("follow_ups")


def test_completed_and_refused_questions_are_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["Who is the mayor?", "How old is she?", "Why?", "Who is the captain?"]
    rows = [{"question": question, "answers": [{"text": "Osei"}]} for question in asked]
    article = {"paragraphs": [{"qas": rows[:2]}, {"qas": rows[2:]}]}
    file = tmp_path / "squad.json"
    file.write_text(json.dumps({"data": [article, {"paragraphs": [{"qas": rows[1:2]}]}]}))
    SCRIPT.main(file, examples=1)
    printed = capsys.readouterr().out
    assert printed.splitlines()[2].split()[:4] == ["5", "20.00", "40.00", "60.00"]
    assert "Who is the mayor? | How old is she? | How old is Osei?" in printed
