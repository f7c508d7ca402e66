"""Shared words and names of two texts."""

import pytest

from cmt.text.overlap import SAMPLE, WordWeights, coverage


def test_coverage_weights_words_by_length_and_ignores_endings() -> None:
    text = "The mayor of Port Ellery resigned on Monday."
    assert coverage("Who is the mayor of Port Ellery?", text) == 1.0
    assert coverage("When did the mayor resign?", text) == 1.0
    assert coverage("What is the mayoralty of Saltby?", text) == pytest.approx(0.0)
    assert coverage("mayor of Saltby", text) == pytest.approx(5 / 11)
    assert coverage("Who?", text) == coverage("", text) == 0.0


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
