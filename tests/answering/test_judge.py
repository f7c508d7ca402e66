"""The judge: which of two statements holds, and which texts are about one fact."""

import math
from dataclasses import replace
from datetime import date

import pytest

from cmt.answering.judge import (
    CHANGED,
    EXCERPT,
    LARGEST_ODDS,
    NEWEST_HOLDS,
    OPEN,
    POSSIBLE,
    Judge,
    SameFact,
    Statement,
    excerpt,
    same_fact,
)
from cmt.modeling.cross_encoder import DatedText
from cmt.modeling.token_scores import ReadSpan
from tests.helpers.encoders import FixedEncoder
from tests.helpers.fares import JULY, MARCH, NEW, OLD, QUESTION, stated

EARLIER, LATER = stated(OLD, "8 crowns", MARCH), stated(NEW, "11 crowns", JULY)


def test_the_lead_of_the_later_score_counts_in_addition_to_the_cross_encoder() -> None:
    judge = Judge(FixedEncoder(holds=0.0, changed=1.0))
    guessed, sure = (judge.judge(QUESTION, EARLIER, replace(LATER, score=n)) for n in (-9.0, 9.0))
    assert guessed.holds < 0.2 < 0.5 < sure.holds
    assert guessed.changed == sure.changed


@pytest.mark.parametrize("odds", [1e6, -1e6])
def test_neither_statement_loses_everything(odds: float) -> None:
    share = Judge(FixedEncoder(holds=odds, changed=odds)).judge(QUESTION, EARLIER, LATER).holds
    assert abs(math.log(share / (1 - share))) == pytest.approx(LARGEST_ODDS)


def test_both_texts_are_read_with_their_dates() -> None:
    encoder = FixedEncoder(holds=0.0, changed=0.0)
    Judge(encoder).judge(QUESTION, EARLIER, LATER)
    assert encoder.read == [DatedText(OLD, date(2031, 3, 1)), DatedText(NEW, date(2031, 7, 6))]


def test_without_a_cross_encoder_the_newest_statement_leads_and_stays_open() -> None:
    outcome = Judge(None).judge(QUESTION, EARLIER, LATER)
    assert outcome == (NEWEST_HOLDS, 0.0)
    assert 0.5 < outcome.holds <= 1 - OPEN
    assert outcome.changed < POSSIBLE < CHANGED  # no change is recorded


@pytest.mark.parametrize(("span", "answer"), [((1, 1), "fare"), ((1, 9), "fare"), ((2, 9), "")])
def test_a_text_decoded_with_fewer_tokens_than_the_memory(
    span: tuple[int, int], answer: str
) -> None:
    words = [(0, 3), (3, 8)]  # "The", " fare"
    read = ReadSpan(*span, score=3.0, prior=0.0)
    statement = Statement.of({"published_at": MARCH}, "The fare", read, lambda text: words)
    assert (statement.answer, statement.score) == (answer, 3.0)


def test_an_excerpt_has_the_heading_and_the_sentences_around_the_answer() -> None:
    filler = "The harbour band plays on Sundays, weather permitting, and the mayor dances. " * 10
    long = f"Fares rise\n{filler}A single ticket costs 11 crowns. {filler}"
    assert excerpt(EARLIER) == EARLIER.text
    found = excerpt(stated(long, "11 crowns", JULY))
    assert found.startswith("Fares rise\nThe harbour band")
    assert "mayor dances. A single ticket costs 11 crowns. The harbour" in found
    assert EXCERPT - 80 < len(found) <= EXCERPT


@pytest.mark.parametrize(
    ("later", "expected"),
    [
        (NEW, "yes"),
        ("On Saltby we paid 11 crowns for one ferry ticket.", "perhaps"),  # names
        ("Rain fell on the harbour all day, and the band played on.", "no"),
        (
            "Sailings leave each hour from the northern pier; passengers board, and bicycles "
            "stand on deck.",
            "no",
        ),
    ],
)
def test_shared_words_and_names_decide_what_may_be_about_the_same_fact(
    later: str, expected: SameFact
) -> None:
    old = (
        f"{OLD} Sailings leave each hour from the northern pier; passengers board twenty minutes "
        "before departure, and bicycles stand on the open deck behind the funnel. Captain Orla "
        "Venn retires in autumn after thirty seasons; her deputy, Piers Loam, learned his trade "
        "in Corrow."
    )
    rows = [{"title": None, "source": None, "text": text} for text in (old, later)]
    assert same_fact(QUESTION, *rows) == expected
    publisher = "Northern Passengers' Deputy Captain"  # four of the earlier text's words
    rows = [row | {"source": publisher, "text": f"{publisher}\n{row['text']}"} for row in rows]
    assert same_fact(QUESTION, *rows) == expected
