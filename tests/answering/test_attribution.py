"""Sources, spans and quotes: what an answer shows of the documents that it rests on."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import torch

from cmt.answering._attribution import attribute_sources, quote_span, text_spans
from cmt.answering.answer import Span
from cmt.answering.answerer import Answerer
from cmt.modeling.span_decoding import MAX_SPAN_TOKENS, AnswerSpan, TokenSpan
from tests.helpers.lms import TinyLm
from tests.helpers.untrained import (
    MAYORS,
    NOW,
    PUBLISHED,
    QUESTIONS,
    small_params,
    untrained_answerer,
    with_params,
)


def word_offsets(text: str) -> list[tuple[int, int]]:
    """Each word, with the blank before it, as one token."""
    starts = [0, *(place for place, letter in enumerate(text) if letter == " ")]
    return list(zip(starts, [*starts[1:], len(text)], strict=True))


def bank_row(
    doc_id: str, *, prior: float = 0.0, text: str | None = "It costs six crowns."
) -> dict[str, Any]:
    published_at = datetime(2031, 1, 2, tzinfo=UTC)
    known = {"doc_id": doc_id, "title": None, "published_at": published_at, "supersedes": None}
    return known | {"similarity": 0.123456, "prior": prior, "text": text}


def test_memories_of_a_document_are_one_source_represented_by_the_best() -> None:
    rows = [bank_row("a", text="Worse text."), bank_row("b"), bank_row("a", text="Better text.")]
    begin_probability = torch.tensor([[0.1, 0.0], [0.2, 0.0], [0.3, 0.1]])
    sources = attribute_sources(rows, begin_probability, [], None, word_offsets)
    assert [(source.doc_id, source.weight, source.text) for source in sources] == [
        ("a", 0.4, "Better text."),
        ("b", 0.2, "It costs six crowns."),
    ]
    assert sources[0].similarity == 0.1235


def test_the_first_source_is_the_one_that_the_answer_is_from() -> None:
    rows = [bank_row("injected"), bank_row("quoted")]
    begin_probability = torch.tensor([[0.3, 0.3, 0.0, 0.0], [0.0, 0.0, 0.4, 0.0]])
    quote = AnswerSpan(
        TokenSpan(1, 2, 3), (1, 2), 0.4, agreement=0.4, margin=1.0
    )  # at the likeliest single token
    sources = attribute_sources(rows, begin_probability, [], quote, word_offsets)
    assert [(source.doc_id, source.weight, source.quote is None) for source in sources] == [
        ("quoted", 0.4, False),
        ("injected", 0.6, True),
    ]


def test_without_token_scores_sources_are_in_the_order_of_the_selection() -> None:
    rows = [bank_row("far", prior=-3.0), bank_row("near", prior=-0.1)]
    sources = attribute_sources(rows, None, [TokenSpan(0, 0, 1)], None, word_offsets)
    assert [(source.doc_id, source.weight, source.spans) for source in sources] == [
        ("near", 0.0, ()),
        ("far", 0.0, ()),
    ]


def test_a_source_without_text_has_no_spans() -> None:
    (source,) = attribute_sources(
        [bank_row("a", text=None)],
        torch.tensor([[0.5, 0.1]]),
        [TokenSpan(0, 0, 1)],
        None,
        word_offsets,
    )
    assert (source.text, source.spans, source.quote, source.weight) == (None, (), None, 0.6)


def test_token_spans_become_character_spans_in_the_order_of_the_text() -> None:
    text, begin_probability = "It costs six crowns.", torch.tensor([0.1, 0.2, 0.3, 0.05])
    spans = text_spans(
        text, [TokenSpan(0, 2, 3), TokenSpan(0, 0, 0)], begin_probability, word_offsets
    )
    assert spans == (Span(0, 2, 0.1), Span(8, 20, 0.35))
    assert text[8:20] == " six crowns."
    # the memory may have more tokens than the kept text
    assert text_spans(text, [TokenSpan(0, 3, 9)], begin_probability, word_offsets) == (
        Span(12, 20, 0.05),
    )
    # a quote has no surrounding blanks
    assert quote_span(text, TokenSpan(0, 2, 3), begin_probability, word_offsets) == Span(
        9, 20, 0.35
    )
    assert quote_span("It  ", TokenSpan(0, 1, 1), begin_probability, word_offsets) is None


def test_sources_show_the_spans_that_the_lm_read(mayors: Answerer) -> None:
    for answer in mayors.answer(QUESTIONS, as_of=NOW):
        spans = [(source, span) for source in answer.sources for span in source.spans]
        assert spans
        for source, span in spans:
            assert source.text is not None
            assert 0 <= span.first < span.last <= len(source.text)
        assert sum(span.probability for _, span in spans) <= 1.001
    wide = with_params(mayors, selection={"best_windows": 1, "neighbour_windows": 99}).answer(
        QUESTIONS[:1], as_of=[None]
    )[0]
    (source,) = [source for source in wide.sources if source.spans]
    assert [(span.first, span.last) for span in source.spans] == [(0, len(source.text or ""))]


def test_one_source_shows_the_quote(mayors: Answerer) -> None:
    for answer in mayors.answer(QUESTIONS, as_of=NOW):
        (source,) = [source for source in answer.sources if source.quote]
        assert source.quote and source.text
        words = source.text[source.quote.first : source.quote.last]
        assert words and words == words.strip()
        assert 0 <= source.quote.probability <= 1
        assert len(mayors.lm.tokenize(words)) <= MAX_SPAN_TOKENS


def test_the_published_parts_score_no_tokens(tiny_lm: TinyLm, tmp_path: Path) -> None:
    answerer = untrained_answerer(
        tiny_lm("llama"), tmp_path, MAYORS, params=small_params(**PUBLISHED)
    )
    for answer in answerer.answer(QUESTIONS, as_of=NOW):
        assert [source.weight for source in answer.sources] == [0.0, 0.0]
        assert not any(source.spans for source in answer.sources)
        assert answer.confidence == pytest.approx(
            max(source.similarity for source in answer.sources), abs=1e-4
        )
