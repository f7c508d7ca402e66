"""The gate: rounds that it refuses, passes, or does not judge."""

from dataclasses import replace
from pathlib import Path

from cmt.bank.rounds import CANARIES, Round, round_folder
from cmt.config import GateParams
from cmt.evaluation.gate.canary import Canary, Outcome
from cmt.evaluation.gate.judgement import FEWEST, changed_answers, judge, why_set_aside
from cmt.evaluation.gate.storage import write_canaries

DOCUMENT = {"doc_id": "handbill", "source": "Mallory"}
RIGHT, WRONG = Outcome("Moss", 1.0, True, "mayor"), Outcome("Grubb", 0.0, False, "handbill")
SOUND = Canary(
    "q",
    "mayor",
    "Who is the mayor?",
    ("Moss",),
    source="Courier",
    best=RIGHT,
    now=RIGHT,
    before=RIGHT,
)
HARMED = replace(SOUND, now=WRONG, harmed_by=("handbill",))
SPARED = replace(SOUND, set_aside=("handbill",), flipped=WRONG)


def test_a_set_aside_document_has_a_reason_and_a_harmless_way_out() -> None:
    assert judge(GateParams(), canaries=[SPARED], f1=None) == ("passed", "")
    reason = why_set_aside(DOCUMENT, [SOUND, SPARED])
    assert reason.startswith("set aside: ") and "1 canary" in reason
    for part in (
        "q about mayor",
        "`cmt lineage ROUND`",
        'add {"Mallory": ["Courier"]} to stream.authority',
        'add "supersedes": "mayor"',
        "stream.peers",
    ):
        assert part in reason


def test_a_canary_that_is_still_harmed_refuses_with_ids_and_advice_and_without_any_text() -> None:
    judgement, reason = judge(GateParams(), canaries=[SOUND, HARMED], f1=None)
    assert judgement == "refused" and reason.startswith("1 of 2 canaries ")
    for part in (
        "1 document,",
        "gate.max_set_aside",
        "q about mayor",
        "because of handbill",
        "stream.authority, stream.peers",
        "`cmt --set gate.max_harmed=1 update`",
    ):
        assert part in reason
    assert not any(text in reason for text in ("Moss", "Grubb", "Who is"))
    assert judge(GateParams(max_harmed=1), canaries=[SOUND, HARMED], f1=None)[0] == "passed"


def test_a_reason_names_three_and_is_one_line_of_plain_text() -> None:
    hostile = replace(HARMED, question_id="\x1b[31mred\nline")
    _, reason = judge(GateParams(), canaries=[hostile] * 5, f1=None)
    assert "\n" not in reason and "\x1b" not in reason
    assert reason.count("line about mayor") == 3
    assert "line about mayor and 2 more (" in reason


def test_question_and_answers_are_read_from_the_files_of_the_round(tmp_path: Path) -> None:
    round_ = Round("2031-02/0001", 2, "2031-02/0001", "s", "c", "b", "p", "refused", 1)
    assert changed_answers(tmp_path, round_) == []
    write_canaries(round_folder(tmp_path, round_.slice_id) / CANARIES, [SOUND, HARMED, SPARED])
    line = '"Who is the mayor?" was "Moss", is "Grubb" because of handbill'
    assert changed_answers(tmp_path, round_) == [line, line]


def test_slow_decline_is_measured_against_the_best_of_each_canary() -> None:
    faded = replace(SOUND, now=WRONG)  # lost in an earlier round
    canaries = [SOUND] * (FEWEST - 3) + [faded] * 3
    expected = "F1 of the 10 canaries fell from 100.0 to 70.0, by more than gate.max_f1_drop 20"
    assert judge(GateParams(), canaries=canaries, f1=None) == ("refused", expected)
    assert judge(GateParams(max_f1_drop=30), canaries=canaries, f1=None)[0] == "passed"
    assert judge(GateParams(), canaries=canaries[1:], f1=None)[0] == "passed"  # too few for a mean


def test_a_canary_that_was_not_asked_counts_as_unchanged() -> None:
    faded, unasked = replace(SOUND, now=WRONG), replace(SOUND, best=None, now=None, before=None)
    assert (
        judge(GateParams(max_f1_drop=29), canaries=[faded] * 3 + [unasked] * 7, f1=None)[0]
        == "refused"
    )
    assert (
        judge(GateParams(max_f1_drop=29), canaries=[faded] * 3 + [unasked] * 8, f1=None)[0]
        == "passed"
    )


def test_the_f1_of_the_round_is_compared_if_there_is_a_lowest() -> None:
    assert (
        judge(GateParams(min_f1=50), canaries=[], f1=40.0)[1] == "F1 40.0 is below gate.min_f1 50"
    )
    assert judge(GateParams(min_f1=50), canaries=[], f1=60.0)[0] == "passed"


def test_a_round_with_nothing_to_judge_it_by_is_not_judged() -> None:
    assert judge(GateParams(), canaries=[], f1=60.0)[0] == "not judged"
    assert judge(GateParams(min_f1=50), canaries=[], f1=None)[0] == "not judged"
