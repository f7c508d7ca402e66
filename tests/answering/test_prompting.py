"""Prompts of the baselines: their wording, what they are cut to, and which documents RAG puts into
them.
"""

from datetime import UTC, datetime
from typing import Any

from cmt.answering.answer import MAX_QUESTION_TOKENS, Answer
from cmt.answering.prompting import EXAMPLES, Passage, Prediction, closed_book, given_text, rag
from cmt.bank.bank import Bank
from cmt.config import AnsweringParams
from cmt.lm.model import FrozenLM

OPTIONS: dict[str, Any] = {"answering": AnsweringParams(max_new_tokens=6, batch_size=2)}
JANUARY, MARCH, JUNE = (datetime(2031, month, 15, tzinfo=UTC) for month in (1, 3, 6))
QUESTIONS = [
    "Who is the mayor of Port Ellery?",
    "What does the Saltby ferry cost?",
    "Who is the mayor of Port Ellery?",
]


def test_an_answer_not_in_memory_is_an_empty_prediction() -> None:
    answer = Answer("Who?", "not in memory", "not_in_memory", 0.1, (), uncalibrated=0.1)
    assert Prediction.of(answer) == Prediction("", ())


def test_the_prompt_is_two_examples_and_the_question(script: Any) -> None:
    closed_book(script, ["Who\nis it?"], complete=script.complete, **OPTIONS)
    assert script.prompts == [
        f"Question: {EXAMPLES[0].question}\nAnswer: {EXAMPLES[0].answer}\n\n"
        f"Question: {EXAMPLES[1].question}\nAnswer: {EXAMPLES[1].answer}\n\n"
        "Question: Who is it?\nAnswer:"
    ]


def test_each_text_has_a_line_as_in_the_examples(script: Any) -> None:
    passages = [Passage("d1", "Vell\n did\tit."), Passage("d2", "Not Moss.")]
    predictions = given_text(script, ["Who?"], [passages], complete=script.complete, **OPTIONS)
    prompt = script.prompts[0]
    assert prompt.endswith("\n\nText: Vell did it.\nText: Not Moss.\nQuestion: Who?\nAnswer:")
    assert prompt.startswith(
        f"Text: {EXAMPLES[0].text}\nQuestion: {EXAMPLES[0].question}\nAnswer: "
    )
    assert (predictions[0].text, predictions[0].doc_ids) == ("Vell", ("d1", "d2"))


def test_a_zero_shot_prompt_has_no_examples(script: Any) -> None:
    closed_book(script, ["Who?"], examples=(), complete=script.complete, **OPTIONS)
    given_text(
        script,
        ["Who?"],
        [[Passage("d", "Vell did it.")]],
        examples=(),
        complete=script.complete,
        **OPTIONS,
    )
    assert script.prompts == [
        "Question: Who?\nAnswer:",
        "Text: Vell did it.\nQuestion: Who?\nAnswer:",
    ]


def test_examples_and_prompt_have_the_tokens_of_the_whole_text(lm: FrozenLM, script: Any) -> None:
    given_text(
        script,
        ["Who?", "What?"],
        [[Passage("d", "Vell did it.")], []],
        complete=script.complete,
        **OPTIONS,
    )
    for prompt in script.prompts:
        head, separator, rest = prompt.rpartition("\n\n")
        assert lm.tokenize(head + "\n") + lm.tokenize("\n" + rest) == lm.tokenize(
            head + separator + rest
        )


def test_an_answer_ends_with_its_line(script: Any) -> None:
    script.rule = lambda prompt: " Tomas Vell, engineer \nQuestion: and who else?"
    assert (
        closed_book(script, ["Who?"], complete=script.complete, **OPTIONS)[0].text
        == "Tomas Vell, engineer"
    )


def test_rag_reads_the_document_that_was_valid_as_of_the_date(script: Any, bank: Bank) -> None:
    predictions = rag(
        script, bank, QUESTIONS, [JANUARY, MARCH, JUNE], complete=script.complete, **OPTIONS
    )
    assert [(answer.text, answer.doc_ids) for answer in predictions] == [
        ("Moss", ("mayor-1",)),
        ("Tickets", ("ferry",)),
        ("Vell", ("mayor-2",)),
    ]
    (both,) = (
        rag(script, bank, ["mayor ferry"], [JUNE], top_k=2, complete=script.complete, **OPTIONS)
        or []
    )
    assert sorted(both.doc_ids) == ["ferry", "mayor-2"]
    assert script.prompts[-1].count("Text:") == len(EXAMPLES) + 2


def test_rag_is_closed_book_if_search_finds_nothing(script: Any, bank: Bank) -> None:
    before = datetime(2030, 1, 1, tzinfo=UTC)
    predictions = rag(
        script,
        bank,
        [QUESTIONS[0], QUESTIONS[1]],
        [before, MARCH],
        complete=script.complete,
        **OPTIONS,
    )
    assert [answer.doc_ids for answer in predictions] == [(), ("ferry",)]
    closed_book(script, [QUESTIONS[0]], complete=script.complete, **OPTIONS)
    assert script.prompts[0] == script.prompts[-1]


def test_texts_longer_than_the_context_are_cut_to_equal_lengths(script: Any) -> None:
    script.model.config.max_position_embeddings = 1000
    long = [Passage("d", "é" * 5000), Passage("e", "ø" * 5000)]
    given_text(
        script,
        ["Who?", "Who?"],
        [long, [Passage("f", "Vell built it.")]],
        complete=script.complete,
        **OPTIONS,
    )
    cut, whole = script.prompts
    assert 950 < len(cut.encode()) < 1000
    assert cut.count("é") == cut.count("ø") > 50
    assert cut.endswith("ø\nQuestion: Who?\nAnswer:")
    assert whole.endswith("Text: Vell built it.\nQuestion: Who?\nAnswer:")


def test_a_question_longer_than_the_limit_is_cut(script: Any) -> None:
    script.model.config.max_position_embeddings = 1000
    passages = [[Passage("d", "Vell built it.")]] * 2
    given_text(script, ["why " * 5000, "Who?"], passages, complete=script.complete, **OPTIONS)
    cut, whole = script.prompts
    assert len(script.tokenize(cut)) <= 1000
    assert 0 < cut.count("why") <= MAX_QUESTION_TOKENS
    assert whole.endswith("Text: Vell built it.\nQuestion: Who?\nAnswer:")
