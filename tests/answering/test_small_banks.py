"""The confidence in small banks, with the shipped reader."""

import json

import pytest

from cmt.lm.model import FrozenLM
from tests.helpers.shipped import ROOT, shipped_bank

NOTICES = {
    "lecture": "The lecture about Greenland in the parish hall was well attended: eighty came.",
    "lessons": "Swimming lessons for beginners cost 48 euros, Tuesdays at 5 pm in the Ostbad.",
    "pharmacy": "Weidner's pharmacy is open until 10 pm while the one at the station is rebuilt.",
}
QUESTIONS = [
    "Who gave the lecture about Greenland?",
    "How many came to the lecture about Greenland?",
    "What do swimming lessons for beginners cost?",
    "Until when is Weidner's pharmacy open?",
]
LARGEST_MOVE = 0.05


@pytest.fixture(scope="module")
def articles() -> list[dict[str, str]]:
    """A hundred articles of a newspaper, about none of the notices."""
    lines = (ROOT / "data/courier/documents.jsonl").read_text().splitlines()[:100]
    return [json.loads(line) | {"supersedes": None} for line in lines]


def test_documents_about_other_things_do_not_move_the_confidence(
    real_lm: FrozenLM, articles: list[dict[str, str]]
) -> None:
    notices = [
        {"doc_id": name, "published_at": "2031-09-04T00:00:00Z", "text": text}
        for name, text in NOTICES.items()
    ]
    bank = shipped_bank(real_lm, [*notices, *articles])
    found = []
    for number in (0, 9, 100):
        doc_ids = [*NOTICES, *(row["doc_id"] for row in articles[:number])]
        with bank.answerer(doc_ids) as answerer:
            answers = answerer.answer(QUESTIONS, as_of=[None] * len(QUESTIONS))
        found.append([answer.confidence for answer in answers])
        assert answers[0].verdict == "unsure"  # the text does not say who
        assert [answer.verdict for answer in answers[2:]] == ["likely"] * 2
    alone, *others = found
    for confidences in others:
        assert confidences == pytest.approx(alone, abs=LARGEST_MOVE)
