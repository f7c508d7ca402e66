"""The worst questions and the reasons for their failure."""

from typing import Any

from cmt.answering.answer import Span
from cmt.report._failures import SHOWN, Failure, worst_answers
from tests.helpers.reports import OneSourceAnswerer, record, record_table


def failures(*rows: dict[str, Any], answerer: OneSourceAnswerer | None = None) -> list[Failure]:
    reader: Any = answerer or OneSourceAnswerer()
    return worst_answers(record_table(*rows), reader)


def test_the_lowest_f1_comes_first_and_of_equal_ones_the_most_confident() -> None:
    rows = [
        record("a", confidence=0.4),
        record("b", confidence=0.9),
        record("c", cmt_f1=0.5),
        record("d", cmt_f1=1.0),
    ]
    assert [failure.row["question"] for failure in failures(*rows)] == [
        "What is b?",
        "What is a?",
        "What is c?",
    ]
    assert len(failures(*(record(str(n)) for n in range(20)))) == SHOWN
    assert failures() == []


def test_the_reason_names_the_first_step_that_failed() -> None:
    def reason(row: dict[str, Any], *spans: Span) -> str:
        return failures(row, answerer=OneSourceAnswerer(spans))[0].reason

    assert "was not selected" in reason(record("a", doc_id="elsewhere"))
    assert "below the threshold" in reason(record("a", cmt=""))
    assert "was selected, but the LM answered something else" in reason(record("a"))
    assert "was selected and read, but the LM answered something else" in reason(
        record("a"), Span(2, 13, 0.9)
    )
    assert "other windows of it were read" in reason(record("a"), Span(14, 24, 0.9))


def test_an_answer_that_changed_since_is_shown_beside_the_recorded_one() -> None:
    same, changed = failures(record("a"), record("b", cmt="green"))
    assert (same.answered_now, changed.answered_now) == ("", "red")
