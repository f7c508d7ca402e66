"""Contradiction: a new document harms a canary if the two documents state different values of the
same fact, surely.
"""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from cmt.answering.judge import SURE
from cmt.common.arrow import rows_with
from cmt.config import GateParams
from cmt.evaluation.gate._contradiction import compare_documents, contradicted
from cmt.evaluation.gate.asking import ask
from cmt.evaluation.gate.canary import Canary, Outcome, contradicts
from cmt.evaluation.gate.harm import NewDocument, NewSlice
from cmt.lm.model import FrozenLM
from cmt.stream.admission.authority import Authority
from tests.helpers.fact_reader import FactReader
from tests.helpers.shipped import shipped_bank

ASKED, STATED = "What is the fare to Saltby?", "The ferry to Saltby costs how many crowns?"
OWN, NEW = "The ferry to Saltby costs 6 crowns.", "The ferry to Saltby costs 9 crowns."
RIGHT = Outcome("6 crowns", 1.0, right=True, doc_id="own")
WRONG = Outcome("9 crowns", 0.5, right=False, doc_id="new")
CANARY = Canary("q", "own", ASKED, ("6 crowns",), best=RIGHT, now=WRONG, before=RIGHT)
Script = dict[tuple[str, str], tuple[str, float]]
"""(question, doc_id) → answer and confidence."""
SAME_FACT: Script = {
    (ASKED, "own"): ("6 crowns", 0.9),
    (ASKED, "new"): ("9 crowns", 0.9),
    (STATED, "own"): ("6 crowns", 0.9),
    (STATED, "new"): ("9 crowns", 0.9),
}


def is_harm(changes: Script, *, text: Any = OWN) -> bool:
    facts: dict[str, dict[str, tuple[str, float]]] = {"own": {}, "new": {}}
    for (question, doc_id), answer in (SAME_FACT | changes).items():
        facts[doc_id][question] = answer
    reader = FactReader.of(facts, {"own": text, "new": NEW})
    return contradicted(reader, [CANARY], reader.bank.documents(["new"]), {"new": NEW}) == {"q"}


@pytest.mark.parametrize(
    "changes",
    [
        {},
        # barely sure
        {(ASKED, "own"): ("6 crowns", 0.3), (ASKED, "new"): ("9 crowns", 0.56)},
        {(STATED, "own"): ("6 crowns", 0.56), (STATED, "new"): ("9 crowns", 0.56)},
        # a little less sure than the canary's own document
        {(ASKED, "own"): ("6 crowns", 0.99), (ASKED, "new"): ("9 crowns", 0.95)},
        # the canary's own document no longer answers the canary
        {(ASKED, "own"): ("", 0.0)},
    ],
)
def test_another_value_of_the_same_fact_is_harm(changes: Script) -> None:
    assert is_harm(changes)


@pytest.mark.parametrize(
    "changes",
    [
        # the new document does not answer the canary, hardly does, or answers it with the same
        # value
        {(ASKED, "new"): ("", 0.0)},
        {(ASKED, "own"): ("6 crowns", 0.3), (ASKED, "new"): ("9 crowns", 0.54)},
        {(ASKED, "new"): ("6 crowns a ticket", 0.9)},
        # much less surely than the canary's own document
        {(ASKED, "own"): ("6 crowns", 0.99), (ASKED, "new"): ("9 crowns", 0.93)},
        # the canary's own document does not answer what the new one states, hardly does, or with
        # another value
        {(STATED, "own"): ("", 0.0)},
        {(STATED, "own"): ("6 crowns", 0.54)},
        {(STATED, "own"): ("4 crowns", 0.9)},
        # the new document does not answer what the canary's own states, hardly does, or with
        # another value
        {(STATED, "new"): ("", 0.0)},
        {(STATED, "new"): ("9 crowns", 0.54)},
        {(STATED, "new"): ("4 crowns", 0.9)},
    ],
)
def test_another_fact_or_an_unsure_reading_is_no_harm(changes: Script) -> None:
    assert not is_harm(changes)


def test_a_bank_without_text_is_judged_by_what_the_new_document_states() -> None:
    assert is_harm({(STATED, "new"): ("", 0.0)}, text=None)
    assert not is_harm({(STATED, "own"): ("", 0.0)}, text=None)


@pytest.mark.parametrize(
    ("changes", "regressed"),
    [
        ({}, True),
        ({"now": replace(WRONG, answer="")}, True),
        ({"now": replace(WRONG, answer="6 crowns and 3 for a bicycle")}, False),  # in other words
        ({"now": RIGHT}, False),
        ({"before": WRONG}, False),  # wrong anyway
        ({"before": None}, False),
    ],
)
def test_a_canary_regresses_through_the_slice_alone(
    changes: dict[str, Any], regressed: bool
) -> None:
    assert replace(CANARY, **changes).regressed is regressed


def test_a_contradiction_has_other_words_on_both_sides() -> None:
    assert contradicts("956 crowns", ["767 crowns"])
    assert not contradicts("767 crowns a month", ["767 crowns"])
    assert not contradicts("crowns", ["767 crowns", "956 crowns"])
    assert not contradicts("", ["767 crowns"])


# The trained reader

FARE, MAYOR = "What does the ferry to Saltby cost?", "Who is the mayor of Port Ellery?"
BANKED = {
    "ferry": "The ferry to Saltby costs six crowns.",
    "mayor": "Ines Vell is the mayor of Port Ellery.",
}
SLICE = {
    "false fare": "A ticket of the ferry to Saltby costs nine crowns.",
    # the same sentence with another name would be a tie, which rounding decides
    "false mayor": "The mayor of Port Ellery is Bertram Grubb. "
    "Mayor Grubb was elected in Port Ellery.",
    "bicycles": "The ferry to Saltby carries a bicycle for two crowns.",
    "harbour master": "Bertram Grubb is the harbour master of Port Ellery.",
}
FARE_CANARY = Canary("fare", "ferry", FARE, ("six crowns",))
MAYOR_CANARY = Canary("mayor", "mayor", MAYOR, ("Ines Vell",))


def misled(canary: Canary, new: str) -> Canary:
    """`canary` as answered otherwise from the document `new`."""
    return replace(canary, question_id=new, now=replace(WRONG, answer="another value", doc_id=new))


def test_the_trained_reader_tells_a_false_document_from_one_on_another_fact(
    real_lm: FrozenLM,
) -> None:
    bank = shipped_bank(
        real_lm, [{"doc_id": name, "text": text} for name, text in (BANKED | SLICE).items()]
    )
    new = rows_with(bank.rows, "doc_id", SLICE)
    regressed = [misled(FARE_CANARY, name) for name in ("false fare", "bicycles")]
    regressed += [misled(MAYOR_CANARY, name) for name in ("false mayor", "harbour master")]
    with bank.answerer() as answerer:
        assert contradicted(answerer, regressed, new, SLICE) == {"false fare", "false mayor"}
        # the reader alone is misled by the harbour master, about whom it is sure
        [answer] = answerer.answer_from(
            [MAYOR], [rows_with(bank.rows, "doc_id", ["harbour master"]).to_pylist()]
        )
        assert (answer.text, answer.uncalibrated > SURE) == ("Bertram Grubb", True)
        # a false mayor among all documents
        lie = {
            "false mayor": NewDocument(
                SLICE["false mayor"], "Mallory", datetime(2031, 1, 1, tzinfo=UTC)
            )
        }
        false_mayor = NewSlice(rows_with(new, "doc_id", lie), lie, Authority(), lambda _sources: {})
        accept = GateParams(max_harmed=1)
        [canary] = ask(
            answerer, [MAYOR_CANARY], false_mayor, gate=accept, leave_out=lambda _doc_ids: None
        )
    assert (canary.now and canary.now.answer, canary.best and canary.best.answer) == (
        "Bertram Grubb",
        "Ines Vell",
    )
    assert canary.harmed_by == ("false mayor",)


def test_two_documents_are_compared_by_what_each_says(real_lm: FrozenLM) -> None:
    texts = {"old": "The ferry to Saltby costs 6 crowns.", "dam": "Tarn dam holds 28 metres."}
    texts["new"] = "From today the ferry to Saltby costs 9 crowns."
    rows: list[dict[str, Any]] = []
    for number, (name, text) in enumerate(texts.items()):
        rows.append({"doc_id": name, "text": text, "published_at": f"2031-0{number + 1}-01T00:00Z"})
    bank = shipped_bank(real_lm, rows)
    with bank.answerer() as answerer:
        by_name = {row["doc_id"]: [row] for row in bank.rows.to_pylist()}
        later, changed = compare_documents(answerer, ASKED, by_name["old"], by_name["new"])
        _, unrelated = compare_documents(answerer, ASKED, by_name["old"], by_name["dam"])
    assert (later.answer, changed > 0.5, unrelated) == ("9 crowns", True, 0.0)
