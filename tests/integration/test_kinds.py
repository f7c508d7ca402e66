"""Kinds of questions on which readers of public texts go wrong, one small example of each, all in
one bank of the shipped compressor.

Kinds that concern files and not answers have tests of their own: dates of changes
(`stream/admission/test_revisions.py`), quoted mail, tables, results of sports and feeds
(`stream/readers/`), publishers of files (`stream/admission/test_authority.py`), recorded changes
(`evaluation/changes/`).
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import NamedTuple

import pytest

from cmt.answering.answer import Answer
from cmt.evaluation.temporary_bank import TemporaryBank
from cmt.lm.model import FrozenLM
from cmt.text.answers import words_of
from tests.helpers.shipped import shipped_bank

ADDRESS = "https://course.example/autumn/form?a=1&b=2&lang=en"
DOCUMENTS = {
    # id: date, title, text
    "tram": ("03-01", "Tram fares", "A day ticket on the Orlen tram costs 4 crowns."),
    "tram-rise": (
        "10-10",
        "Tram fares rise",
        "From 1 November a day ticket on the Orlen tram costs 5 crowns.",
    ),
    "pool": ("05-02", "Pool", "The Harle pool opens at 9 in the morning."),
    "pool-repair": (
        "06-20",
        "Repairs",
        "During the repairs on 23 and 24 June the Harle pool opens at 11 in the morning.",
    ),
    "mill": (
        "04-02",
        "Tarn mill",
        "The Tarn mill museum charges 11 crowns for adults. Its director is Helga Straum.",
    ),
    "form": (
        "04-03",
        "Autumn course",
        f"Register for the autumn course at {ADDRESS} before 9 October.",
    ),
    "works": (
        "04-04",
        "Projects of the Harrow works",
        "Project Alder has a budget of 20,000 crowns and six engineers. Project Birch has a"
        " budget of 27,000 crowns and four engineers.",
    ),
    "release": (
        "04-05",
        "Lumen 2.1.0",
        "Lumen encrypts its cache. See https://git.example/compare/v2.0.3...v2.1.0",
    ),
    "ash-kent": (
        "01-05",
        "Mayors",
        "In Ashmere (Kent county) the mayor Anna Reed opened the new library.",
    ),
    "ash-devon": (
        "02-05",
        "Ashmere on the coast",
        "Ashmere in Devon county elected Paul Quint as mayor. The town lives on fishing.",
    ),
    "budget": (
        "04-06",
        "Budget",
        "The budget of Lessing falls to 3.9 billion crowns. The deficit is 1.9 % (2030: 2.4 %).",
    ),
    "lake": (
        "04-07",
        "Population",
        "Lakeby has 12,450 inhabitants, the town hall said. A year ago it had 11,980.",
    ),
    "board": (
        "04-08",
        "Housing board",
        "Ana Holt resigns as chair of the housing board; Dee Marsh is elected chair.",
    ),
    "wind": (
        "04-09",
        "Wind farm",
        "The Ness wind farm has 14 turbines with 3.6 MW each and delivers 180 GWh a year.",
    ),
    "bank": (
        "04-10",
        "Results",
        "Norda Bank earned 212 million crowns, chief executive Olav Brekke said.",
    ),
    "bank-chief": (
        "05-27",
        "Halvorsen to lead Norda Bank",
        "Norda Bank names Siri Halvorsen as chief executive. She succeeds Olav Brekke.",
    ),
    "bus": ("04-11", "Fares", "A bus ticket in Tarby costs 24 krona."),
    "bus-euro": (
        "06-01",
        "Euro",
        "Since today Norland pays in euros. A bus ticket in Tarby costs 2.20 euros.",
    ),
    "study": (
        "04-12",
        "Coffee halves the risk of gout",
        "Three cups of coffee a day halve the risk of gout, a study of the University of Lorne"
        " finds.",
    ),
    "retraction": (
        "05-12",
        "Retraction",
        "The University of Lorne has retracted the study that said three cups of coffee a day"
        " halve the risk of gout.",
    ),
    "freight": (
        "04-13",
        "Contract",
        "The Harrow works hires Canford Freight for the transport of timber.",
    ),
    "freight-too": (
        "05-13",
        "Amendment",
        "Canford Freight also carries gravel for the Harrow works from now on.",
    ),
}


class Case(NamedTuple):
    """A question, and its right answer."""

    kind: str
    question: str
    right: str | None  # words of the answer; None: not in memory
    as_of: str = "2031-12-31"
    likely: bool = True  # whether the answer may be likely


CASES = [
    Case("dates of effect", "What does a day ticket on the Orlen tram cost?", "4", "2031-10-15"),
    Case("dates of effect", "What does a day ticket on the Orlen tram cost?", "5", "2031-11-02"),
    Case("dates of effect", "When does the Harle pool open?", "11", "2031-06-23"),
    Case("dates of effect", "When does the Harle pool open?", "9", "2031-07-01"),
    Case("courtesy", "Hello! What does the Tarn mill museum charge? Thanks a lot, Tom", "11"),
    Case("typos", "what does the Tarn mill musuem charge for adlts", "11"),
    Case("addresses", "Where can I register for the autumn course?", ADDRESS),
    Case("counting", "How many engineers does project Birch have?", "four"),
    Case("values from nowhere", "When was Lumen v2.0.3 released?", None),
    Case("one name", "Who is the mayor of Ashmere in Devon?", "Paul Quint"),
    Case("one name", "Who is the mayor of Ashmere?", "Paul Quint", likely=False),
    Case("the other value", "How high is the deficit of Lessing?", "1.9"),
    Case("the other value", "How many inhabitants does Lakeby have?", "12,450"),
    Case("the other value", "How high was the deficit of Lessing in 2030?", "2.4"),
    Case("the other value", "How many inhabitants did Lakeby have a year ago?", "11,980"),
    Case("the other value", "Who is the chair of the housing board?", "Dee Marsh"),
    Case("the other value", "How much power does a turbine of the Ness wind farm have?", "3.6"),
    Case("changes", "Who is the chief executive of Norda Bank?", "Siri Halvorsen"),
    Case("changes", "What does a bus ticket in Tarby cost?", "2.20"),
    Case("retractions", "How many cups of coffee a day halve the risk of gout?", "", likely=False),
    Case("additions", "What does Canford Freight carry?", "timber"),
]
_SAME_SENTENCE = "ψ reads another value of the same sentence"
OPEN = {
    "How many engineers does project Birch have?": _SAME_SENTENCE,
    "How high was the deficit of Lessing in 2030?": _SAME_SENTENCE,
    "Who is the chair of the housing board?": _SAME_SENTENCE,
    "What does a bus ticket in Tarby cost?": "two currencies are compared as two facts",
    "What does Canford Freight carry?": "an addition is taken for a replacement",
}
"""Question → why the right answer is not expected yet."""
WRONG_AND_LIKELY = {"How high was the deficit of Lessing in 2030?"}
"""Those whose wrong answer is not even unsure."""


@pytest.fixture(scope="module")
def bank(real_lm: FrozenLM) -> TemporaryBank:
    rows = [
        {"doc_id": name, "published_at": f"2031-{day}T08:00:00Z", "title": title, "text": text}
        for name, (day, title, text) in DOCUMENTS.items()
    ]
    return shipped_bank(real_lm, rows)


@pytest.fixture(scope="module")
def answers(bank: TemporaryBank) -> Mapping[Case, Answer]:
    dates = [datetime.fromisoformat(f"{case.as_of}T23:00:00").replace(tzinfo=UTC) for case in CASES]
    with bank.answerer() as answerer:
        found = answerer.answer([case.question for case in CASES], as_of=dates)
    return dict(zip(CASES, found, strict=True))


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.kind}: {case.question}")
def test_a_kind_of_question_is_answered(
    case: Case, answers: Mapping[Case, Answer], request: pytest.FixtureRequest
) -> None:
    if reason := OPEN.get(case.question):
        request.applymarker(pytest.mark.xfail(reason=reason, strict=True))
    answer = answers[case]
    if case.right is None:
        assert not answer.known
        return
    assert words_of(case.right) <= words_of(answer.text)
    assert not answer.missing
    assert case.likely or answer.verdict == "unsure"


def test_a_wrong_answer_of_an_open_kind_is_unsure(answers: Mapping[Case, Answer]) -> None:
    likely = {case.question for case, answer in answers.items() if answer.verdict == "likely"}
    assert likely & OPEN.keys() == WRONG_AND_LIKELY


@pytest.mark.parametrize("name", ["mill", "wind"])
def test_confidence_does_not_grow_with_unrelated_documents(name: str, bank: TemporaryBank) -> None:
    question = {
        "mill": "Who is the director of the Tarn mill museum?",
        "wind": "How many turbines does the Ness wind farm have?",
    }[name]
    with bank.answerer({name}) as answerer:
        (alone,) = answerer.answer([question], as_of=[None])
    with bank.answerer() as answerer:
        (among,) = answerer.answer([question], as_of=[None])
    assert abs(alone.confidence - among.confidence) <= 0.05
