"""The comparison of two statements: features, n-grams and weights."""

import math
from dataclasses import replace
from pathlib import Path
from zlib import crc32

import numpy as np
import pytest

from cmt.answering.comparison import (
    EXCERPT,
    LARGEST_ODDS,
    Features,
    Statement,
    Weights,
    features,
    ngrams,
    probabilities,
    read_both,
)
from cmt.errors import ModelError
from cmt.modeling.cross_encoder import CrossEncoder, Odds, Report
from tests.helpers.fares import JULY, MARCH, NEW, OLD, QUESTION, RUMOUR, stated

EARLIER, LATER = stated(OLD, "8 crowns", MARCH), stated(NEW, "11 crowns", JULY)
WEIGHTS = Weights(
    Features(*([0.5] * len(Features._fields))),
    -1.0,
    np.array(sorted([crc32(b"sentence:costs _new_"), crc32(b"sentence:cousin")]), np.uint32),
    np.array([0.25, 0.25], np.float16),
)


def test_the_way_in_which_a_value_is_told_is_read_from_its_sentence() -> None:
    heard = features(QUESTION, EARLIER, stated(RUMOUR, "11 crowns", JULY))
    plain = features(QUESTION, EARLIER, LATER)
    quoted = stated('Quay\n"It is 11 crowns," said a man on the pier.', "11 crowns", JULY)
    recalled = stated(
        "A birthday\nHe remembered the fare: 5 crowns in those days.", "5 crowns", JULY
    )
    assert (plain.hearsay, heard.hearsay) == (0.0, 1.0)
    assert features(QUESTION, EARLIER, quoted).quoted == 1.0
    assert features(QUESTION, EARLIER, recalled).memories >= 2
    assert plain.overlap > heard.overlap > features(QUESTION, EARLIER, quoted).overlap
    assert features("What did a ticket cost before?", EARLIER, quoted).past_question == 1.0


def test_ngrams_are_placed_words_without_the_answers_and_the_numbers() -> None:
    later = stated("Fares\nIt was 8 crowns in 2030. It is 11 crowns, 3 more.", "11 crowns", JULY)
    hashes = set(ngrams(QUESTION, EARLIER, later).tolist())
    expected = (
        *(
            "sentence:it is _new_",
            "sentence:_new_ 0 more",
            "before:was _old_ in",
            "text:in 0",
            "title:fares",
        ),
        *("earlier:costs _old_", "question:saltby ferry"),
    )
    for ngram in expected:
        assert crc32(ngram.encode()) in hashes, ngram
    for ngram in (
        "sentence:crowns",
        "sentence:11",
        "sentence:_old_",
        "before:_new_",
        "text:it was _old_ in",
    ):
        assert crc32(ngram.encode()) not in hashes, ngram


def test_ngrams_are_sorted_and_each_occurs_once() -> None:
    found = ngrams(QUESTION, EARLIER, replace(LATER, text=NEW + NEW))
    assert found.dtype == np.uint32
    assert (np.diff(found.astype(np.int64)) > 0).all()


def test_texts_and_answers_may_be_empty() -> None:
    nothing = Statement("", 0, 0, -math.inf, JULY)
    unread = Statement(NEW, 0, 0, -math.inf, JULY)
    assert len(ngrams("", nothing, nothing)) == 0
    for one, other in ((EARLIER, nothing), (nothing, LATER), (EARLIER, unread), (unread, nothing)):
        assert 0 < probabilities(QUESTION, one, other).holds < 1


def test_the_log_odds_are_the_sum_of_the_weights() -> None:
    values = features(QUESTION, EARLIER, LATER)
    assert WEIGHTS.log_odds(
        features(QUESTION, EARLIER, LATER), ngrams(QUESTION, EARLIER, LATER)
    ) == pytest.approx(0.5 * sum(values) - 1 + 0.25)
    heard = stated(RUMOUR, "11 crowns", JULY)
    both = 0.5 * sum(features(QUESTION, EARLIER, heard)) - 1 + 0.5
    assert WEIGHTS.log_odds(
        features(QUESTION, EARLIER, heard), ngrams(QUESTION, EARLIER, heard)
    ) == pytest.approx(both)


def test_neither_statement_loses_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    for constant in (1e6, -1e6):
        monkeypatch.setattr(
            "cmt.answering.comparison.shipped_weights",
            lambda: replace(WEIGHTS, constant=constant),  # noqa: B023
        )
        share = probabilities(QUESTION, EARLIER, LATER).holds
        assert abs(math.log(share / (1 - share))) == pytest.approx(LARGEST_ODDS)


def test_the_reader_counts_beside_the_cross_encoder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CrossEncoder, "odds", lambda *_: Odds(holds=0.0, changed=1.0))
    encoder = CrossEncoder.__new__(CrossEncoder)
    unsure, sure = (
        probabilities(QUESTION, EARLIER, replace(LATER, score=n), encoder) for n in (-9.0, 9.0)
    )
    assert unsure.holds < 0.1 < 0.5 < sure.holds
    assert unsure.changed == sure.changed


def test_hearsay_has_a_smaller_share_than_a_fact() -> None:
    heard = stated(RUMOUR, "11 crowns", JULY)
    assert (
        probabilities(QUESTION, EARLIER, heard).holds
        < probabilities(QUESTION, EARLIER, LATER).holds
    )
    assert probabilities(QUESTION, EARLIER, LATER).holds > 0.5


def test_a_file_gives_back_the_weights_that_it_got(tmp_path: Path) -> None:
    path = tmp_path / "comparison.safetensors"
    WEIGHTS.save(path)
    loaded = Weights.load(path)
    assert (loaded.features, loaded.constant) == (WEIGHTS.features, WEIGHTS.constant)
    np.testing.assert_array_equal(loaded.ngrams, WEIGHTS.ngrams)
    np.testing.assert_array_equal(loaded.ngram_weights, WEIGHTS.ngram_weights)
    assert [loaded.ngrams.dtype, loaded.ngram_weights.dtype] == [
        np.dtype("uint32"),
        np.dtype("float16"),
    ]


def test_a_damaged_file_is_refused_with_the_way_out(tmp_path: Path) -> None:
    path = tmp_path / "comparison.safetensors"
    with pytest.raises(ModelError, match="install cmt-memory again"):
        Weights.load(path)
    path.write_bytes(b"nothing")
    with pytest.raises(
        ModelError,
        match=r"comparison\.safetensors is missing or damaged .*: install cmt-memory again",
    ):
        Weights.load(path)
    replace(WEIGHTS, ngrams=WEIGHTS.ngrams[:1]).save(path)
    with pytest.raises(ModelError, match="1 n-grams with 2 weights"):
        Weights.load(path)


def test_the_cross_encoder_reads_the_title_and_the_sentences_around_the_answer() -> None:
    read: list[Report] = []

    class Recorder(CrossEncoder):
        def odds(self, question: str, earlier: Report, later: Report) -> Odds:
            read.extend((earlier, later))
            return Odds(0.0, 0.0)

    filler = "The harbour band plays on Sundays, weather permitting, and the mayor dances. " * 10
    long = f"Fares rise\n{filler}A single ticket costs 11 crowns. {filler}"
    read_both(Recorder.__new__(Recorder), QUESTION, EARLIER, stated(long, "11 crowns", JULY))
    assert read[0].text == EARLIER.text
    assert read[1].text.startswith("Fares rise\nThe harbour band")
    assert "mayor dances. A single ticket costs 11 crowns. The harbour" in read[1].text
    assert EXCERPT - 80 < len(read[1].text) <= EXCERPT
