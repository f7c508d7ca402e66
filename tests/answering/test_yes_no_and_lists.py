"""Yes or no with its sentence, and lists with a sentence of each document."""

from datetime import UTC, datetime

import pytest

from cmt.answering.answer import Answer
from cmt.answering.by_form import answer_by_form
from cmt.evaluation.temporary_bank import TemporaryBank
from cmt.lm.model import FrozenLM
from tests.helpers.shipped import shipped_bank

AUGUST = datetime(2031, 8, 2, tzinfo=UTC)
TEXTS = {
    "ferry": "The Saltby ferry did not sail on Monday. A gull had nested in the exhaust.",
    "bridge-1": "The Alder Bridge in Tarn is open to cars again. Painters have left.",
    "bridge-2": "The Alder Bridge in Tarn is closed to all cars. A crack was found in a pillar.",
    "coach": "Lena Fitch is the new coach of Dunmarrow Rovers. She taught sports before.",
    "trial-1": "At the sheepdog trials in Saltby the prize was won by a dog called Nettle.",
    "trial-2": "The dog Flint won the sheepdog trials on the Tarn meadow. It rained.",
    "choir": "The Highcombe choir sang for the mayor. The judges praised it.",
}


@pytest.fixture(scope="module")
def bank(real_lm: FrozenLM) -> TemporaryBank:
    """A ferry, a bridge whose second text supersedes the first one, a coach, and two trials."""
    return shipped_bank(
        real_lm,
        [
            {"doc_id": doc_id, "title": None, "text": text, "source": "paper"}
            | {"published_at": f"2031-03-0{day}T00:00:00+00:00"}
            | ({"supersedes": "bridge-1"} if doc_id == "bridge-2" else {})
            for day, (doc_id, text) in enumerate(TEXTS.items(), start=1)
        ],
    )


def asked(bank: TemporaryBank, question: str) -> Answer:
    with bank.answerer() as answerer:
        answer = answer_by_form(answerer, question, as_of=AUGUST)
    assert answer
    return answer


@pytest.mark.parametrize(
    ("question", "word", "doc_id"),
    [
        ("Is Lena Fitch the coach of Dunmarrow Rovers?", "yes", "coach"),
        ("Is Pavel Hruska the coach of Dunmarrow Rovers?", "no", "coach"),
    ],
)
def test_yes_or_no_is_said_with_its_sentence(
    bank: TemporaryBank, question: str, word: str, doc_id: str
) -> None:
    answer = asked(bank, question)
    [item], [source] = answer.items, answer.sources
    assert (answer.form, answer.text) == ("yesno", f"{word}: {item.text}")
    assert (item.doc_id, source.doc_id) == (doc_id, doc_id)
    assert source.text and source.quote
    assert source.text[source.quote.first : source.quote.last] == item.text


def test_without_a_name_or_number_to_ask_for_sentences_answer(bank: TemporaryBank) -> None:
    """Opposites and negations were wrong as often as right on questions by another hand."""
    answer = asked(bank, "is the alder bridge open to cars")
    assert not answer.text.startswith(("yes:", "no:"))
    assert answer.items[0].doc_id == "bridge-2"


def test_what_no_document_says_is_neither_yes_nor_no(bank: TemporaryBank) -> None:
    answer = asked(bank, "Is the Eiffel Tower in Paris taller than before?")
    assert not answer.text.startswith(("yes", "no:"))


def test_a_list_has_a_sentence_of_each_document(bank: TemporaryBank) -> None:
    answer = asked(bank, "Which dogs have won the sheepdog trials?")
    assert (answer.form, answer.verdict) == ("list", "unsure")
    assert {"trial-1", "trial-2"} <= {item.doc_id for item in answer.items}
    days = [item.published_at for item in answer.items]
    assert days == sorted(days) and answer.reason
    assert [source.doc_id for source in answer.sources] == [item.doc_id for item in answer.items]


def test_a_list_of_what_no_document_has_is_not_in_memory(bank: TemporaryBank) -> None:
    answer = asked(bank, "Which emperors have ruled Byzantium?")
    assert (answer.text, answer.items, answer.reason) == ("not in memory", (), "")
