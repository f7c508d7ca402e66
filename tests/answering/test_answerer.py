"""Questions through a real bank: retrieval as of a date, abstention, streaming, and independence of
the batch.
"""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from cmt.answering.answer import NOT_IN_MEMORY
from cmt.answering.answerer import Answerer
from cmt.answering.confidence import Calibration
from cmt.lm.model import FrozenLM
from cmt.retrieval.indexer import retrieved_memory
from tests.helpers.facts import FACTS
from tests.helpers.lms import TinyLm, build
from tests.helpers.untrained import (
    MAYORS,
    NOW,
    PUBLISHED,
    QUESTIONS,
    SETUPS,
    Sections,
    small_params,
    source_ids,
    untrained_answerer,
    with_params,
)


def test_an_empty_bank_answers_not_in_memory(tiny_lm: TinyLm, tmp_path: Path) -> None:
    for name, sections in {"windows": {}, "published": PUBLISHED}.items():
        answerer = untrained_answerer(
            tiny_lm("llama"), tmp_path / name, [], params=small_params(**sections)
        )
        for answer in answerer.answer(QUESTIONS, as_of=NOW):
            assert (answer.text, answer.known, answer.confidence, answer.sources) == (
                NOT_IN_MEMORY,
                False,
                0.0,
                (),
            )


def test_calibration_moves_the_confidence_and_refuses_no_other_answers(mayors: Answerer) -> None:
    plain = mayors.answer(QUESTIONS, as_of=NOW)
    assert [answer.uncalibrated for answer in plain] == [answer.confidence for answer in plain]
    middle = sorted(answer.confidence for answer in plain)[len(plain) // 2]
    some = with_params(mayors, selection={"abstain_below": middle})
    plain = some.answer(QUESTIONS, as_of=NOW)
    assert {answer.known for answer in plain} == {True, False}
    some = replace(some, calibration=Calibration(slope=0.5, shift=2.0))
    calibrated = some.answer(QUESTIONS, as_of=NOW)
    assert [answer.confidence for answer in calibrated] == [
        pytest.approx(some.calibration.apply(answer.confidence))
        if answer.known
        else answer.confidence
        for answer in plain
    ]
    for name in ("uncalibrated", "text", "known", "sources"):
        assert [getattr(answer, name) for answer in calibrated] == [
            getattr(answer, name) for answer in plain
        ]


def test_a_question_is_refused_if_the_document_lacks_all_its_names(mayors: Answerer) -> None:
    some = with_params(mayors, selection={"abstain_below": 0.0})
    paris, port_ellery = some.answer(
        ["Who is the mayor of Paris?", "Who is the mayor?"], as_of=NOW[:2]
    )
    assert (paris.text, paris.verdict, paris.missing) == (
        NOT_IN_MEMORY,
        "not_in_memory",
        ("Paris",),
    )
    assert (port_ellery.known, port_ellery.missing) == (True, ())
    (unlimited,) = mayors.answer(["Who is the mayor of Paris?"], as_of=[None])
    assert (unlimited.verdict, unlimited.missing) == ("unsure", ("Paris",))


def test_the_superseded_document_and_other_chunks_have_names_of_a_question(
    tiny_lm: TinyLm, tmp_path: Path
) -> None:
    long = (
        "The council met. " * 12
        + "The bridge costs nine crowns. " * 3
        + "All of it is in Dunmarrow."
    )
    rows = [*MAYORS, {"doc_id": "long", "published_at": "2031-01-09T07:00:00Z", "text": long}]
    answerer = untrained_answerer(tiny_lm("llama"), tmp_path, rows)
    (key,) = answerer.keys(["Who?"])
    memories = answerer.bank.documents({"vell", "ferry", "long"}).to_pylist()
    known = {row["memory_id"]: [row | {"key": key}] for row in memories}
    assert {"long#0", "long#1"} <= known.keys()
    asked: dict[str, tuple[str, tuple[str, ...]]] = {
        "Does Moss stay?": ("vell#0", ()),
        "Is Moss there?": ("ferry#0", ("Moss",)),
        "What costs nine crowns in Dunmarrow?": ("long#0", ()),
        "And in Saltby?": ("long#0", ("Saltby",)),
    }
    answers = answerer.answer_from(list(asked), [known[memory] for memory, _ in asked.values()])
    assert [answer.missing for answer in answers] == [missing for _, missing in asked.values()]


def test_a_confidence_below_the_threshold_is_not_in_memory(mayors: Answerer) -> None:
    answers = mayors.answer(QUESTIONS, as_of=NOW)
    assert all(answer.known and answer.text != NOT_IN_MEMORY for answer in answers)
    assert all(0 < answer.confidence < 1 for answer in answers)
    lowest, second = sorted({answer.confidence for answer in answers})[:2]
    threshold = (lowest + second) / 2
    strict = with_params(mayors, selection={"abstain_below": threshold}).answer(
        QUESTIONS, as_of=NOW
    )
    assert [answer.known for answer in strict] == [
        answer.confidence >= threshold for answer in answers
    ]
    assert {answer.known for answer in strict} == {True, False}
    assert all((answer.text == NOT_IN_MEMORY) is not answer.known for answer in strict)
    assert [answer.sources for answer in strict] == [answer.sources for answer in answers]


@pytest.mark.parametrize("sections", [{}, {"bank": {"keep_text": False}}], ids=["text", "vectors"])
def test_an_update_is_read_beside_the_document_that_it_supersedes_while_the_bank_has_it(
    tiny_lm: TinyLm, tmp_path: Path, sections: Sections
) -> None:
    answerer = untrained_answerer(
        tiny_lm("llama"), tmp_path, MAYORS, params=small_params(**sections)
    )
    update = answerer.bank.documents({"vell"}).to_pylist()[0] | {
        "key": [1.0] * answerer.model.key_dim
    }
    assert update["supersedes"] == "moss"

    def weight_and_best_begin(row: dict[str, Any]) -> tuple[float, float]:
        (answer,) = answerer.answer_from(QUESTIONS[:1], [[row]])
        tokens = answerer.lm.tokenize(" " + QUESTIONS[0])
        with torch.no_grad():
            encoding = answerer.model.encode([tokens])
            superseded = answerer._superseded_tokens([row]).get(row["supersedes"], ())
            memory = retrieved_memory(answerer.model, row, answerer.bank.schema, before=superseded)
            scored = answerer.model.score(encoding, [tokens], [[memory]], expanded=0)
            output = answerer.model.decode(scored, answerer.params.selection)
        assert output.begins is not None
        return answer.sources[0].weight, float(output.begins.max())

    beside = weight_and_best_begin(update)
    alone = weight_and_best_begin(update | {"supersedes": None})
    assert beside[0] == pytest.approx(alone[0], rel=1e-3)
    assert beside[1] != pytest.approx(alone[1], rel=1e-3)
    answerer.bank.remove({"moss"})
    assert weight_and_best_begin(update) == alone


def test_answers_are_in_the_order_of_the_questions(mayors: Answerer) -> None:
    advances: list[int] = []
    answers = mayors.answer(QUESTIONS, as_of=NOW, on_progress=advances.append)
    assert [answer.question for answer in answers] == QUESTIONS
    assert mayors.answer(QUESTIONS[::-1], as_of=NOW) == answers[::-1]
    assert sum(advances) == len(QUESTIONS)
    assert mayors.answer([], as_of=[]) == []


@pytest.mark.parametrize("name", ["text", "vectors", "published"])
def test_the_order_of_the_documents_does_not_change_answers(
    tiny_lm: TinyLm, tmp_path: Path, name: str
) -> None:
    rows, params = [FACTS[0], *MAYORS], small_params(**SETUPS[name])
    questions = [*QUESTIONS, FACTS[0]["question"]]
    forwards = untrained_answerer(
        tiny_lm("llama"), tmp_path / "a", rows, params=params, one_by_one=True
    )
    backwards = untrained_answerer(
        tiny_lm("llama"), tmp_path / "b", rows[::-1], params=params, one_by_one=True
    )
    answers = forwards.answer(questions, as_of=[None] * len(questions))
    if name == "vectors":
        assert all(
            source.text is None and not source.spans
            for answer in answers
            for source in answer.sources
        )
    assert backwards.answer(questions, as_of=[None] * len(questions)) == answers
    assert len({answer.text for answer in answers}) > 1


def test_a_streamed_abstention_is_one_piece_and_nothing_is_generated(
    mayors: Answerer, monkeypatch: pytest.MonkeyPatch
) -> None:
    strict, pieces = with_params(mayors, selection={"abstain_below": 1.0}), list[str]()
    monkeypatch.setattr(strict, "generate", None)
    answer = strict.stream(QUESTIONS[0], as_of=None, on_text=pieces.append)
    assert (answer.known, answer.text, pieces) == (False, NOT_IN_MEMORY, [NOT_IN_MEMORY])


def test_the_closed_book_answer_comes_beside_the_others(mayors: Answerer) -> None:
    answers = mayors.answer(QUESTIONS, as_of=NOW, closed_book=True)
    assert all(isinstance(answer.closed_book, str) for answer in answers)
    assert [replace(answer, closed_book=None) for answer in answers] == mayors.answer(
        QUESTIONS, as_of=NOW
    )


@pytest.mark.parametrize(
    "sections", [{}, SETUPS["published tokens"]], ids=["text", "published tokens"]
)
def test_a_question_with_a_near_tie_gets_the_answer_that_it_gets_alone(
    tiny_lm: TinyLm, tmp_path: Path, sections: Sections, monkeypatch: pytest.MonkeyPatch
) -> None:
    answerer = untrained_answerer(
        tiny_lm("llama"), tmp_path, FACTS[:4], params=small_params(**sections)
    )
    batch_sizes: list[int] = []
    model = type(answerer.model)
    score = model.score

    def recorded(*args: Any, **kwargs: Any) -> Any:
        batch_sizes.append(len(args[2]))
        return score(*args, **kwargs)

    monkeypatch.setattr(model, "score", recorded)
    alone = with_params(answerer, **{"answering": {"batch_size": 1}} | sections).answer(
        QUESTIONS, as_of=NOW
    )
    together = with_params(answerer, **{"answering": {"batch_size": 4}} | sections)
    monkeypatch.setattr(FrozenLM, "tolerance", math.inf)  # every token is a near-tie
    batch_sizes.clear()
    assert together.answer(QUESTIONS, as_of=NOW) == alone
    # the two questions that are padded alike share a batch, and each is recomputed alone
    assert (sum(batch_sizes), max(batch_sizes)) == (6, 2)


@pytest.mark.parametrize(
    "sections", [{}, PUBLISHED, {"aggregator": {"kind": "none"}}], ids=["text", "published", "none"]
)
def test_in_bfloat16_the_batch_size_does_not_change_answers(
    tmp_path: Path, sections: Sections
) -> None:
    lm = build("llama")
    lm.model.bfloat16()
    answerer = untrained_answerer(lm, tmp_path, FACTS[:3], params=small_params(**sections))
    questions = [*QUESTIONS, *(fact["question"] for fact in FACTS[:3])]
    by_size = {
        size: with_params(answerer, **{"answering": {"batch_size": size}} | sections).answer(
            questions, as_of=[None] * len(questions)
        )
        for size in (1, 32)
    }
    assert [answer.text for answer in by_size[32]] == [answer.text for answer in by_size[1]]
    assert [source_ids(answer) for answer in by_size[32]] == [
        source_ids(answer) for answer in by_size[1]
    ]


def test_learned_memory_tokens_may_be_fewer_than_the_windows_of_the_text(
    tiny_lm: TinyLm, tmp_path: Path
) -> None:
    params = small_params(**PUBLISHED, compressor={"kind": "tokens", "chunk_tokens": 200})
    answerer = untrained_answerer(tiny_lm("llama"), tmp_path, FACTS[:1], params=params)
    (answer,) = answerer.answer([FACTS[0]["question"]], as_of=[None])
    assert answer.known
