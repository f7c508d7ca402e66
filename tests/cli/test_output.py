"""What reaches a terminal: text as it is, numbers in line, JSON that every parser reads."""

import json
from datetime import UTC, datetime

import pytest

from cmt.answering.answer import NOT_IN_MEMORY, Answer, Source
from cmt.cli.output import answer_json, write_answer, write_json, write_line, write_table
from cmt.common.text import plain

AT = datetime(2031, 2, 15, 6, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("[red]alarm[/red]", "[red]alarm[/red]"),
        ("two\nlines\tof  text", "two lines of text"),
        ("\x1b[2J\x07gone\x9b1m", "[2Jgone1m"),
        ("shalom \u200fשלום\u200f 👩‍🚀", "shalom \u200fשלום\u200f 👩‍🚀"),
        ("half a \ud83d pair", "half a  pair"),
        (None, "None"),
    ],
)
def test_text_is_one_line_without_control_characters(text: object, shown: str) -> None:
    assert plain(text) == shown


@pytest.mark.parametrize("text", ["[bold]loud[/bold]", "[/]", "[link=http://x]y", ":fire:", "\\[red]", "1234 'x'"])
def test_nothing_is_read_as_markup(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    write_line(text)
    write_table(["title", "rows"], [[text, 1234]])
    line, head, _, row = capsys.readouterr().out.splitlines()
    assert line == text
    assert (head.split(), row.split()) == (["title", "rows"], [*text.split(), "1,234"])


def test_a_long_line_is_not_wrapped(capsys: pytest.CaptureFixture[str]) -> None:
    write_line("word " * 200, stderr=True)
    assert capsys.readouterr().err == "word " * 199 + "word\n"


def test_json_is_ascii_and_has_no_nan(capsys: pytest.CaptureFixture[str]) -> None:
    write_json({"at": AT, "nan": float("nan"), "rows": ({"é": float("inf")}, 1), "path": None})
    printed = capsys.readouterr().out
    assert printed.isascii()
    expected = {"at": "2031-02-15T06:00:00Z", "nan": None, "rows": [{"é": None}, 1], "path": None}
    assert json.loads(printed, parse_constant=pytest.fail) == expected


def answer(*, known: bool) -> Answer:
    source = Source("a[b]", None, AT, similarity=0.5, weight=0.9, text="secret")
    return Answer("Who?", "Moss\n[red]" if known else NOT_IN_MEMORY, known, 0.9, (source,), "the \x1bmayor")


def test_a_known_answer_names_its_sources(capsys: pytest.CaptureFixture[str]) -> None:
    write_answer(answer(known=True))
    first, head, _, row, last = capsys.readouterr().out.splitlines()
    assert (first, last) == ("Moss [red]", "without memory: the mayor")
    assert (head.split(), row.split()) == (["date", "title", "doc_id", "similarity"], ["2031-02-15", "a[b]", "0.50"])


def test_an_unknown_answer_names_none(capsys: pytest.CaptureFixture[str]) -> None:
    write_answer(answer(known=False))
    assert capsys.readouterr().out == "not in memory\nwithout memory: the mayor\n"


def test_an_answer_for_machines_leaves_the_texts_out() -> None:
    found = answer_json(answer(known=True), AT)
    assert (found["as_of"], found["text"], found["closed_book"]) == (AT, "Moss\n[red]", "the \x1bmayor")
    source = {"doc_id": "a[b]", "title": None, "published_at": AT, "similarity": 0.5, "weight": 0.9}
    source |= {"spans": (), "quote": None, "supersedes": None}
    assert found["sources"] == [source]
