"""Detection of changes that no document declares, with the trained reader."""

from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pytest

from cmt.answering.judge import LEAST_STATED, Statement
from cmt.common.arrow import rows_with
from cmt.evaluation.changes import detection
from cmt.evaluation.changes._pairs import Pair, similar_pairs
from cmt.evaluation.changes.detection import AT_ONCE, find_changes
from cmt.evaluation.changes.questions import (
    RELATIONS,
    RELATIONS_ASKED,
    MadeQuestion,
    relation_probes,
)
from cmt.evaluation.temporary_bank import TemporaryBank
from cmt.lm.model import FrozenLM
from tests.helpers.encoders import FixedEncoder
from tests.helpers.shipped import shipped_bank

PUBLISHER = "Route 8 and 11 Gazette"  # names the values, too
DOCUMENTS = {
    "fare": (
        3,
        "A single ticket on the Saltby ferry costs 8 crowns. Children under six travel free.",
    ),
    "dam": (
        3,
        "The water level behind Tarn Dam stood at 41 metres on Thursday, the water board reported.",
    ),
    "rise": (
        7,
        "From today a single ticket on the Saltby ferry costs 11 crowns. "
        "Children under six travel free.",
    ),
    "declared": (
        7,
        "From today a single ticket on the Saltby ferry costs 12 crowns. "
        "Children under six travel free.",
    ),
    "same": (
        7,
        "A single ticket on the Saltby ferry still costs 8 crowns. Children under six travel free.",
    ),
}


@pytest.fixture(scope="module")
def bank(real_lm: FrozenLM) -> TemporaryBank:
    supersedes = {"declared": "fare"}
    rows: list[dict[str, Any]] = [
        {
            "doc_id": name,
            "published_at": f"2031-0{month}-01T00:00:00Z",
            "text": text,
            "source": PUBLISHER,
        }
        | {"supersedes": supersedes.get(name)}
        for name, (month, text) in DOCUMENTS.items()
    ]
    return shipped_bank(real_lm, rows)


def test_a_new_value_of_an_earlier_statement_is_a_change(bank: TemporaryBank) -> None:
    with bank.answerer(["fare", "dam", "rise"]) as answerer:
        (change,) = find_changes(answerer, rows_with(bank.rows, "doc_id", ["rise"]))
    texts = {row["doc_id"]: row["text"] for row in bank.rows.to_pylist()}
    assert change.doc_ids == ("fare", "rise")
    assert min(change.old.first, change.new.first) > len(PUBLISHER)
    assert "8" in texts["fare"][change.old.first : change.old.last]
    assert "11" in texts["rise"][change.new.first : change.new.last]
    assert (change.holds_from, change.old.published_at) == (
        datetime(2031, 7, 1, tzinfo=UTC),
        datetime(2031, 3, 1, tzinfo=UTC),
    )
    assert 0.5 < change.confidence <= 1


def test_a_large_slice_is_compared_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """All at once, a slice of 50,000 documents would need more than 10 GB."""
    date, asked = datetime(2031, 1, 1, tzinfo=UTC), list[int]()
    rows = [
        {"doc_id": f"d{n}", "published_at": date, "text": "one text", "key": [0.0] * 4}
        for n in range(1_000)
    ]
    rows = [row | {"title": None, "source": None} for row in rows]
    columns = dict.fromkeys(("doc_id", "text", "title", "source"), pa.string())
    schema = pa.schema(
        columns | {"published_at": pa.timestamp("us", "UTC"), "key": pa.list_(pa.float16(), 4)}
    )

    class Reader:
        model = SimpleNamespace(cross_encoder=FixedEncoder(holds=-8.0, changed=-8.0))

        def statements(
            self, questions: list[str], read: list[Any], *, expand: bool
        ) -> list[Statement]:
            asked.append(len(questions))
            return [Statement("two", 0, 3, 0.0, date) for _ in questions]

    made = [MadeQuestion("How many?", "one", True, 0.5)] * 4
    monkeypatch.setattr(
        detection, "similar_pairs", lambda _, new: [Pair(rows[0], row) for row in new.to_pylist()]
    )
    monkeypatch.setattr(detection, "questions_between", lambda *_: made)
    assert find_changes(Reader(), pa.Table.from_pylist(rows, schema=schema)) == []  # type: ignore[arg-type]
    assert max(asked) <= 4 * AT_ONCE and sum(asked) >= 1_000


def test_without_a_cross_encoder_no_change_is_recorded(bank: TemporaryBank) -> None:
    with bank.answerer(["fare", "dam", "rise"]) as answerer:
        model = SimpleNamespace(cross_encoder=None)
        unjudged = SimpleNamespace(model=model, bank=answerer.bank, statements=answerer.statements)
        assert find_changes(unjudged, rows_with(bank.rows, "doc_id", ["rise"])) == []  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["declared", "same", "fare"])
def test_declared_updates_equal_values_and_the_first_document_are_none(
    bank: TemporaryBank, name: str
) -> None:
    with bank.answerer(["fare", "dam", name]) as answerer:
        assert find_changes(answerer, rows_with(bank.rows, "doc_id", [name])) == []


def test_texts_that_share_only_a_rare_name_are_asked_for_what_news_mentions(
    real_lm: FrozenLM,
) -> None:
    texts = {
        "debut": "Oren Pell marked his Dunmarrow Rovers debut with a late goal against Tarn.",
        "fair": "The fair on the green drew three thousand visitors, the council said.",
        "signing": "SALTBY TOWN HAVE COMPLETED THE SIGNING OF WALES DEFENDER OREN PELL.",
    }
    rows: list[dict[str, Any]] = [
        {"doc_id": name, "published_at": f"2031-0{month}-01T00:00:00Z", "text": text}
        for month, (name, text) in enumerate(texts.items(), start=1)
    ]
    bank = shipped_bank(real_lm, rows)
    with bank.answerer() as answerer:
        pairs = similar_pairs(answerer, rows_with(bank.rows, "doc_id", ["signing"]))
        named = [pair for pair in pairs if pair.subject]
        assert [(pair.doc_ids, pair.subject.title()) for pair in named] == [
            (("debut", "signing"), "Oren Pell")
        ]
        probes = relation_probes(answerer, pairs)
    assert 1 <= len(probes) <= RELATIONS_ASKED
    asked = {text.format(named[0].subject) for text in RELATIONS}
    assert asked.issuperset(probe.made.question for probe in probes)
    assert all(probe.stated.answer == probe.made.value != "" for probe in probes)
    scores = [probe.stated.score for probe in probes]
    assert scores == sorted(scores, reverse=True) and scores[-1] >= LEAST_STATED


def test_a_change_about_a_rare_name_needs_less_confidence(
    bank: TemporaryBank, real_lm: FrozenLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows: list[dict[str, Any]] = [
        {"doc_id": name, "published_at": f"2031-0{month}-01T00:00:00Z", "text": text}
        for name, month, text in (
            ("debut", 1, "Oren Pell marked his Dunmarrow Rovers debut with a goal against Tarn."),
            ("signing", 3, "SALTBY TOWN HAVE COMPLETED THE SIGNING OF DEFENDER OREN PELL."),
        )
    ]
    perhaps = FixedEncoder(holds=0.0, changed=0.5)  # σ(0.5) = 0.62
    for banked, name, found in ((shipped_bank(real_lm, rows), "signing", 1), (bank, "rise", 0)):
        earlier = {"debut", "fare", "dam"} & set(banked.rows["doc_id"].to_pylist())
        with banked.answerer([*earlier, name]) as answerer:
            monkeypatch.setattr(answerer.model, "cross_encoder", perhaps)
            changes = find_changes(answerer, rows_with(banked.rows, "doc_id", [name]))
        assert len(changes) == found
