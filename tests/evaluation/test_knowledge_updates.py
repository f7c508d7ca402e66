"""Answers before and after an update."""

import pytest

from cmt.errors import StreamError
from cmt.evaluation.curve import POINT_SCHEMA
from cmt.evaluation.knowledge_updates import knowledge_updates
from tests.helpers.news import NEWS, MakeTestbed, column


def test_an_update_replaces_the_answer_and_the_old_one_stays_right_as_of_before(news_testbed: MakeTestbed) -> None:
    curve = knowledge_updates(news_testbed())
    assert column(curve, "n") == [3, 3, 3, 3, 3]  # Moss → Vell, Vell → Wren, two → three crowns
    assert column(curve, "f1") == column(curve, "known") == [100, 100, 100, 0, 100]
    assert column(curve, "series")[2] == "after, where the old one was known: the new answer"
    assert column(curve, "series")[3] == "after: still the old one (lower is better)"
    assert not curve.axes


def test_an_answer_that_does_not_follow_the_update_scores_low(news_testbed: MakeTestbed) -> None:
    curve = knowledge_updates(news_testbed(stubborn=True))
    assert column(curve, "f1")[1:3] == column(curve, "known")[1:3] == [0, 0]
    assert column(curve, "n")[2] == 2  # it never answered that Vell was mayor
    assert column(curve, "f1")[3] > 60


def test_the_sample_of_pairs_depends_on_the_seed_alone(news_testbed: MakeTestbed) -> None:
    curves = [knowledge_updates(news_testbed(), limit=2) for _ in range(2)]
    assert column(curves[0], "n") == [2] * 5
    names = [name for name in POINT_SCHEMA.names if name not in ("seconds", "bytes")]
    assert curves[0].points.select(names).equals(curves[1].points.select(names))


def test_without_changed_answers_there_is_no_curve(news_testbed: MakeTestbed) -> None:
    rows = [row for row in NEWS if row[0] not in ("mayor-2", "toll-2")]
    with pytest.raises(StreamError, match="another answer in a document that supersedes its own"):
        knowledge_updates(news_testbed(rows=rows))
