"""The canaries of a round: a fixed sample, and questions on the documents nearest to the new
ones.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from cmt.bank.bank import Bank, open_bank
from cmt.bank.change_values import ChangeReport, with_values
from cmt.bank.changes import Change, ValueSpan
from cmt.bank.location import BankLocation
from cmt.bank.schema import bank_schema
from cmt.common.digests import sha256_hex
from cmt.evaluation.gate.canary import Canary
from cmt.evaluation.gate.choice import Context, choose
from cmt.stream.admission.authority import Authority
from cmt.stream.schema import DOCUMENT_SCHEMA
from cmt.timeline import Version

SCHEMA = bank_schema(key_dim=2, codes="fp16", dim=2, compressor="c" * 64)
DATE = datetime(2031, 1, 1, tzinfo=UTC)
FERRY = "The ferry to Saltby costs 6 crowns."
FERRY_QUESTION = "The ferry to Saltby costs how many crowns?"


@dataclass
class Project:
    """A stream, a bank of it, and an answerer that encodes every question in one direction."""

    bank: Bank
    slices: dict[str, dict[str, Any]] = field(default_factory=dict)
    """slice_id → {"documents": rows, "questions": rows}."""
    rows: list[dict[str, Any]] = field(default_factory=list)

    def add(
        self,
        slice_id: str,
        documents: Mapping[str, str],
        *,
        asked: Mapping[str, str] | None = None,
        answer: str = "nothing",
        source: str = "Courier",
        supersedes: str | None = None,
        banked: bool = True,
    ) -> None:
        """Add a slice of `documents` (doc_id → text) of a `source`, with questions (doc_id →
        question).
        """
        fields: dict[str, Any] = {
            "title": None,
            "supersedes": supersedes,
            "source": source,
            "published_at": DATE,
        }
        texts = [{"doc_id": name, "text": text} | fields for name, text in documents.items()]
        questions = [
            {
                "question_id": f"{name}-{question}",
                "doc_id": name,
                "question": question,
                "answers": [answer],
            }
            for name, question in (asked or {}).items()
        ]
        self.slices[slice_id] = {"documents": texts, "questions": questions}
        self.rows = [self._row(slice_id, row) for row in texts]
        if banked:
            self.bank.upsert(self.memories())

    def memories(self) -> pa.Table:
        """The memories of the slice that was added last."""
        return pa.Table.from_pylist(self.rows, schema=SCHEMA)

    def choose(
        self,
        slice_id: str,
        *,
        limit: int,
        kept: Sequence[Canary] = (),
        unseen: Sequence[str] = (),
        refused: Sequence[str] = (),
        changes: Callable[[Collection[str]], Sequence[ChangeReport]] = lambda _: [],
    ) -> list[Canary]:
        def read(part: str, slice_: SimpleNamespace) -> pa.Table:
            return pa.Table.from_pylist(self.slices[slice_.slice_id][part], schema=TABLES[part])

        def slice_of(name: str) -> Any:
            return SimpleNamespace(slice_id=name, n_questions=len(self.slices[name]["questions"]))

        store: Any = SimpleNamespace(
            slice=slice_of,
            documents=lambda slice_: read("documents", slice_),
            questions=lambda slice_: read("questions", slice_),
            versions=lambda slice_: [
                Version(row["doc_id"], DATE, slice_.slice_id, None, row["text"], row["supersedes"])
                for row in self.slices[slice_.slice_id]["documents"]
            ],
        )
        answerer: Any = SimpleNamespace(
            bank=self.bank,
            keys=lambda questions: np.tile(np.array([1, 0], np.float32), (len(questions), 1)),
            model=SimpleNamespace(temperature=torch.tensor(1.0)),
            params=SimpleNamespace(selection=SimpleNamespace(full_text_weight=4.0)),
        )
        context = Context(
            store,
            answerer,
            Authority(),
            refused=lambda: list(map(slice_of, refused)),
            changes=changes,
        )
        return choose(
            context, slice_of(slice_id), self.memories(), kept=kept, unseen=unseen, limit=limit
        )

    @staticmethod
    def _row(slice_id: str, document: Mapping[str, Any]) -> dict[str, Any]:
        return {
            "memory_id": f"{document['doc_id']}#0",
            "doc_id": document["doc_id"],
            "slice_id": slice_id,
            "published_at": DATE,
            "supersedes": document["supersedes"],
            "sha256": document["text"],
            "compressor": "c" * 64,
            "key": [1.0, 0.0],
            "memory": np.zeros(2, "<f2").tobytes(),
            "n_vectors": 1,
            "n_tokens": 9,
            "text": document["text"],
        }


TABLES = {
    "documents": DOCUMENT_SCHEMA.remove(DOCUMENT_SCHEMA.get_field_index("sha256")),
    "questions": pa.schema(
        {
            "question_id": pa.string(),
            "doc_id": pa.string(),
            "question": pa.string(),
            "answers": pa.list_(pa.string()),
        }
    ),
}


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(open_bank(BankLocation(str(tmp_path / "bank")), schema=SCHEMA))


def names(canaries: Sequence[Canary]) -> list[str]:
    return [canary.doc_id for canary in canaries]


def test_a_quarter_is_a_fixed_sample_of_all_earlier_questions(project: Project) -> None:
    asked = {f"d{number}": f"Question {number}?" for number in range(40)}
    project.add("1", {name: f"Nothing about {name}." for name in asked}, asked=asked)
    project.add("2", {"new": "Lamps are lit at nine."}, banked=False)
    by_hash = sorted(asked, key=lambda name: sha256_hex(f"{name}-{asked[name]}", asked[name]))
    chosen = project.choose("2", limit=16, unseen=["1"])
    assert names(chosen) == by_hash[:4]
    # the canaries of the round before, and the questions of the slices since
    kept = [canary for canary in chosen if canary.doc_id != by_hash[0]]
    assert names(project.choose("2", limit=16, kept=kept)) == by_hash[1:4]
    assert sorted(names(project.choose("2", limit=16, kept=kept, unseen=["1"]))) == sorted(
        by_hash[:4]
    )
    assert project.choose("2", limit=3, unseen=["1"]) == []


def test_the_others_are_questions_on_what_the_new_documents_are_about(project: Project) -> None:
    earlier = {"ferry": FERRY, "toll": "The toll on the Amber Bridge is 3 crowns."}
    project.add("1", earlier)
    project.add("2", {"new": "The ferry to Saltby costs 9 crowns."}, banked=False)
    [first, *_] = chosen = project.choose("2", limit=3, unseen=["1"])
    assert (first.question, first.references, first.doc_id) == (FERRY_QUESTION, ("6",), "ferry")
    assert len(chosen) == len({canary.question_id for canary in chosen})


def test_a_new_document_that_also_has_the_right_answer_counts_less(project: Project) -> None:
    project.add("1", {"ferry": FERRY, "toll": "The toll on the Amber Bridge is 3 crowns."})
    news = "Since 2030 the ferry to Saltby costs 6 crowns."
    project.add(
        "2", {"new": news, "bridge": "The toll on the Amber Bridge is 4 crowns."}, banked=False
    )
    assert names(project.choose("2", limit=3))[:1] == ["toll"]
    assert "ferry" in names(project.choose("2", limit=3))


def test_a_question_counts_for_the_document_that_changed_its_answer(project: Project) -> None:
    project.add(
        "1",
        {"ferry": FERRY},
        asked={"ferry": "What does the ferry to Saltby cost?"},
        answer="6 crowns",
    )
    news = "From today on, 9 crowns take a passenger to Saltby by ferry."
    project.add("2", {"rise": news}, source="Herald")
    project.add("3", {"lie": "The ferry to Saltby costs 2 crowns."}, banked=False)
    old, new = (
        ValueSpan.of(
            project._row(name, project.slices[name]["documents"][0]),
            text.index(value),
            text.index(value) + 8,
        )
        for name, text, value in (("1", FERRY, "6 crowns"), ("2", news, "9 crowns"))
    )
    change = Change(old, new, holds_from=DATE, confidence=0.9)

    def chosen(change: Change) -> dict[str, tuple[str, tuple[str, ...], str]]:
        canaries = project.choose(
            "3", limit=9, changes=lambda _: with_values(project.bank, [change])
        )
        return {
            canary.question_id: (canary.doc_id, canary.references, canary.source)
            for canary in canaries
        }

    name = "ferry-What does the ferry to Saltby cost?"
    assert chosen(change)[name] == ("rise", ("9 crowns",), "Herald")
    assert chosen(replace(change, state="rejected"))[name] == ("ferry", ("6 crowns",), "Courier")
    elsewhere = replace(change.old, first=0, last=9)  # another statement of the document
    assert chosen(replace(change, old=elsewhere))[name] == ("ferry", ("6 crowns",), "Courier")


def test_a_flood_of_one_source_leaves_room_for_the_questions_of_others(project: Project) -> None:
    flood = {
        f"flood-{number}": f"The ferry to Saltby costs a lot, says note {number}."
        for number in range(60)
    }
    project.add(
        "1",
        {"ferry": FERRY},
        asked={"ferry": "What does the ferry to Saltby cost?"},
        answer="6 crowns",
    )
    asked = {name: f"What does the ferry to Saltby cost, says note {name}?" for name in flood}
    news = {"new": "The ferry to Saltby costs 9 crowns."}
    project.add("2", news, source="Mallory", banked=False)
    kept = project.choose("2", limit=8, unseen=["1"])
    project.add("flood", flood, asked=asked, answer="a lot", source="Mallory")
    project.add("2", news, source="Mallory", banked=False)
    # in the fixed sample, and first among the questions near the new document
    assert "ferry" in names(project.choose("2", limit=8, unseen=["1", "flood"]))[:2]
    assert "ferry" in names(project.choose("2", limit=3))[:1]
    # a canary that served before stays in the sample
    lamps = {f"lamp-{number}": "Lamps are lit at nine." for number in range(9)}
    assert names(project.choose("2", limit=8, kept=kept, unseen=["flood"]))[:1] == ["ferry"]
    for number, name in enumerate(lamps):
        asked = {name: f"When are lamps lit, {number}?"}
        project.add(
            name, {name: lamps[name]}, asked=asked, answer="at nine", source=f"Lamp {number}"
        )
    assert names(project.choose(name, limit=8, kept=kept, unseen=list(lamps)))[:1] == ["ferry"]


def test_an_answer_that_its_document_does_not_have_is_no_reference(project: Project) -> None:
    project.add("1", {"ferry": FERRY})
    project.add(
        "2",
        {"lie": "The ferry costs 9 crowns."},
        asked={"ferry": "What does the ferry cost?"},
        answer="9 crowns",
    )
    project.add("3", {"new": "Lamps are lit at nine."}, banked=False)
    assert names(project.choose("3", limit=4, unseen=["1"])) == ["ferry"]  # a made question
    assert names(project.choose("3", limit=4, unseen=["2"])) == []
    project.add(
        "4",
        {"oil": "Oil is dear."},
        asked={"ferry": "What does the ferry to Saltby cost?"},
        answer="6 crowns",
    )
    project.add("3", {"new": "Lamps are lit at nine."}, banked=False)
    [asked_later] = project.choose("3", limit=4, unseen=["4"])
    assert (asked_later.doc_id, asked_later.source, asked_later.published_at) == (
        "ferry",
        "Courier",
        DATE,
    )


def test_every_document_has_its_first_question_before_any_has_its_second(project: Project) -> None:
    earlier = {
        "two": "The ferry to Saltby costs 6 crowns. The ferry to Saltby carries 40 sheep.",
        "one": "The ferry to Dunmarrow costs 5 crowns.",
    }
    project.add("1", earlier)
    project.add(
        "2",
        {"new": "The ferry to Saltby costs 9 crowns and carries 70 sheep to Dunmarrow."},
        banked=False,
    )
    assert names(project.choose("2", limit=3))[:2] in (["two", "one"], ["one", "two"])
    assert sorted(names(project.choose("2", limit=3))) == ["one", "two", "two"]
    assert len(project.choose("2", limit=2)) == 2


@pytest.mark.parametrize(
    "update",
    ["supersedes", "next version", "through a refused one", "superseded before", "another name"],
)
def test_a_question_whose_document_is_updated_is_left_out(project: Project, update: str) -> None:
    news = {"new": "The ferry to Saltby costs 9 crowns."}
    project.add("1", {"ferry": FERRY}, asked={"ferry": "What does the ferry cost?"})
    refused: list[str] = []
    match update:
        case "supersedes":
            project.add("2", news, supersedes="ferry", banked=False)
        case "next version":
            project.add("2", {"ferry": news["new"]}, banked=False)
        case "through a refused one":
            project.add(
                "refused",
                {"between": "The ferry to Saltby costs 7 crowns."},
                supersedes="ferry",
                banked=False,
            )
            project.add("2", news, supersedes="between", banked=False)
            refused = ["refused"]
        case "another name":
            project.add("later", {"copy": FERRY})
            project.add("2", news, supersedes="copy", banked=False)
        case _:
            project.add("later", {"between": "Lamps are lit at nine."}, supersedes="ferry")
            project.add("2", news, banked=False)
    chosen = project.choose("2", limit=8, unseen=["1"], refused=refused)
    assert "ferry" not in names(chosen)


def test_a_question_without_words_shares_none_with_a_document(project: Project) -> None:
    project.add("2031-01/0001", {"ferry": FERRY}, asked={"ferry": "The?"}, answer="6")
    project.add("2031-02/0001", {"raft": "The raft to Saltby costs 2 crowns."})
    assert names(project.choose("2031-02/0001", limit=4)) == []
