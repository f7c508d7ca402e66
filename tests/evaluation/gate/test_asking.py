"""Which canaries a round answers again, and which keep their outcome."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from cmt.answering.answerer import Answerer
from cmt.config import GateParams
from cmt.evaluation.evaluate import RECORD_SCHEMA, evaluate
from cmt.evaluation.gate import asking
from cmt.evaluation.gate.canary import Canary, Outcome
from cmt.evaluation.gate.harm import NewDocument, NewSlice
from cmt.retrieval.indexer import compress_documents
from cmt.stream.admission.authority import Authority
from tests.helpers.fact_reader import DATE, FactReader, Facts
from tests.helpers.facts import FACTS, documents, questions
from tests.helpers.lms import TinyLm
from tests.helpers.untrained import small_params, untrained_answerer

FARE, MAYOR = "What is the fare to Saltby?", "Who is the mayor?"
KNOWN: dict[str, Facts] = {"ferry": {FARE: ("6 crowns", 0.8)}, "mayor": {MAYOR: ("Ines Vell", 0.8)}}
FIXED = Canary(
    "fare", "ferry", FARE, ("6 crowns",), source="Courier", published_at=DATE, fixed=True
)
NEAR = Canary("mayor", "mayor", MAYOR, ("Ines Vell",), source="Courier", published_at=DATE)


def ask(canaries: Sequence[Canary], **documents: Facts) -> tuple[dict[str, Canary], list[str]]:
    """Ask after a slice with these documents; returns the canaries and the questions that were
    answered.
    """
    reader = FactReader.of(KNOWN | documents, {})
    later = DATE + timedelta(days=30)
    new = NewSlice(
        reader.bank.documents(documents),
        {name: NewDocument(name, "Courier", later) for name in documents},
        Authority(),
        lambda _sources: {},
    )
    asked = asking.ask(reader, canaries, new, gate=GateParams(), leave_out=lambda _doc_ids: None)
    return {canary.question_id: canary for canary in asked}, reader.asked


def test_without_a_document_of_the_slice_only_the_fixed_sample_gets_its_first_answer() -> None:
    first, asked = ask([FIXED, NEAR], lamp={"When?": ("at nine", 0.9)})
    assert (asked, first["fare"].now.answer, first["mayor"]) == ([FARE], "6 crowns", NEAR)
    again, asked = ask([first["fare"]], oil={"How dear?": ("dear", 0.9)})
    assert (asked, again["fare"]) == ([], first["fare"])


@pytest.mark.parametrize("canary", [FIXED, NEAR])
def test_a_canary_that_selects_a_document_of_the_slice_is_asked(canary: Canary) -> None:
    question = canary.question
    before = Outcome("earlier", 0.0, False, None)
    for now in (None, before):
        given = replace(canary, best=now, now=now)
        [answered], asked = (
            list(part) for part in ask([given], note={question: (canary.references[0], 0.1)})
        )
        assert (asked, answered) == ([question], canary.question_id)


def test_an_outcome_of_another_selection_is_asked_for_again() -> None:
    right = Outcome("6 crowns", 1.0, True, "ferry")
    for selection in (None, "another"):
        _, asked = ask([replace(FIXED, best=right, now=right, selection=selection)])
        assert asked == [FARE]


# With a tiny LM

EARLIER = FACTS[:12]
LATER = [
    {"doc_id": "echo", "text": f"{EARLIER[0]['question']} The harbour master of Saltby, one hears."}
]
CALM = GateParams(max_harmed=99)


@pytest.fixture
def answerer(tiny_lm: TinyLm, tmp_path: Path) -> Answerer:
    """An answerer over EARLIER, of which each question selects two documents."""
    return untrained_answerer(
        tiny_lm("llama"), tmp_path, EARLIER, params=small_params(selection={"top_k": 2})
    )


def add_later(answerer: Answerer) -> NewSlice:
    """Bank LATER as a slice."""
    rows = compress_documents(
        answerer.model, documents(LATER), slice_id="2031-02/0001", params=answerer.params
    )
    answerer.bank.upsert(rows)
    news = {fact["doc_id"]: NewDocument(fact["text"], "Mallory", DATE) for fact in LATER}
    return NewSlice(rows, news, Authority(), lambda _sources: {})


def test_kept_outcomes_are_those_of_asking_all(answerer: Answerer) -> None:
    asked = [fact["question"] for fact in EARLIER]
    answers = answerer.answer(asked, as_of=[None] * len(asked))
    # the references are what the untrained reader answers, so that it is right
    canaries = [
        Canary(
            f"q{number}",
            fact["doc_id"],
            fact["question"],
            (answer.text,),
            source="Courier",
            fixed=number % 3 > 0,
        )
        for number, (fact, answer) in enumerate(zip(EARLIER, answers, strict=True))
        if any(map(str.isalnum, answer.text))
    ]
    nothing = NewSlice(answerer.bank.documents(set()), {}, Authority(), lambda _sources: {})
    before = asking.ask(answerer, canaries, nothing, gate=CALM, leave_out=lambda _doc_ids: None)
    new = add_later(answerer)
    found = asking.ask(answerer, before, new, gate=CALM, leave_out=lambda _doc_ids: None)
    every = [replace(canary, fixed=True, selection=None) for canary in before]  # is asked again
    full = asking.ask(answerer, every, new, gate=CALM, leave_out=lambda _doc_ids: None)
    kept = [one == earlier for one, earlier in zip(found, before, strict=True)]
    assert {True, False} == set(kept) and any(
        same and one.now for same, one in zip(kept, found, strict=True)
    )
    for one, other in zip(found, full, strict=True):
        assert one.now in (None, other.now)
        # nothing is harmed, updated or doubted that asking all would not, and the other way round
        for name in ("harmed_by", "updated_by", "before", "references", "set_aside"):
            assert getattr(one, name) == getattr(other, name)
    assert any(one.harmed_by for one in full)


def test_kept_answers_of_an_evaluation_are_those_of_asking_all(answerer: Answerer) -> None:
    asked, kept = questions(EARLIER), list[int]()
    before = evaluate(answerer, asked, earlier=RECORD_SCHEMA.empty_table()).records
    add_later(answerer)
    found = evaluate(answerer, asked, earlier=before, on_progress=kept.append).records
    full = evaluate(answerer, asked).records
    assert 0 < kept[0] < len(EARLIER)
    for name in ("cmt", "sources", "recalled"):
        assert found[name].to_pylist() == full[name].to_pylist()
    for name in ("confidence", "uncalibrated"):
        assert found[name].to_pylist() == pytest.approx(full[name].to_pylist())
