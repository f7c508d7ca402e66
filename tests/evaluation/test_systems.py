"""The compared systems, each by itself."""

from cmt.common.systems import ROUND_SYSTEMS, SYSTEM_STYLES
from cmt.evaluation.baseline_data import ComparisonData
from cmt.evaluation.systems import RAG_SYSTEMS, SYSTEMS, TokenMeter
from cmt.lm.model import FrozenLM


def test_every_system_has_a_label() -> None:
    assert SYSTEM_STYLES.keys() == {*SYSTEMS, *ROUND_SYSTEMS}


def test_closed_book_reads_no_document_and_full_text_the_right_one(
    comparison_data: ComparisonData,
) -> None:
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
        assert all(
            0 < len(prediction.doc_ids) <= run.recall_depth for prediction in run.predictions
        )


def test_the_meter_counts_the_tokens_of_every_prompt_and_its_shared_head(lm: FrozenLM) -> None:
    meter, prompts = TokenMeter(), ["Who?", "Where is the ferry?"]
    meter.complete(lm)(prompts, max_new_tokens=2, batch_size=2)
    without_head = meter.tokens_read
    assert without_head == sum(1 + len(lm.tokenize(prompt)) for prompt in prompts)
    meter.complete(lm)(prompts, max_new_tokens=2, batch_size=2, shared="Answer: ")
    assert meter.tokens_read - without_head == without_head + 2 * len(lm.tokenize("Answer: "))
