"""The workspace: from the raw source to answers and scores."""

from datetime import UTC, date, datetime
from pathlib import Path

import pytest

import cmt
from cmt.workspace import Workspace
from tests.helpers.projects import open_workspace


@pytest.fixture
def adapted(adapted_workspace: Path) -> Workspace:
    """A workspace with a committed round for each of its two slices."""
    return open_workspace(adapted_workspace)


def test_ask_answers_as_of_a_date_and_closed_book_on_request(adapted: Workspace) -> None:
    question = "Who is the mayor of Port Ellery?"
    answer = adapted.ask(question)
    assert answer.closed_book is None
    assert "mayor-2" in {source.doc_id for source in answer.sources}
    earlier = adapted.ask(question, as_of=datetime(2031, 1, 31, tzinfo=UTC), closed_book=True)
    assert earlier.closed_book is not None
    assert "mayor-2" not in {source.doc_id for source in earlier.sources}
    with pytest.raises(cmt.ConfigError, match="has no time zone"):
        adapted.ask(question, as_of=datetime(2031, 1, 31))
    on_the_day = adapted.ask(question, as_of="2031-01-31")
    assert on_the_day.sources == earlier.sources
    for wrong in ("January", date(2031, 1, 31)):
        with pytest.raises(cmt.ConfigError, match="date-time"):
            adapted.ask(question, as_of=wrong)  # type: ignore[arg-type]


def test_an_empty_list_of_files_is_not_the_file_of_the_parameters(adapted: Workspace) -> None:
    with pytest.raises(cmt.StreamError, match="source names no file"):
        adapted.ingest(source=[])


def test_ask_checks_the_question_as_the_cli_and_the_server_do(adapted: Workspace) -> None:
    assert adapted.ask("Who is\x1b the\nmayor?").question == "Who is the mayor?"
    for question, reason in (
        ("\x00 ", "the question is empty"),
        ("x" * 2_001, "has 2,001 characters: shorten it"),
        ("and before her?", "continues an earlier one that is missing.*ask it in full"),
    ):
        for method in (adapted.ask, adapted.history):
            with pytest.raises(cmt.ConfigError, match=reason):
                method(question)


def test_ask_completes_a_follow_up_from_the_previous_questions(adapted: Workspace) -> None:
    previous = [("Who is the mayor of Port Ellery?", "Vell")]
    answer = adapted.ask("And before him?", previous=previous)
    assert answer.question == "Who was the mayor of Port Ellery before Vell?"


def test_evaluate_asks_all_questions_or_a_seeded_sample(adapted: Workspace) -> None:
    calls: list[int] = []
    everything = adapted.evaluate(on_progress=calls.append)
    assert everything.records.num_rows == 4
    assert [row.scores.n for row in everything.systems] == [4, 4, 4]
    assert sum(calls) == 12
    sample = adapted.evaluate(limit=2)
    assert sample.records.num_rows == 2
    assert sample.records.equals(adapted.evaluate(limit=2).records)
    assert set(sample.records["question_id"].to_pylist()) < set(
        everything.records["question_id"].to_pylist()
    )
