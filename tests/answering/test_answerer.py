"""Questions answered through a real bank: what is selected, what is said when nothing fits, what must not matter."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import torch

from cmt.answering.answer import NOT_IN_MEMORY, Answer
from cmt.answering.answerer import Answerer
from cmt.bank.bank import Bank
from cmt.config import Params
from cmt.lm.model import FrozenLM
from cmt.modeling.checkpoint import CompressorConfig
from cmt.modeling.model import MemoryModel
from cmt.modeling.span_decoding import MAX_SPAN_TOKENS
from cmt.retrieval.indexer import compress_documents, memory_schema, retrieved_memory
from cmt.retrieval.selector import Selection, select_memories
from tests.helpers.facts import FACTS, documents
from tests.helpers.lms import build

TinyLm = Callable[[str], FrozenLM]
SMALL: dict[str, dict[str, Any]] = {
    "compressor": {"layers": 2, "lora_rank": 2, "chunk_tokens": 32, "memory_tokens": 3},
    "aggregator": {"blocks": 2, "lora_rank": 2, "heads": 2},
    "alignment": {"slots": 3},
    "answering": {"max_new_tokens": 8, "batch_size": 3},
    "selection": {"threshold": -1.0, "reach": math.inf},
}
PUBLISHED: dict[str, dict[str, Any]] = {"aggregator": {"kind": "attention"}, "alignment": {"kind": "prefix"}}
MAYORS = [
    {"doc_id": "moss", "published_at": "2031-01-06T07:00:00Z", "text": "Moss is the mayor of Port Ellery."},
    {
        "doc_id": "vell",
        "published_at": "2031-02-20T07:00:00Z",
        "text": "Vell is the mayor of Port Ellery now.",
        "supersedes": "moss",
    },
    {"doc_id": "ferry", "published_at": "2031-01-09T07:00:00Z", "text": "The ferry to Saltby costs six crowns."},
]
QUESTIONS = [
    "Who is the mayor of Port Ellery?",
    "What does the ferry to Saltby cost a trip, and since when has it been so dear?",
    "Six?",
    "Who?",
]
NOW = [None] * len(QUESTIONS)


def params(**sections: dict[str, Any]) -> Params:
    merged = {name: SMALL.get(name, {}) | sections.get(name, {}) for name in SMALL.keys() | sections.keys()}
    return Params.model_validate(merged)


def answerer(
    lm: FrozenLM, folder: Path, made: Sequence[dict[str, Any]], *, how: Params | None = None, one_by_one: bool = False
) -> Answerer:
    """One with an untrained compressor whose adapters and heads are not at zero."""
    how = how or params()
    torch.manual_seed(5)
    model = MemoryModel(lm, CompressorConfig.of(how), digest="c" * 64).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.requires_grad and "lora_A" not in name and name != "log_temperature":
                parameter.add_(0.1 * torch.randn(parameter.shape))
    keep = how.bank.keep_text
    schema = memory_schema(model, keep_text=keep, number_format=how.bank.codes)
    bank = Bank.open(uri=str(folder), schema=schema)
    for part in [[row] for row in made] if one_by_one else [list(made)] if made else []:
        bank.upsert(
            compress_documents(
                model,
                documents(part),
                slice_id="2031-01/0001",
                keep_text=keep,
                number_format=how.bank.codes,
                batch_tokens=256,
            )
        )
    return Answerer(model=model, lm=lm, bank=bank, params=how)


def again(one: Answerer, **sections: dict[str, Any]) -> Answerer:
    """The same with other parameters for selecting and answering."""
    return Answerer(model=one.model, lm=one.lm, bank=one.bank, params=params(**sections))


def best(answers: Sequence[Answer]) -> list[str]:
    return [answer.sources[0].doc_id for answer in answers]


def found(answer: Answer) -> set[str]:
    return {source.doc_id for source in answer.sources}


@pytest.fixture(scope="module")
def mayors(tiny_lm: TinyLm, tmp_path_factory: pytest.TempPathFactory) -> Answerer:
    return answerer(tiny_lm("llama"), tmp_path_factory.mktemp("bank"), MAYORS)


def test_an_empty_bank_knows_nothing(tiny_lm: TinyLm, tmp_path: Path) -> None:
    for name, sections in {"windows": {}, "published": PUBLISHED}.items():
        one = answerer(tiny_lm("llama"), tmp_path / name, [], how=params(**sections))
        for answer in one.answer(QUESTIONS, as_of=NOW):
            assert (answer.text, answer.known, answer.confidence, answer.sources) == (NOT_IN_MEMORY, False, 0.0, ())


def test_before_the_first_document_nothing_is_known(mayors: Answerer) -> None:
    early, late = datetime(2030, 1, 1, tzinfo=UTC), datetime(2031, 3, 1, tzinfo=UTC)
    answers = mayors.answer(QUESTIONS[:2], as_of=[early, late])
    assert [answer.known for answer in answers] == [False, True]
    assert answers[0].text == NOT_IN_MEMORY


def test_a_confidence_below_the_threshold_is_not_in_memory(mayors: Answerer) -> None:
    plain = mayors.answer(QUESTIONS, as_of=NOW)
    assert all(answer.known and answer.text != NOT_IN_MEMORY for answer in plain)
    assert all(0 < answer.confidence < 1 for answer in plain)
    middle = sorted(answer.confidence for answer in plain)[1]
    strict = again(mayors, selection={"threshold": middle}).answer(QUESTIONS, as_of=NOW)
    assert [answer.known for answer in strict] == [answer.confidence >= middle for answer in plain]
    assert {answer.known for answer in strict} == {True, False}
    assert all((answer.text == NOT_IN_MEMORY) is not answer.known for answer in strict)
    assert [answer.sources for answer in strict] == [answer.sources for answer in plain]


def test_a_superseded_document_answers_for_its_own_time_only(mayors: Answerer) -> None:
    one = again(mayors, selection={"top_k": 1})
    dates = [datetime(2031, 1, 20, tzinfo=UTC), datetime(2031, 3, 1, tzinfo=UTC), None]
    answers = one.answer([QUESTIONS[0]] * 3, as_of=dates)
    assert best(answers) == ["moss", "vell", "vell"]
    assert answers[0].sources[0].published_at == datetime(2031, 1, 6, 7, tzinfo=UTC)
    everything = mayors.answer([QUESTIONS[0]] * 3, as_of=dates)
    assert [found(answer) for answer in everything] == [{"moss", "ferry"}, {"vell", "ferry"}, {"vell", "ferry"}]


@pytest.mark.parametrize("sections", [{}, {"bank": {"keep_text": False}}], ids=["text", "vectors"])
def test_news_are_read_beside_what_they_supersede_while_that_is_there(
    tiny_lm: TinyLm, tmp_path: Path, sections: dict[str, dict[str, Any]]
) -> None:
    one = answerer(tiny_lm("llama"), tmp_path, MAYORS, how=params(**sections))
    row = one.bank.documents({"vell"}).to_pylist()[0] | {"key": [1.0] * one.model.key_dim}
    assert row["supersedes"] == "moss"

    def weights(row: dict[str, Any]) -> tuple[float, float]:
        (answer,) = one.answer_from(QUESTIONS[:1], [[row]])
        with torch.no_grad():
            code = one.model.encode([one.lm.tokenize(" " + QUESTIONS[0])])
            before = one._superseded([Selection([row])]).get(row["supersedes"], ())
            memory = retrieved_memory(one.model, row, one.bank.schema, before=before)
            begins = one.model.read(
                code, [one.lm.tokenize(" " + QUESTIONS[0])], [[memory]], one.params.selection
            ).begins
        assert begins is not None
        return answer.confidence, float(begins.max())

    beside, alone = weights(row), weights(row | {"supersedes": None})
    assert beside[0] == pytest.approx(alone[0], rel=1e-3)
    assert beside[1] != pytest.approx(alone[1], rel=1e-3)
    one.bank.forget("moss")
    assert weights(row) == alone


def test_answers_come_in_the_order_of_the_questions(mayors: Answerer) -> None:
    heard: list[int] = []
    answers = mayors.answer(QUESTIONS, as_of=NOW, on_progress=heard.append)
    assert [answer.question for answer in answers] == QUESTIONS
    assert mayors.answer(QUESTIONS[::-1], as_of=NOW) == answers[::-1]
    assert sum(heard) == len(QUESTIONS)
    assert mayors.answer([], as_of=[]) == []


SETUPS: dict[str, dict[str, dict[str, Any]]] = {
    "text": {},
    "vectors": {"bank": {"keep_text": False}},
    "published": PUBLISHED,
    "published tokens": PUBLISHED | {"compressor": {"kind": "tokens"}},
}


@pytest.mark.parametrize("sections", SETUPS.values(), ids=SETUPS)
def test_the_batch_size_does_not_change_answers(
    tiny_lm: TinyLm, tmp_path: Path, sections: dict[str, dict[str, Any]]
) -> None:
    one = answerer(tiny_lm("llama"), tmp_path, FACTS[:6], how=params(**sections))
    questions = [*QUESTIONS, *(fact["question"] for fact in FACTS[:6])]
    answers = one.answer(questions, as_of=[None] * 10)
    assert len({answer.text for answer in answers}) > 1
    for size in (1, 10):
        how = {"answering": {"batch_size": size}} | sections
        other = again(one, **how).answer(questions, as_of=[None] * 10)
        assert [answer.text for answer in other] == [answer.text for answer in answers]
        for ours, theirs in zip(other, answers, strict=True):
            assert [source.doc_id for source in ours.sources] == [source.doc_id for source in theirs.sources]
            assert ours.confidence == pytest.approx(theirs.confidence, abs=1e-4)


@pytest.mark.parametrize("sections", SETUPS.values(), ids=SETUPS)
def test_the_order_in_which_documents_came_does_not_change_answers(
    tiny_lm: TinyLm, tmp_path: Path, sections: dict[str, dict[str, Any]]
) -> None:
    made, how = [*FACTS[:5], *MAYORS], params(**sections)
    questions = [*QUESTIONS, *(fact["question"] for fact in FACTS[:5])]
    forwards = answerer(tiny_lm("llama"), tmp_path / "a", made, how=how, one_by_one=True)
    backwards = answerer(tiny_lm("llama"), tmp_path / "b", made[::-1], how=how, one_by_one=True)
    answers = forwards.answer(questions, as_of=[None] * 9)
    assert backwards.answer(questions, as_of=[None] * 9) == answers
    assert len({answer.text for answer in answers}) > 1


def test_sources_are_distinct_documents_best_first(tiny_lm: TinyLm, tmp_path: Path) -> None:
    one = answerer(tiny_lm("llama"), tmp_path, FACTS[:3])
    assert one.bank.count_rows() > 6  # several chunks a document
    (answer,) = again(one, selection={"top_k": 6}).answer([FACTS[0]["question"]], as_of=[None])
    names, weights = zip(*((source.doc_id, source.weight) for source in answer.sources), strict=True)
    assert len(set(names)) == len(names) > 1
    assert list(weights) == sorted(weights, reverse=True)
    assert 0 < sum(weights) <= 1.001
    texts = {fact["doc_id"]: fact["text"] for fact in FACTS}
    assert all(source.text and source.text in texts[source.doc_id] for source in answer.sources)


def test_no_more_memories_than_top_k_are_sources(mayors: Answerer) -> None:
    for top_k in (1, 2):
        answers = again(mayors, selection={"top_k": top_k}).answer(QUESTIONS, as_of=NOW)
        assert [len(answer.sources) for answer in answers] == [top_k] * len(QUESTIONS)


def test_a_memory_too_far_behind_the_first_is_not_read(mayors: Answerer) -> None:
    weight = 24.0  # of the words: a document without any of the question's is about so far behind
    near, far = (again(mayors, selection={"reach": reach, "full_text_weight": weight}) for reach in (5.0, 50.0))
    asked = "What does the ferry to Saltby cost?"
    assert found(near.answer([asked], as_of=[None])[0]) == {"ferry"}
    assert found(far.answer([asked], as_of=[None])[0]) == {"ferry", "vell"}
    (key,) = near.keys([asked])
    one, both = (
        select_memories(near.bank, near.model, how.params.selection, question=asked, key=key, as_of=None)
        for how in (near, far)
    )
    assert one.lead == both.lead > 5.0, "how sure the selection is does not depend on how much is read"
    assert one.rows == both.rows[:1]
    assert one.margin == pytest.approx(one.lead - 5.0)
    assert both.margin == pytest.approx(50.0 - both.lead)


def test_words_of_the_question_find_its_document(mayors: Answerer) -> None:
    asked = "What does the ferry to Saltby cost?"
    by_words = again(mayors, selection={"top_k": 1, "full_text_weight": 100.0}).answer([asked], as_of=[None])
    assert best(by_words) == ["ferry"]
    both = again(mayors, selection={"full_text_weight": 0.0}).answer([asked], as_of=[None])[0]
    nearest = max(both.sources, key=lambda source: source.similarity).doc_id
    by_key = again(mayors, selection={"top_k": 1, "full_text_weight": 0.0}).answer([asked], as_of=[None])
    assert best(by_key) == [nearest]


def test_an_answer_is_heard_while_it_is_written(mayors: Answerer) -> None:
    most = 0
    for question, answer in zip(QUESTIONS, mayors.answer(QUESTIONS, as_of=NOW), strict=True):
        heard: list[str] = []
        streamed = mayors.stream(question, as_of=None, say=heard.append)
        assert (streamed.text, streamed.known, found(streamed)) == (answer.text, True, found(answer))
        assert "".join(heard) == answer.text
        most = max(most, len(heard))
    assert most > 1
    strict, heard = again(mayors, selection={"threshold": 1.0}), []
    refused = strict.stream(QUESTIONS[0], as_of=None, say=heard.append)
    assert (refused.known, refused.text, heard) == (False, NOT_IN_MEMORY, [NOT_IN_MEMORY])


def test_a_bank_without_text_answers_from_its_vectors(tiny_lm: TinyLm, tmp_path: Path) -> None:
    one = answerer(tiny_lm("llama"), tmp_path, MAYORS, how=params(bank={"keep_text": False}))
    answers = one.answer(QUESTIONS, as_of=NOW)
    assert all(answer.known and answer.text for answer in answers)
    assert all(source.text is None and not source.spans for answer in answers for source in answer.sources)


def test_sources_show_what_the_lm_read(mayors: Answerer) -> None:
    for answer in mayors.answer(QUESTIONS, as_of=NOW):
        spans = [(source, span) for source in answer.sources for span in source.spans]
        assert spans
        for source, span in spans:
            assert source.text is not None
            assert 0 <= span.first < span.last <= len(source.text)
        assert sum(span.probability for _, span in spans) <= 1.001
    wide = again(mayors, selection={"windows": 1, "neighbours": 99}).answer(QUESTIONS[:1], as_of=[None])[0]
    (whole,) = [source for source in wide.sources if source.spans]
    assert [(span.first, span.last) for span in whole.spans] == [(0, len(whole.text or ""))]


def test_one_source_shows_what_was_quoted_to_the_lm(mayors: Answerer) -> None:
    for answer in mayors.answer(QUESTIONS, as_of=NOW):
        (source,) = [one for one in answer.sources if one.quote]
        assert source.quote and source.text
        words = source.text[source.quote.first : source.quote.last]
        assert words and words == words.strip()
        assert 0 <= source.quote.probability <= 1
        assert len(mayors.lm.tokenize(words)) <= MAX_SPAN_TOKENS


def test_a_question_in_words_that_are_nowhere_is_less_sure(mayors: Answerer) -> None:
    known, strange = mayors.answer(
        ["What does the ferry to Saltby cost?", "Xx yyy zzz qqqqqq vvv wwww?"], as_of=NOW[:2]
    )
    assert known.confidence > strange.confidence


def test_the_published_parts_have_no_windows_to_weigh(tiny_lm: TinyLm, tmp_path: Path) -> None:
    one = answerer(tiny_lm("llama"), tmp_path, MAYORS, how=params(**PUBLISHED))
    for answer in one.answer(QUESTIONS, as_of=NOW):
        assert [source.weight for source in answer.sources] == [0.0, 0.0]
        assert not any(source.spans for source in answer.sources)
        assert answer.confidence == pytest.approx(max(source.similarity for source in answer.sources), abs=1e-4)


def test_the_lm_can_be_asked_what_it_says_alone(mayors: Answerer) -> None:
    answers = mayors.answer(QUESTIONS, as_of=NOW, closed_book=True)
    assert all(isinstance(answer.closed_book, str) for answer in answers)
    assert [replace(answer, closed_book=None) for answer in answers] == mayors.answer(QUESTIONS, as_of=NOW)


def test_decoding_can_contrast_as_training_did(tiny_lm: TinyLm, tmp_path: Path) -> None:
    texts = {}
    for alpha in (0.0, 2.0):
        one = answerer(tiny_lm("llama"), tmp_path / str(alpha), MAYORS, how=params(objective={"alpha": alpha}))
        contrasting = again(one, answering={"contrast": True}, objective={"alpha": alpha})
        texts[alpha] = [[a.text for a in each.answer(QUESTIONS, as_of=NOW)] for each in (one, contrasting)]
    assert texts[0.0][0] == texts[0.0][1] == texts[2.0][0]
    assert texts[2.0][1] != texts[2.0][0]


@pytest.mark.parametrize("sections", SETUPS.values(), ids=SETUPS)
def test_a_doubtful_question_gets_the_answer_that_it_gets_alone(
    tiny_lm: TinyLm, tmp_path: Path, sections: dict[str, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    one = answerer(tiny_lm("llama"), tmp_path, FACTS[:4], how=params(**sections))
    sizes: list[int] = []
    read = MemoryModel.read
    monkeypatch.setattr(MemoryModel, "read", lambda *given: sizes.append(len(given[2])) or read(*given))
    alone = again(one, **{"answering": {"batch_size": 1}} | sections).answer(QUESTIONS, as_of=NOW)
    together = again(one, **{"answering": {"batch_size": 4}} | sections)
    monkeypatch.setattr(FrozenLM, "tolerance", math.inf)
    sizes.clear()
    assert together.answer(QUESTIONS, as_of=NOW) == alone
    assert (sum(sizes), max(sizes)) == (6, 2)  # two that are padded alike are asked together, then each again


@pytest.mark.parametrize("sections", [*SETUPS.values(), {"aggregator": {"kind": "none"}}], ids=[*SETUPS, "none"])
def test_in_bfloat16_the_batch_size_does_not_change_answers_either(
    tmp_path: Path, sections: dict[str, dict[str, Any]]
) -> None:
    lm = build("llama")
    lm.model.bfloat16()
    one = answerer(lm, tmp_path, FACTS[:6], how=params(**sections))
    questions = [*QUESTIONS, *(fact["question"] for fact in FACTS[:6])]
    now = [None] * len(questions)
    by_size = {
        size: again(one, **{"answering": {"batch_size": size}} | sections).answer(questions, as_of=now)
        for size in (1, 32)
    }
    assert [answer.text for answer in by_size[32]] == [answer.text for answer in by_size[1]]
    assert [found(answer) for answer in by_size[32]] == [found(answer) for answer in by_size[1]]


def test_learned_memory_tokens_may_be_fewer_than_windows_of_the_text(tiny_lm: TinyLm, tmp_path: Path) -> None:
    how = params(**PUBLISHED, compressor={"kind": "tokens", "chunk_tokens": 200})
    one = answerer(tiny_lm("llama"), tmp_path, FACTS[:1], how=how)
    (answer,) = one.answer([FACTS[0]["question"]], as_of=[None])
    assert answer.known
