"""Reliability of the confidence: bins worked out by hand, bounds of the error, and calibration by
earlier answers.
"""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cmt.answering.confidence import NO_CALIBRATION, Calibration
from cmt.errors import ConfigError
from cmt.evaluation.calibration import (
    BINS,
    CALIBRATED_ON,
    answer_reliability,
    calibrated_by,
    likely_shares,
    reliability,
)
from tests.helpers.reports import record, record_table

UNIT = st.floats(0, 1)


def test_bins_have_the_means_of_their_answers_and_weight_the_error() -> None:
    found = reliability(np.array([0.92, 0.98, 0.12]), np.array([1.0, 0.5, 0.4]))
    assert [bin_.count for bin_ in found.bins] == [0, 1, 0, 0, 0, 0, 0, 0, 0, 2]
    last = found.bins[-1]
    assert (last.low, last.high, last.confidence, last.outcome) == pytest.approx(
        (0.9, 1.0, 0.95, 0.75)
    )
    assert (found.bins[0].confidence, found.bins[0].outcome) == (None, None)
    empty = reliability(np.array([]), np.array([]))
    assert (empty.count, empty.error, len(empty.bins)) == (0, None, BINS)
    confidence = np.array([0.95, 0.95, 0.95, 0.95, 0.15, 0.15])
    right = np.array([True, True, True, False, False, False])
    assert reliability(confidence, right).error == pytest.approx((4 * 0.2 + 2 * 0.15) / 6)
    assert reliability(np.array([0.0, 1.0]), np.array([False, True])).error == 0.0
    assert reliability(np.array([0.0, 1.0]), np.array([True, False])).error == 1.0


def test_bins_are_closed_above() -> None:
    # 0.5 belongs to 0.4–0.5: beside 0.41 the two errors cancel, beside 0.51 they would not
    assert reliability(np.array([0.5, 0.41]), np.array([True, False])).error == pytest.approx(0.045)
    assert reliability(np.array([0.5, 0.51]), np.array([True, False])).error == pytest.approx(0.505)


@given(st.lists(st.tuples(UNIT, UNIT), min_size=1))
def test_the_error_is_between_the_overall_gap_and_one(pairs: list[tuple[float, float]]) -> None:
    confidence = np.array([pair[0] for pair in pairs])
    outcome = np.array([pair[1] for pair in pairs])
    found = reliability(confidence, outcome)
    assert found.error is not None
    assert abs(confidence.mean() - outcome.mean()) - 1e-9 <= found.error <= 1 + 1e-9
    assert found.count == len(pairs)
    for bin_ in found.bins:
        assert bin_.confidence is None or bin_.low - 1e-9 <= bin_.confidence <= bin_.high + 1e-9


@pytest.mark.parametrize("value", [-0.5, 1.2, float("nan")])
def test_values_that_are_no_probabilities_are_a_config_error(value: float) -> None:
    with pytest.raises(ConfigError, match="not between 0 and 1"):
        reliability(np.array([0.5, value]), np.array([True, True]))


def test_refused_questions_are_left_out_of_the_answers_of_a_record() -> None:
    given_answer = record("given", confidence=0.8, cmt_f1=0.6)
    refused = record("refused", confidence=0.3, cmt="", cmt_f1=0.0)
    found = answer_reliability(record_table(given_answer, refused))
    assert found.count == 1
    assert found.error == pytest.approx(0.2)
    assert answer_reliability(record_table(refused)).error is None


def answered(pairs: list[tuple[float, float]]) -> pa.Table:
    """Records of answers with an uncalibrated confidence and an F1."""
    return record_table(
        *(
            record(str(n), confidence=0.5, uncalibrated=pair[0], cmt_f1=pair[1])
            for n, pair in enumerate(pairs)
        )
    )


def test_likely_answers_are_counted_among_all_questions_and_right_ones_among_them() -> None:
    confidence, f1 = np.array([0.9, 0.7, 0.7, 0.5]), np.array([0.4, 0.5, 1.0, 1.0])
    given = np.array([True, True, False, True])
    assert likely_shares(confidence, f1, given=given, likely=0.7) == (0.5, 0.5)
    assert likely_shares(confidence, f1, given=given, likely=0.95) == (0.0, None)


def test_calibration_finds_the_slope_and_the_shift_of_the_answers() -> None:
    rng, true = np.random.default_rng(0), Calibration(0.5, 1.0)
    confidences = rng.uniform(0.05, 0.95, size=CALIBRATED_ON)
    found, answers = calibrated_by(
        [answered([(value, true.apply(value)) for value in confidences])]
    )
    assert answers == CALIBRATED_ON
    assert found == pytest.approx(true, abs=0.1)  # twenty answers of the prior hold it back
    assert found.apply(0.2) < found.apply(0.6)


def test_few_answers_move_the_confidence_little_and_none_not_at_all() -> None:
    few, _ = calibrated_by([answered([(0.5, 1.0)] * 3)])
    many, _ = calibrated_by([answered([(0.5, 1.0)] * 100)])
    assert 0.5 < few.apply(0.5) < 0.6 < 0.8 < many.apply(0.5)
    assert calibrated_by([]) == (NO_CALIBRATION, 0)
    assert calibrated_by([answered([(0.3, 0.3), (0.8, 0.8)])])[0] == pytest.approx(
        NO_CALIBRATION, abs=1e-3
    )


def test_the_latest_answers_count_and_refused_questions_do_not() -> None:
    latest, old = [(0.5, 1.0)] * CALIBRATED_ON, [(0.5, 0.0)] * CALIBRATED_ON
    found, answers = calibrated_by([answered(latest), answered(old)])
    assert (answers, found) == (CALIBRATED_ON, calibrated_by([answered(latest)])[0])
    refused = record_table(record("refused", uncalibrated=0.1, cmt="", cmt_f1=0.0))
    assert calibrated_by([refused]) == (NO_CALIBRATION, 0)


def test_no_more_records_are_read_than_there_are_latest_questions() -> None:
    refused = record_table(*(record(str(n), cmt="", cmt_f1=0.0) for n in range(CALIBRATED_ON)))
    further = iter([refused, answered([(0.5, 1.0)])])
    assert calibrated_by(further) == (NO_CALIBRATION, 0)
    assert next(further).num_rows == 1


def test_where_the_confidence_says_nothing_all_answers_have_the_mean() -> None:
    found, _ = calibrated_by([answered([(0.9, 0.1), (0.1, 0.9)] * 100)])
    assert found.slope == 0
    assert found.apply(0.1) == found.apply(0.9) == pytest.approx(0.5, abs=0.01)
