"""`cmt report` and `explain`, from the command line."""

import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from cmt.answering.answer import Answer, Source, Span
from cmt.workspace import Workspace
from tests.helpers.cli import MAYOR, read, run


@pytest.fixture
def marked_answer(monkeypatch: pytest.MonkeyPatch) -> Answer:
    """The answer that `explain` gets: a text with two windows, and characters that rewrite a terminal."""
    text = "The mayor\x1b[2J of Port Ellery\nis [bold]Moss[/bold], says\tthe paper."
    spans = (Span(text.index("is"), text.index(","), 0.9), Span(0, 3, 0.1))
    quote = Span(text.index("Moss"), text.index("[/bold]"), 0.8)
    moment = datetime(2031, 1, 6, 7, tzinfo=UTC)
    sources = (
        Source("mayor-1", "Moss\x07 elected", moment, 0.61, 0.9, text, spans, quote, "mayor-0"),
        Source("mute", None, moment, 0.2, 0.0, None),
    )
    answer = Answer(MAYOR, "Moss", "likely", 0.8, sources, uncalibrated=0.8)
    monkeypatch.setattr(Workspace, "ask", lambda *_, **__: answer)
    return answer


def test_a_report_is_written_and_counted(adapted: Path, tmp_path: Path) -> None:
    out = tmp_path / "site" / "index.html"
    result = read(adapted, "report", "--out", str(out))
    assert (result["path"], result["rounds"], result["bytes"]) == (str(out), 2, out.stat().st_size)
    result = run(adapted, "report", "--out", str(out))
    assert re.search(r"index\.html: 2 rounds, 3 systems, \d worst questions, 0\.\d MB", result.stdout)
    assert "gather" in result.stderr


def test_a_report_needs_a_bank(tiny_workspace: Path) -> None:
    assert "cmt update" in run(tiny_workspace, "report", status=1).stderr


def test_an_answer_is_explained_by_its_windows(adapted: Path, marked_answer: Answer) -> None:
    printed = run(adapted, "explain", MAYOR).stdout
    assert printed.startswith("Moss\nlikely, confidence 0.80\n")
    assert "2031-01-06 · mayor-1 supersedes mayor-0 · similarity 0.61 · weight 0.90" in printed
    assert "2031-01-06 · mute · similarity 0.20" in printed
    assert ">>The<< mayor[2J of Port Ellery\n>>is [bold]**Moss**[/bold]<<, says the paper." in printed
    assert "mute\n" in printed
    assert "the bank keeps no text" in printed
    assert not re.search("[\x07\x1b]", printed)


def test_an_explanation_as_json_has_texts_and_windows(adapted: Path, marked_answer: Answer) -> None:
    first, second = read(adapted, "explain", MAYOR)["sources"]
    assert first["text"] == marked_answer.sources[0].text
    assert [span["text"] for span in first["spans"]] == ["is [bold]Moss[/bold]", "The"]
    assert [span["probability"] for span in first["spans"]] == [0.9, 0.1]
    assert (first["quote"]["text"], first["quote"]["probability"]) == ("Moss", 0.8)
    assert first["supersedes"] == "mayor-0"
    assert (second["text"], second["spans"], second["quote"], second["supersedes"]) == (None, [], None, None)


def test_an_explanation_looks_back_as_of_a_date(adapted: Path) -> None:
    def sources(*arguments: str) -> dict[str, Any]:
        return {source["doc_id"]: source for source in read(adapted, "explain", MAYOR, *arguments)["sources"]}

    assert {"mayor-1", "mayor-2"} & sources().keys() == {"mayor-2"}
    then = sources("--as-of", "2031-02-15")
    assert "Moss is the mayor of Port Ellery." in then["mayor-1"]["text"]


def test_an_unknown_answer_is_explained_too(adapted: Path) -> None:
    printed = run(adapted, "--set", "selection.abstain_below=1", "explain", "Who was first on the purple moon?").stdout
    assert printed.startswith("not in memory\n")
    assert "below selection.abstain_below 1" in printed
    assert "similarity" in printed


@pytest.mark.parametrize("question", ["", "  \n"])
def test_an_empty_question_has_no_explanation(adapted: Path, question: str) -> None:
    assert "the question is empty" in run(adapted, "explain", question, status=2).stderr
