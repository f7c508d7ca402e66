"""What commands print: text without markup and control characters, aligned numbers, JSON that every
parser reads.
"""

import json
from dataclasses import replace
from datetime import UTC, date, datetime
from typing import Any

import pytest

from cmt.answering.answer import NOT_IN_MEMORY, Answer, OtherValue, Quoted, Source, Span, Verdict
from cmt.bank.rounds import Round
from cmt.cli.output import (
    answer_json,
    answer_lines,
    write_answer,
    write_json,
    write_line,
    write_rounds,
    write_short_answer,
    write_table,
)

AT = datetime(2031, 2, 15, 6, tzinfo=UTC)


@pytest.mark.parametrize(
    "text", ["[bold]loud[/bold]", "[/]", "[link=http://x]y", ":fire:", "\\[red]", "1234 'x'"]
)
def test_nothing_is_parsed_as_markup(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    write_line(text)
    write_table(["title", "rows"], [[text, 1234]])
    line, head, _, row = capsys.readouterr().out.splitlines()
    assert line == text
    assert (head.split(), row.split()) == (["title", "rows"], [*text.split(), "1,234"])


def test_a_table_too_wide_for_the_terminal_is_a_list_of_its_rows(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cmt.cli.output._PIPE_WIDTH", 30)
    write_table(["title", "rows", "bytes"], [["A title that is wrapped", 1234, 5]])
    assert "1,234       5" in capsys.readouterr().out
    write_table(["title", "rows", "bytes", "seconds"], [["one", 1234, 5, 0.25], ["two", 1, 2, 3.0]])
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines[:5] == [
        ["title", "one"],
        ["rows", "1,234"],
        ["bytes", "5"],
        ["seconds", "0.25"],
        [],
    ]
    assert lines[5] == ["title", "two"]


def test_a_long_line_is_not_wrapped(capsys: pytest.CaptureFixture[str]) -> None:
    write_line("word " * 200, stderr=True)
    assert capsys.readouterr().err == "word " * 199 + "word\n"


def test_json_is_ascii_and_has_no_nan(capsys: pytest.CaptureFixture[str]) -> None:
    write_json({"at": AT, "nan": float("nan"), "rows": ({"é": float("inf")}, 1), "path": None})
    printed = capsys.readouterr().out
    assert printed.isascii()
    expected = {"at": "2031-02-15T06:00:00Z", "nan": None, "rows": [{"é": None}, 1], "path": None}
    assert json.loads(printed, parse_constant=pytest.fail) == expected


def answer(verdict: Verdict = "likely") -> Answer:
    source = Source("a[b]", None, AT, similarity=0.5, weight=0.9, text="secret")
    text = NOT_IN_MEMORY if verdict == "not_in_memory" else "Moss\n[red]"
    return Answer("Who?", text, verdict, 0.98765, (source,), "the \x1bmayor", uncalibrated=0.91234)


def test_only_a_known_answer_names_its_sources(capsys: pytest.CaptureFixture[str]) -> None:
    write_answer(answer("not_in_memory"))
    assert capsys.readouterr().out == "not in memory\nwithout memory: the mayor\n"
    write_answer(answer())
    first, head, _, row, last = capsys.readouterr().out.splitlines()
    assert (first, last) == ("Moss [red]", "without memory: the mayor")
    assert (head.split(), row.split()) == (
        ["date", "title", "doc_id", "similarity"],
        ["2031-02-15", "a[b]", "0.50"],
    )


def test_a_short_answer_has_a_line_for_each_source(capsys: pytest.CaptureFixture[str]) -> None:
    write_short_answer(answer())
    write_short_answer(answer("unsure"))
    write_short_answer(answer("not_in_memory"))
    cited = "  2031-02-15 (a[b])\n"
    assert (
        capsys.readouterr().out == f"Moss [red]\n{cited}perhaps: Moss [red]\n{cited}not in memory\n"
    )


def test_the_names_that_the_document_lacks_are_behind_the_answer(
    capsys: pytest.CaptureFixture[str],
) -> None:
    write_short_answer(replace(answer("not_in_memory"), missing=("Paris", "1987")))
    assert capsys.readouterr().out == "not in memory (no mention of Paris, 1987)\n"
    assert answer_json(replace(answer(), missing=("Paris",)), AT)["missing"] == ("Paris",)


def test_an_answer_as_json_has_no_source_texts() -> None:
    record = answer_json(answer(), AT)
    assert (record["as_of"], record["text"], record["closed_book"]) == (
        AT,
        "Moss\n[red]",
        "the \x1bmayor",
    )
    assert (record["verdict"], record["known"]) == ("likely", True)
    assert (record["answer"], record["confidence"], record["uncalibrated"]) == (
        record["text"],
        0.9877,
        0.9123,
    )
    source: dict[str, Any] = {
        "doc_id": "a[b]",
        "title": None,
        "published_at": AT,
        "similarity": 0.5,
        "weight": 0.9,
    }
    source |= {"spans": (), "quote": None, "supersedes": None}
    assert record["sources"] == [source]


@pytest.mark.parametrize(
    ("text", "later", "printed"),
    [
        ("11 crowns", False, "11 crowns (before: 8 crowns, 2031-02-15, a1)"),
        ("11 crowns", True, "11 crowns (perhaps 8 crowns since 2031-02-15, a1)"),
        (
            "since yesterday",
            False,
            "since yesterday (2031-02-14) (before: 8 crowns, 2031-02-15, a1)",
        ),
    ],
)
def test_the_other_value_and_the_day_of_a_relative_date_are_beside_the_answer(
    text: str, later: bool, printed: str
) -> None:
    source = replace(answer().sources[0], quote=Span(0, 2, 0.9))
    other = OtherValue("8 crowns", "a1", AT, later)
    given = replace(answer(), text=text, sources=(source,), other_value=other)
    assert answer_lines(given) == [printed]
    record = answer_json(given, AT)
    assert record["other_value"] == {
        "text": "8 crowns",
        "doc_id": "a1",
        "published_at": AT,
        "later": later,
    }
    assert record["day"] == ("2031-02-14" if "yesterday" in text else None)


def test_quoted_sentences_are_shown_with_their_document() -> None:
    quoted = (Quoted("It rained. … It snowed.", "a1", AT), Quoted("It froze.", "b1", AT))
    given = replace(answer("unsure"), text="It rained. … It snowed. … It froze.", items=quoted)
    assert answer_lines(given) == [
        "perhaps: It rained. … It snowed. (2031-02-15, a1)",
        "It froze. (2031-02-15, b1)",
    ]
    assert answer_json(given, AT)["items"][1]["doc_id"] == "b1"


def test_compared_numbers_are_shown_under_the_answer() -> None:
    numbers = (Quoted("the sloop: 9 tonnes", "a1", AT), Quoted("the barge: 8 tonnes", "b1", AT))
    given = replace(answer(), text="the sloop", form="compare", items=numbers)
    assert answer_lines(given) == [
        "the sloop",
        "the sloop: 9 tonnes (2031-02-15, a1)",
        "the barge: 8 tonnes (2031-02-15, b1)",
    ]


def test_a_request_that_no_document_answers_says_why() -> None:
    given = replace(answer("not_in_memory"), form="none", reason="a task")
    assert answer_lines(given) == ["not in memory (a task)"]
    assert answer_json(given, AT)["reason"] == "a task"


def test_an_answer_that_does_not_hold_yet_says_from_when() -> None:
    announced = replace(answer(), text="3 crowns", holds_from=date(2031, 11, 1))
    assert answer_lines(announced) == ["3 crowns (from 2031-11-01)"]


def test_rounds_show_adapting_and_measuring_apart(capsys: pytest.CaptureFixture[str]) -> None:
    seconds = {"compress": 1.25, "bank": 0.5, "evaluate": 7.0}
    finished = Round(
        "2031-01/0001",
        1,
        "2031-01/0001",
        "s",
        "c",
        "b",
        "p",
        "committed",
        1,
        seconds=seconds,
        changes=2,
    )
    started = Round(
        "2031-02/0001",
        2,
        "2031-02/0001",
        "t",
        "c",
        "b",
        "p",
        "started",
        2,
        reason="[why]",
        changes=1,
    )
    write_rounds([finished, started])
    head, _, first, second, changes, undecided, reason = capsys.readouterr().out.splitlines()
    assert head.endswith("adapt, s   measure, s")
    assert first.split()[-2:] == ["1.8", "7.0"]
    assert second.split()[-2:] == ["–", "–"]
    assert changes == "2031-01/0001: 2 changes found, see `cmt changes`"
    assert undecided == "2031-02/0001: 1 change found"
    assert reason == "2031-02/0001: [why]"
