"""Charts: a drawing and a table of the same numbers."""

import cmt
from cmt.evaluation.calibration import answer_reliability
from cmt.report import _charts
from cmt.report._history import entries
from tests.helpers.reports import record, record_table


def test_charts_without_numbers_are_left_out() -> None:
    assert _charts.rounds_chart([], "") is _charts.seconds_chart([], "") is None


def test_the_charts_of_rounds_have_a_row_a_round(adapted: cmt.Workspace) -> None:
    shown, _ = entries(adapted.project)
    for draw in (_charts.rounds_chart, _charts.seconds_chart):
        chart = draw(shown, "basis")
        assert chart is not None
        assert [row[0] for row in chart.rows] == ["2031-01/0001", "2031-02/0001"]
        assert all(len(row) == len(chart.head) for row in chart.rows)
    rounds = _charts.rounds_chart(shown, "basis")
    assert rounds is not None
    assert rounds.head == ["round", "CMT memory, F1", "closed-book, F1", "BM25-RAG, top 1, F1"]


def test_the_reliability_chart_has_a_row_a_bin_with_answers() -> None:
    answers = [record(f"q{i}", confidence=0.75, cmt_f1=1.0) for i in range(3)]
    measured = answer_reliability(record_table(*answers, record("q3", confidence=0.95)))
    chart = _charts.reliability_chart(measured, "this")
    assert chart is not None
    assert "Expected calibration error 0.425 of 4 answers" in chart.note
    assert chart.rows == [["0.7 – 0.8", "3", "0.75", "100.0"], ["0.9 – 1.0", "1", "0.95", "0.0"]]
    assert _charts.reliability_chart(answer_reliability(record_table()), "") is None


def test_few_questions_are_warned_of() -> None:
    assert [_charts.few_questions(counts) for counts in ([], [30, 500], [0, 30])] == ["", "", ""]
    assert _charts.few_questions([40, 4]).startswith(" From 4 questions only")
    assert _charts.few_questions([1]).startswith(" From 1 question only")


def test_missing_scores_are_dashes() -> None:
    assert [_charts.score(value) for value in (None, 0.0, 12.34)] == ["–", "0.0", "12.3"]
    assert [_charts.interval(low, 2.0) for low in (None, 1.0)] == ["", "1.0 – 2.0"]
