"""Systems side by side: on the questions of a round, and as `cmt baselines` measured them."""

import pytest

import cmt
from cmt.common.progress import NullProgress
from cmt.evaluation.comparison import Comparison
from cmt.evaluation.round_records import read_records
from cmt.evaluation.systems import SYSTEMS
from cmt.evaluation.testbed import ComparisonData
from cmt.report.comparison import compare, keep, measured_baselines
from cmt.report.history import entries
from tests.helpers.reports import record, record_table


def test_systems_are_compared_question_by_question() -> None:
    rows = [
        record(f"q{i}", cmt="blue" if i < 6 else "red", cmt_f1=float(i < 6), rag="red", rag_f1=0.0) for i in range(8)
    ]
    scores = {"cmt": {"recall": 0.75}, "rag": {"recall": 0.5}}
    memory, rag = compare(record_table(*rows), scores=scores, seed=0)
    assert (memory.label, memory.scores.f1, memory.recall, memory.behind) == ("CMT memory", 75.0, 0.75, None)
    assert (rag.label, rag.scores.f1, rag.recall) == ("BM25-RAG, top 1", 0.0, 0.5)
    assert rag.behind is not None
    assert rag.behind[0] == 75.0
    assert 30 < rag.behind[1] < 75 < rag.behind[2] <= 100
    equal = [row | {"rag": row["cmt"], "rag_f1": row["cmt_f1"]} for row in rows]
    assert compare(record_table(*equal), scores={}, seed=0)[1].behind == (0.0, 0.0, 0.0)


def test_intervals_do_not_depend_on_the_order_of_the_records() -> None:
    rows = [record(f"q{i:02d}", cmt="blue " * (i % 4) + "sky", rag="blue" if i % 3 else "red") for i in range(30)]
    rows = [row | {"cmt_f1": 0.0, "rag_f1": 0.0} for row in rows]
    forwards, backwards = (compare(record_table(*order), scores={}, seed=0) for order in (rows, rows[::-1]))
    assert [(system.scores, system.behind) for system in forwards] == [
        (system.scores, system.behind) for system in backwards
    ]
    assert forwards[0].scores.ci[0] < forwards[0].scores.f1 < forwards[0].scores.ci[1]


def test_scores_and_intervals_are_those_of_the_round(adapted: cmt.Workspace) -> None:
    entry = entries(adapted)[0][-1]
    answered = read_records(adapted, entry.round)
    assert answered is not None
    for system in compare(answered, scores=entry.round.scores, seed=adapted.params.seed):
        scores = entry.round.scores[system.name]
        assert (round(system.scores.f1, 2), system.recall) == (scores["f1"], scores["recall"])
        assert [round(bound, 2) for bound in system.scores.ci] == [scores["f1_low"], scores["f1_high"]]


def test_a_system_that_is_measured_alone_joins_the_stored_ones(adapted: cmt.Workspace) -> None:
    data = ComparisonData.of(adapted, limit=2)
    keep(adapted, Comparison(data).measure(["closed"]), data.testbed.lineage)
    baselines = measured_baselines(adapted, limit=20, progress=NullProgress())
    assert [row["row"] for row in baselines.rows] == list(SYSTEMS)
    assert baselines.missing == []
    assert [row["n"] for row in baselines.rows if row["row"] == "closed"] == [2]


@pytest.mark.parametrize("text", ["", "[]", '{"rows": 3}', '{"lineage": 3}'])
def test_stored_baselines_that_cannot_be_read_are_measured_again(adapted: cmt.Workspace, text: str) -> None:
    (adapted.state / "baselines.json").write_text(text)
    assert len(measured_baselines(adapted, limit=1, progress=NullProgress()).rows) == len(SYSTEMS)
