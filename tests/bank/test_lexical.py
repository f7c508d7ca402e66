"""Sketches of the words of a text."""

import numpy as np
import pytest

from cmt.bank import lexical, quantization
from cmt.bank.lexical import sketch, sketch_scores
from tests.helpers.facts import FACTS

TEXTS = [fact["text"] for fact in FACTS]
SKETCHES = [sketch(text) for text in TEXTS]


def test_a_sketch_depends_neither_on_word_order_nor_on_the_process() -> None:
    shuffled = TEXTS[0].split()
    shuffled.reverse()
    assert sketch(" ".join(shuffled)) == SKETCHES[0]
    # Part of the storage format: with another hash, stored sketches could not be searched.
    places = np.flatnonzero(
        quantization.dequantize(sketch("tower"), lexical.CODES, lexical.SIZE)[0]
    ).tolist()
    assert places == [202, 227, 466, 477, 1041, 1049, 1076, 1151]


def test_the_text_with_the_words_of_the_question_scores_highest() -> None:
    best = [int(np.argmax(sketch_scores(fact["question"], SKETCHES))) for fact in FACTS]
    assert np.mean(np.array(best) == np.arange(len(FACTS))) >= 0.9


def test_a_rare_word_weighs_more_than_a_frequent_one() -> None:
    texts = [f"harbour boats number {i}" for i in range(20)] + ["a lighthouse far away"]
    scores = sketch_scores("Which harbour has a lighthouse?", [sketch(text) for text in texts])
    assert int(np.argmax(scores)) == 20
    assert np.median(scores[:20]) > 0


@pytest.mark.parametrize("question", ["", "Who was it?", "?"])
def test_a_question_without_words_scores_0_everywhere(question: str) -> None:
    assert sketch_scores(question, SKETCHES) == [0.0] * len(SKETCHES)
