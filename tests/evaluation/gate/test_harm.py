"""What a new document did to a canary: an update, harm, or a mistake of the reader; by whom it was
published.
"""

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from cmt.config import GateParams
from cmt.evaluation.gate.asking import ask
from cmt.evaluation.gate.canary import Canary, Outcome
from cmt.evaluation.gate.harm import NewDocument, NewSlice
from cmt.stream.admission.authority import Authority
from tests.helpers.fact_reader import DATE, FactReader, Facts

FARE, STATED = "What is the fare to Saltby?", "The ferry to Saltby costs how many crowns?"
OWN = "The ferry to Saltby costs 6 crowns."
CANARY = Canary("fare", "ferry", FARE, ("6 crowns",), source="Courier", published_at=DATE)
LATER = DATE + timedelta(days=30)


def says(value: str, confidence: float = 0.9) -> Facts:
    return {FARE: (value, confidence), STATED: (value, confidence)}


class Case:
    """A bank with the ferry's fare, and a slice."""

    def __init__(self, authority: Authority | None = None, **gate: Any) -> None:
        self.facts: dict[str, Facts] = {"ferry": says("6 crowns", 0.8)}
        self.texts = {"ferry": OWN}
        self.documents: dict[str, NewDocument] = {}
        self.authority, self.gate = authority or Authority(), GateParams(**gate)
        self.left_out: list[set[str]] = []
        self.past: dict[str, list[tuple[int, str]]] = {}

    def add(
        self,
        name: str,
        source: str,
        facts: Facts,
        *,
        text: str = "The ferry to Saltby costs {} crowns.",
        date: datetime = LATER,
    ) -> "Case":
        value = next(iter(facts.values()))[0].split()
        self.texts[name] = text.format(value[0] if value else "?")
        self.facts[name] = facts
        self.documents[name] = NewDocument(self.texts[name], source, date)
        return self

    def ask(self, canary: Canary = CANARY) -> Canary:
        [asked] = self.kept(canary)
        return asked

    def kept(self, canary: Canary = CANARY) -> list[Canary]:
        reader = FactReader.of(self.facts, self.texts)
        new = NewSlice(
            reader.bank.documents(self.documents),
            self.documents,
            self.authority,
            lambda sources: {source: self.past.get(source, []) for source in sources},
        )

        def leave_out(doc_ids: Any) -> None:
            self.left_out.append(set(doc_ids))
            for doc_id in doc_ids:
                self.facts.pop(doc_id, None)

        return ask(reader, [canary], new, gate=self.gate, leave_out=leave_out)


def test_a_document_of_an_unauthorised_source_is_set_aside_and_the_canary_is_right_again() -> None:
    case = (
        Case()
        .add("lie", "Mallory", says("9 crowns"))
        .add("lamp", "Mallory", {"When?": ("at nine", 0.9)})
    )
    canary = case.ask()
    assert case.left_out == [{"lie"}]
    assert (canary.harmed_by, canary.set_aside, canary.references) == ((), ("lie",), ("6 crowns",))
    assert (canary.now.answer, canary.flipped.answer, canary.before.answer) == (
        "6 crowns",
        "9 crowns",
        "6 crowns",
    )


@pytest.mark.parametrize(
    ("source", "authority"),
    [
        ("Courier", Authority()),
        ("Desk", Authority({"Desk": ["Courier"]})),
        ("Herald", Authority(peers=[["Courier", "Herald"]])),
        ("Mallory", Authority(peers="*")),
    ],
)
def test_a_source_that_may_change_the_fact_gives_the_canary_a_new_reference(
    source: str, authority: Authority
) -> None:
    case = Case(authority).add("raise", source, says("9 crowns"))
    canary = case.ask()
    assert (canary.updated_by, canary.references, canary.doc_id) == (
        "raise",
        ("9 crowns",),
        "raise",
    )
    assert (canary.source, canary.published_at, canary.harmed_by, case.left_out) == (
        source,
        LATER,
        (),
        [],
    )
    assert canary.now.right and canary.best.answer == "9 crowns"


@pytest.mark.parametrize("changes", [{"date": DATE - timedelta(days=1)}, {"facts": says("", 0.3)}])
def test_its_own_source_never_harms_a_canary_even_if_it_updates_nothing(
    changes: dict[str, Any],
) -> None:
    canary = Case().add("note", "Courier", **({"facts": says("9 crowns")} | changes)).ask()
    assert (canary.updated_by, canary.harmed_by, canary.references) == (None, (), ("6 crowns",))


def test_a_canary_that_its_own_source_flips_without_a_clear_change_leaves() -> None:
    case = Case().add(
        "note",
        "Courier",
        {FARE: ("2 bikes", 0.9)},
        text="Once more: is it true, as one hears, that {}?",
    )
    assert case.kept() == []


def test_an_update_and_a_lie_in_one_slice() -> None:
    case = (
        Case()
        .add("raise", "Courier", says("7 crowns"))
        .add("lie", "Mallory", says("9 crowns", 0.95))
    )
    canary = case.ask()
    assert (canary.references, canary.updated_by, canary.set_aside) == (
        ("7 crowns",),
        "raise",
        ("lie",),
    )
    assert canary.now.answer == "7 crowns"


def test_several_lies_are_set_aside_one_after_the_other() -> None:
    case = Case()
    for number in range(3):
        case.add(f"lie-{number}", f"Mallory {number}", says("9 crowns", 0.9 - number / 100))
    assert case.ask().now.right
    assert case.left_out[-1] == {"lie-0", "lie-1", "lie-2"}


def test_documents_that_crowd_out_the_right_one_are_set_aside_whatever_they_state() -> None:
    case = Case()
    for number in range(7):
        case.add(
            f"stuffing-{number}",
            "Mallory",
            {FARE: ("", 0.95)},
            text="What is the fare to Saltby? The fare to Saltby.",
        )
    canary = case.ask()
    assert canary.flipped.answer == ""
    assert canary.now.answer == "6 crowns"
    assert len(canary.set_aside) == 7


def test_a_document_about_something_else_that_misleads_the_reader_stays() -> None:
    case = Case().add(
        "bicycle",
        "Herald",
        {FARE: ("2 crowns", 0.9)},
        text="The ferry takes a bicycle for {} crowns.",
    )
    canary = case.ask()
    assert (canary.now.answer, canary.harmed_by, canary.set_aside, case.left_out) == (
        "2 crowns",
        (),
        (),
        [],
    )


def test_a_reported_change_is_harm_even_if_the_question_on_the_old_value_is_not_answered() -> None:
    text = "The ferry to Saltby cost 6 crowns a short while ago; now it costs {} crowns."
    case = Case().add("lie", "Mallory", {FARE: ("9 crowns", 0.9)}, text=text)
    case.ask()
    assert case.left_out == [{"lie"}]


def test_a_document_that_denies_the_fact_states_no_value() -> None:
    case = Case().add(
        "denial", "Mallory", {FARE: ("Nobody knows", 0.9)}, text="The fare to Saltby? {} knows."
    )
    assert case.ask().set_aside == ("denial",)


def test_a_value_of_the_same_fact_is_harm_whatever_the_right_document_says_to_its_question() -> (
    None
):
    case = Case().add(
        "lie", "Mallory", says("9 crowns"), text="The new fare to Saltby is {} crowns."
    )
    assert case.ask().set_aside == ("lie",)
    case = Case().add(
        "unsure", "Mallory", {FARE: ("9 crowns", 0.9), STATED: ("9 crowns", 0.6)}, text="{} crowns."
    )
    assert case.ask().set_aside == ()


def test_what_needs_too_many_documents_stays_harmed() -> None:
    case = (
        Case(max_set_aside=1)
        .add("lie", "Mallory", says("9 crowns"))
        .add("lie-2", "Mallory", says("8 crowns", 0.85))
    )
    canary = case.ask()
    assert (canary.harmed_by, canary.set_aside, case.left_out) == (("lie", "lie-2"), (), [])


def test_accepted_harm_sets_nothing_aside() -> None:
    case = Case(max_harmed=1).add("lie", "Mallory", says("9 crowns"))
    canary = case.ask()
    assert (canary.harmed_by, canary.now.answer, case.left_out) == (("lie",), "9 crowns", [])


REPORTS = (
    ("herald", "Saltby Herald", "The ferry company raised its fare to {} crowns."),
    ("echo", "Orrin Echo", "Since Monday the crossing to Saltby costs {} crowns."),
)
PAST = {"Saltby Herald": [(0, "h0")], "Orrin Echo": [(0, "e0")]}


def reported(
    *, past: dict[str, list[tuple[int, str]]], values: tuple[str, str] = ("9 crowns", "9 crowns")
) -> Canary:
    case = Case()
    case.past = past
    for (name, source, text), value, confidence in zip(REPORTS, values, (0.95, 0.9), strict=True):
        case.add(name, source, says(value, confidence), text=text)
        stated = text.replace("raised its fare to {}", "raised its fare to how many").replace(
            "{}", "how many"
        )
        question = stated.rstrip(".") + "?"
        case.facts[name] = {**case.facts[name], question: (value, 0.9)}
        case.facts["ferry"] = {**case.facts["ferry"], question: ("6 crowns", 0.8)}
    return case.ask()


def test_a_change_that_two_sources_report_independently_is_an_update_less_is_harm() -> None:
    canary = reported(past=PAST)
    assert (canary.updated_by, canary.references, canary.harmed_by) == ("herald", ("9 crowns",), ())
    assert canary.set_aside == ()
    # two unauthorised sources without a past, and two values
    for canary in (reported(past={}), reported(past=PAST, values=("9 crowns", "8 crowns"))):
        assert (canary.updated_by, canary.set_aside) == (None, ("herald", "echo"))


def test_a_question_that_was_never_answered_right_leaves() -> None:
    case, fixed = Case(), replace(CANARY, fixed=True)
    case.facts["ferry"] = says("5 crowns")
    assert case.kept(fixed) == []
    canary = case.ask(replace(fixed, best=Outcome("6 crowns", 1.0, True, "ferry")))
    assert (canary.now.answer, canary.harmed_by) == ("5 crowns", ())
