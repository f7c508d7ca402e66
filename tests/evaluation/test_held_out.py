"""Scores of a compressor on articles that its training did not see."""

import cmt
from cmt.config import Params
from cmt.evaluation.held_out import held_out_name, held_out_scores
from cmt.training.data import TrainingData
from tests.helpers.facts import FACTS, documents, questions


def test_the_memory_alone_answers_a_sample_and_never_abstains(adapted: cmt.Workspace) -> None:
    params = adapted.params.with_values(selection={"abstain_below": 1.0})
    evaluation = held_out_scores(
        folder=adapted.params.compressor.path,
        lm=adapted.project.lm,
        data=TrainingData(
            documents=documents(FACTS[:12]),
            questions=questions(FACTS[:12]),
            unanswerable=questions([]),
            seen=documents(FACTS[6:12]),
            held_out=documents(FACTS[:6]),
        ),
        params=params,
        limit=4,
    )
    assert [system.system for system in evaluation.systems] == ["cmt"]
    records = evaluation.records.to_pylist()
    assert len(records) == 4
    assert {record["doc_id"] for record in records} <= {fact["doc_id"] for fact in FACTS[:6]}
    assert all(record["sources"] for record in records)
    assert any(
        record["cmt"] for record in records
    )  # in spite of a threshold that refuses every question


def test_the_name_tells_which_questions_were_asked() -> None:
    params = Params.model_validate(
        {"seed": 3, "train": {"source": "hub:owner/squad", "validation_articles": 7}}
    )
    assert held_out_name(params, questions=50) == "50 questions on 7 articles of squad, seed 3"
    assert held_out_name(params, questions=50) != held_out_name(params, questions=51)
