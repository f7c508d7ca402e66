"""Words of a text: what counts as one, and what a sketch of them remembers."""

import numpy as np
import pytest

from cmt.bank import lexical, quantization
from cmt.bank.lexical import coverage, sketch, sketch_scores, stems
from tests.helpers.facts import FACTS

TEXTS = [fact["text"] for fact in FACTS]
SKETCHES = [sketch(text) for text in TEXTS]


def test_coverage_counts_words_by_length_and_forgives_endings() -> None:
    text = "The mayor of Port Ellery resigned on Monday."
    assert coverage("Who is the mayor of Port Ellery?", text) == 1.0
    assert coverage("When did the mayor resign?", text) == 1.0
    assert coverage("What is the mayoralty of Saltby?", text) == pytest.approx(0.0)
    assert coverage("mayor of Saltby", text) == pytest.approx(5 / 11)
    assert coverage("Who?", text) == coverage("", text) == 0.0


def test_stems_are_words_without_endings_and_function_words() -> None:
    assert stems("The Mayors' mayoralty, in 1987!") == ["mayors", "mayora", "1987"]
    assert stems("") == stems("Who was it?") == []


def test_a_sketch_is_of_one_size_whatever_the_text() -> None:
    assert {len(sketch(text)) for text in [*TEXTS, "", "word", "word " * 5000]} == {2 + lexical.SIZE // 2}


def test_a_sketch_does_not_depend_on_the_order_of_the_words_nor_on_the_process() -> None:
    shuffled = TEXTS[0].split()
    shuffled.reverse()
    assert sketch(" ".join(shuffled)) == SKETCHES[0]
    # part of the format of a bank: another hash would find nothing in banks that are there
    place = np.flatnonzero(quantization.dequantize(sketch("tower"), lexical.CODES, lexical.SIZE)[0]).tolist()
    assert place == [202, 227, 466, 477, 1041, 1049, 1076, 1151]


def test_the_text_with_the_words_of_the_question_is_found() -> None:
    found = [int(np.argmax(sketch_scores(fact["question"], SKETCHES))) for fact in FACTS]
    assert np.mean(np.array(found) == np.arange(len(FACTS))) >= 0.9


def test_a_rare_word_weighs_more_than_a_frequent_one() -> None:
    texts = [f"harbour boats number {i}" for i in range(20)] + ["a lighthouse far away"]
    found = sketch_scores("Which harbour has a lighthouse?", [sketch(text) for text in texts])
    assert int(np.argmax(found)) == 20
    assert np.median(found[:20]) > 0


@pytest.mark.parametrize("question", ["", "Who was it?", "?"])
def test_a_question_without_words_fits_every_text_alike(question: str) -> None:
    assert sketch_scores(question, SKETCHES) == [0.0] * len(SKETCHES)


def test_a_single_text_is_scored_too() -> None:
    (one,) = sketch_scores(FACTS[0]["question"], SKETCHES[:1])
    assert one >= 0
