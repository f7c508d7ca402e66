"""The compared systems, each by itself."""

from cmt.common.systems import ROUND_SYSTEMS, SYSTEM_STYLES
from cmt.evaluation.comparison_data import ComparisonData
from cmt.evaluation.systems import RAG_SYSTEMS, SYSTEMS


def test_every_system_has_a_label() -> None:
    assert SYSTEM_STYLES.keys() == {*SYSTEMS, *ROUND_SYSTEMS}


def test_closed_book_reads_no_document_and_full_text_the_right_one(comparison_data: ComparisonData) -> None:
    closed, full = (SYSTEMS[name](comparison_data) for name in ("closed", "full"))
    assert closed is not None and full is not None
    assert [prediction.doc_ids for prediction in closed.predictions] == [(), ()]
    assert [prediction.doc_ids for prediction in full.predictions] == [("mayor-1",), ("ferry",)]
    assert full.tokens > closed.tokens > 0
    assert closed.recall_depth is full.recall_depth is None


def test_rag_retrieves_as_many_texts_as_it_reads(comparison_data: ComparisonData) -> None:
    for name, system in RAG_SYSTEMS.items():
        run = system(comparison_data)
        assert run is not None
        assert run.recall_depth == int(name[-1])
        assert all(0 < len(prediction.doc_ids) <= run.recall_depth for prediction in run.predictions)
