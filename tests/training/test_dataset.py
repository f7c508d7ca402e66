"""Paragraphs and steps: which answers are found in the text, and what each step samples."""

from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from cmt.errors import StreamError
from cmt.training.dataset import TEACHER_FORCING_RESUMED, Paragraph, StepDataset, paragraphs
from tests.helpers.facts import documents, questions
from tests.helpers.training import FARES, paragraph_pool, training_params


def test_a_paragraph_knows_the_spans_of_its_answers(tiny_lm: Any) -> None:
    lm = tiny_lm("llama")
    pool = paragraph_pool(lm, FARES)
    assert [paragraph.article for paragraph in pool] == [row["title"] for row in FARES]
    for paragraph, row in zip(pool, FARES, strict=True):
        ((question, answer, ((first, last),)),) = paragraph.questions
        assert lm.decode(question) == row["question"]
        assert answer[-1] == lm.eos
        assert lm.decode(answer) == row["answer"]
        assert lm.decode(paragraph.text[first:]).startswith(row["answer"])
        assert lm.decode(paragraph.text[: last + 1]).endswith(row["answer"])
        assert lm.decode(paragraph.title) == row["title"]


def test_an_answer_occurs_as_whole_words_or_else_as_part_of_a_word(tiny_lm: Any) -> None:
    lm = tiny_lm("llama")
    row = FARES[0] | {"text": "Crowns and crown and crown, not crownless.", "answer": "crown"}
    ((_, _, gold_spans),) = paragraph_pool(lm, [row])[0].questions
    text = lm.tokenize(row["text"])
    assert [lm.decode(text[:first]) for first, _ in gold_spans] == [
        "Crowns and",
        "Crowns and crown and",
    ]
    ((_, _, gold_spans),) = paragraph_pool(lm, [row | {"answer": "rownless"}])[0].questions
    assert len(gold_spans) == 1


def test_questions_that_cannot_be_learned_are_left_out(tiny_lm: Any) -> None:
    lm = tiny_lm("llama")
    long = "one song and another and a third and a fourth"
    rows = [
        FARES[0],
        FARES[1] | {"answer": "free of charge"},  # not in the text
        FARES[2]
        | {"text": "Ask the mayor. " * 40 + FARES[2]["text"]},  # beyond the tokens that are read
        FARES[3] | {"text": f"It costs {long}.", "answer": long},  # too long
    ]
    assert [paragraph.text for paragraph in paragraph_pool(lm, rows)] == [
        lm.tokenize(FARES[0]["text"])
    ]
    with_two_questions = paragraphs(documents(FARES), questions(FARES[:2]), lm=lm, longest=256)
    assert len(with_two_questions) == 2


def test_the_gold_spans_of_a_step_are_the_answer(tiny_lm: Any, tmp_path: Path) -> None:
    lm = tiny_lm("llama")
    steps, has_title = StepDataset(paragraph_pool(lm, FARES), training_params(tmp_path)), []
    assert len(steps) == 4
    for index in range(4):
        step, members = steps[index], [steps.pool[member] for member in steps.steps[index]]
        for tokens, paragraph in zip(step["documents"], members, strict=True):
            has_title.append(tokens == paragraph.title + paragraph.text)
        assert sorted(question.document for question in step["questions"]) == [0, 1, 2, 3]
        for question in step["questions"]:
            ((first, last),) = question.gold_spans
            tokens, answer = step["documents"][question.document], lm.decode(question.answer)
            assert lm.decode(tokens[first:]).startswith(answer)
            assert lm.decode(tokens[: last + 1]).endswith(answer)
    assert set(has_title) == {True, False}


def test_a_step_depends_on_data_seed_and_index_only(tiny_lm: Any, tmp_path: Path) -> None:
    lm, params = tiny_lm("llama"), training_params(tmp_path)
    steps, twin = (StepDataset(paragraph_pool(lm, FARES), params) for _ in range(2))
    assert [twin[index] for index in (3, 1, 0, 2)] == [steps[index] for index in (3, 1, 0, 2)]
    other = StepDataset(paragraph_pool(lm, FARES), params.model_copy(update={"seed": 1}))
    assert [other[index] for index in range(4)] != [steps[index] for index in range(4)]


def test_every_paragraph_is_seen_once_an_epoch(tiny_lm: Any, tmp_path: Path) -> None:
    params = training_params(tmp_path, train={"questions": 24})
    steps = StepDataset(paragraph_pool(tiny_lm("llama"), FARES), params)
    assert [sorted(a + b) for a, b in zip(steps.steps[::2], steps.steps[1::2], strict=True)] == [
        list(range(8))
    ] * 3


def test_paragraphs_of_an_article_are_in_one_step(tiny_lm: Any, tmp_path: Path) -> None:
    steps = StepDataset(
        paragraph_pool(tiny_lm("llama"), FARES[:4] + FARES[5:]), training_params(tmp_path)
    )
    articles = [steps.pool[member].article for member in steps.steps[0] + steps.steps[1]]
    assert len(list(groupby(articles))) == 2


def test_teacher_forcing_decreases_over_the_run(tiny_lm: Any, tmp_path: Path) -> None:
    pool = paragraph_pool(tiny_lm("llama"), FARES)
    steps = StepDataset(pool, training_params(tmp_path))
    rates = [steps[index]["teacher_forcing"] for index in range(4)]
    assert rates[0] == 1.0
    assert rates == sorted(rates, reverse=True)
    assert rates[-1] == pytest.approx(0.4)
    resumed = StepDataset(pool, training_params(tmp_path, train={"start": tmp_path}))
    assert resumed[0]["teacher_forcing"] == TEACHER_FORCING_RESUMED


def steps_of(dataset: StepDataset) -> list[Any]:
    return [dataset[index] for index in range(len(dataset))]


def test_unanswerable_questions_are_asked_last(tiny_lm: Any, tmp_path: Path) -> None:
    asked = questions(FARES).to_pylist()
    asked += [
        asked[0] | {"question_id": f"u{n}", "question": f"Why {n}?", "answers": []}
        for n in range(2)
    ]
    table = pa.Table.from_pylist(asked, schema=questions(FARES).schema)
    pool = paragraphs(documents(FARES), table, lm=tiny_lm("llama"), longest=256)
    assert [len(paragraph.unanswerable) for paragraph in pool] == [2] + [0] * (len(FARES) - 1)
    plain = StepDataset(pool, training_params(tmp_path))
    assert all(question.answer for step in steps_of(plain) for question in step["questions"])
    steps = StepDataset(pool, training_params(tmp_path, train={"unanswerable_per_paragraph": 1}))
    answered = [
        [bool(question.answer) for question in step["questions"]] for step in steps_of(steps)
    ]
    assert all(row == sorted(row, reverse=True) for row in answered)
    assert sum(row.count(False) for row in answered) == sum(0 in step for step in steps.steps) > 0


def test_a_step_has_its_window(tiny_lm: Any, tmp_path: Path) -> None:
    pool = paragraph_pool(tiny_lm("llama"), FARES)
    params = training_params(
        tmp_path, train={"window_frequencies": {1: 1.0, 8: 3.0}, "questions": 400}
    )
    drawn = [step["window"] for step in steps_of(StepDataset(pool, params))]
    assert 0.6 < drawn.count(8) / len(drawn) < 0.9
    assert set(drawn) == {1, 8}
    plain = training_params(tmp_path)
    assert {step["window"] for step in steps_of(StepDataset(pool, plain))} == {
        plain.compressor.window
    }


def of_two_sources(lm: Any) -> list[Paragraph]:
    """The fares: six of the source "big", and two of "small"."""
    pool = paragraph_pool(lm, FARES)
    return [
        replace(paragraph, source="big" if n < 6 else "small") for n, paragraph in enumerate(pool)
    ]


def mixed(folder: Path, **train: Any) -> Any:
    return training_params(
        folder, train={"mix": {"path:big.json": 3.0, "path:x/small.json": 1.0}} | train
    )


def test_sources_have_their_shares_however_small_they_are(tiny_lm: Any, tmp_path: Path) -> None:
    pool = of_two_sources(tiny_lm("llama"))
    steps = StepDataset(pool, mixed(tmp_path, questions=400))
    drawn = [steps.pool[member].source for step in steps.steps for member in step]
    assert len(steps) == 100 and all(len(step) == 4 for step in steps.steps)
    assert drawn.count("big") / len(drawn) == pytest.approx(0.75, abs=0.02)
    times = [sum(step.count(member) for step in steps.steps) for member in range(len(pool))]
    assert max(times[:6]) - min(times[:6]) <= 1 and abs(times[6] - times[7]) <= 1
    even = StepDataset(
        pool, mixed(tmp_path, questions=400, mix={"path:big.json": 1.0, "path:x/small.json": 1.0})
    )
    drawn = [even.pool[member].source for step in even.steps for member in step]
    assert drawn.count("small") == pytest.approx(200, abs=4)


def test_a_longer_mixed_run_begins_with_the_same_steps(tiny_lm: Any, tmp_path: Path) -> None:
    pool = of_two_sources(tiny_lm("llama"))
    short, long = (StepDataset(pool, mixed(tmp_path, questions=count)) for count in (40, 80))
    assert long.steps[:10] == short.steps and len(long) == 20


def test_a_source_without_a_paragraph_is_named(tiny_lm: Any, tmp_path: Path) -> None:
    params = mixed(tmp_path, mix={"path:big.json": 1.0, "path:nowhere.json": 1.0})
    with pytest.raises(
        StreamError, match=r"train\.mix: no paragraph to train on counts for nowhere\. A document"
    ):
        StepDataset(of_two_sources(tiny_lm("llama")), params)


def test_a_source_without_answers_is_drawn_for_its_unanswerable_questions(
    tiny_lm: Any, tmp_path: Path
) -> None:
    pool = of_two_sources(tiny_lm("llama"))
    pool[6:] = [replace(paragraph, questions=[], unanswerable=[[5, 6]]) for paragraph in pool[6:]]
    assert (
        len(StepDataset(pool, training_params(tmp_path)).pool) == 6
    )  # without a mix they are not drawn
    with pytest.raises(
        StreamError, match="counts for small.*need research.train.unanswerable_per_paragraph"
    ):
        StepDataset(pool, mixed(tmp_path))
    steps = StepDataset(pool, mixed(tmp_path, unanswerable_per_paragraph=1, questions=40))
    asked = [bool(question.answer) for step in steps_of(steps) for question in step["questions"]]
    assert asked.count(True) >= 40 and asked.count(False) == pytest.approx(len(asked) / 4, abs=3)
    mostly = mixed(
        tmp_path,
        unanswerable_per_paragraph=1,
        mix={"path:big.json": 1.0, "path:x/small.json": 99.0},
    )
    with pytest.raises(
        StreamError, match=r"no question of step \d+ has an answer: give the sources with answers"
    ):
        StepDataset(pool, mostly)
