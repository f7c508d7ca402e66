"""Lexical statistics: stems, coverage, and sketches of the words of a text."""

import numpy as np
import pytest

from cmt.bank import lexical, quantization
from cmt.bank.lexical import SAMPLE, WordWeights, coverage, sketch, sketch_scores, stems
from tests.helpers.facts import FACTS

TEXTS = [fact["text"] for fact in FACTS]
SKETCHES = [sketch(text) for text in TEXTS]


def test_coverage_weights_words_by_length_and_ignores_endings() -> None:
    text = "The mayor of Port Ellery resigned on Monday."
    assert coverage("Who is the mayor of Port Ellery?", text) == 1.0
    assert coverage("When did the mayor resign?", text) == 1.0
    assert coverage("What is the mayoralty of Saltby?", text) == pytest.approx(0.0)
    assert coverage("mayor of Saltby", text) == pytest.approx(5 / 11)
    assert coverage("Who?", text) == coverage("", text) == 0.0


def test_stems_are_cut_words_without_function_words() -> None:
    assert stems("The Mayors' mayoralty, in 1987!") == ["mayors", "mayora", "1987"]
    assert stems("") == stems("Who was it?") == []


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


def test_names_are_shared_by_their_stems_by_their_weights_and_by_the_text_with_fewer() -> None:
    shared = WordWeights([]).names_shared
    ferry = "Single tickets on the Saltby ferry cost 8 crowns, the Northline office said."
    assert shared(ferry, "A van with flu jabs and Dr Marrow stops in Saltby.") == 0.5
    assert shared("A van with flu jabs stops in Saltby.", ferry) == 1
    assert shared("A van stops for Dr Marrow.", ferry) == 0
    assert shared("no name here", "Saltby") == 1
    everywhere = WordWeights(["A text from Saltby."] * SAMPLE).names_shared
    assert everywhere(ferry, "A van with flu jabs and Dr Marrow stops in Saltby.") < 0.01


def test_a_text_shares_more_by_its_rare_words_than_by_words_that_many_texts_have() -> None:
    weights = WordWeights([f"the council told the paper about plan {i}" for i in range(SAMPLE)])
    earlier = "The council told the paper about a heron in Saltby."
    assert weights.coverage(earlier, "Saltby's heron flew off.") > 0.9
    assert weights.coverage(earlier, "The paper told the council about a plan.") < 0.1
    assert weights.coverage("", earlier) == 0


def test_in_a_small_bank_all_words_weigh_much_the_same() -> None:
    texts = ["The Saltby ferry costs 8 crowns.", "The Saltby ferry costs 11 crowns."]
    assert WordWeights(texts).coverage(*texts) == pytest.approx(4 / 5, abs=0.05)
