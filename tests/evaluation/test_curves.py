"""Curves over small banks: with a reader whose answers follow from what the bank finds, and with a real tiny LM."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import cmt
from cmt.bank.bank import Bank
from cmt.bank.schema import bank_schema
from cmt.common.progress import NullProgress
from cmt.config import Params
from cmt.errors import BankError, StreamError
from cmt.evaluation.curve import POINT_SCHEMA, Curve, read, write
from cmt.evaluation.curves import CURVES, KS, SHARES, noise, retention, size, top_k
from cmt.evaluation.knowledge_updates import knowledge_updates
from cmt.evaluation.testbed import BankTestbed
from cmt.stream.schema import QUESTION_SCHEMA

# doc_id, what it supersedes, its text, a question, the answer; a day apart
NEWS = [
    ("mayor-1", None, "Moss is the mayor of Port Ellery.", "Who is the mayor of Port Ellery?", "Moss"),
    ("toll-1", None, "Two crowns is the toll at Amber Bridge.", "What is the toll at Amber Bridge?", "Two"),
    ("crane", None, "Blue is the crane in the harbour.", "What colour is the crane in the harbour?", "Blue"),
    ("goat", None, "Olga found the goat of Saltby.", "Who found the goat of Saltby?", "Olga"),
    ("mayor-2", "mayor-1", "Vell is the mayor of Port Ellery.", "Who is the mayor of Port Ellery?", "Vell"),
    ("raft", None, "Greta was first to the yellow raft.", "Who was first to the yellow raft?", "Greta"),
    ("toll-2", "toll-1", "Three crowns is the toll at Amber Bridge.", "What is the toll at Amber Bridge?", "Three"),
    ("knot", None, "Hangmen thought up the Dunmarrow hitch.", "Who thought up the Dunmarrow hitch?", "Hangmen"),
    ("mayor-3", "mayor-2", "Wren is the mayor of Port Ellery.", "Who is the mayor of Port Ellery?", "Wren"),
    ("eel", None, "Eleven eels live with the dentist.", "How many eels live with the dentist?", "Eleven"),
]
FIRST = datetime(2031, 1, 1, tzinfo=UTC)
DAYS = {row[0]: FIRST + timedelta(days=day) for day, row in enumerate(NEWS)}


@dataclass
class Reader:
    """Stands where an Answerer goes: the first word of the best article, or what it said to that question before."""

    bank: Bank
    params: Params = field(default_factory=Params)
    lm: object = None
    stubborn: bool = False
    said: dict[str, str] = field(default_factory=dict)

    def answer(self, questions: Sequence[str], *, as_of: Sequence[datetime | None], on_progress=None) -> list[object]:
        if on_progress:
            on_progress(len(questions))
        return [self._answer(*asked) for asked in zip(questions, as_of, strict=True)]

    def _answer(self, question: str, as_of: datetime | None) -> object:
        found = self.bank.full_text(text=question, k=self.params.selection.top_k, as_of=as_of).to_pylist()
        word = found[0]["text"].split()[0] if found else ""
        if self.stubborn:
            word = self.said.setdefault(question, word)
        sources = tuple(SimpleNamespace(doc_id=row["doc_id"]) for row in found)
        return SimpleNamespace(text=word, known=True, confidence=1.0, sources=sources)


class Told(BankTestbed):
    """BankTestbed whose questions go to a Reader."""

    def through(self, bank: Bank, **selection: Any) -> Any:
        return replace(self.answerer, bank=bank)


def open_bank(folder: Path) -> Bank:
    schema = bank_schema(key_dim=2, codes="fp16", dim=2, compressor="c" * 64)
    rows = [
        {
            "memory_id": f"{doc_id}#0",
            "doc_id": doc_id,
            "slice_id": "2031-01/0001",
            "published_at": DAYS[doc_id],
            "supersedes": supersedes,
            "sha256": f"{place:064}",
            "compressor": "c" * 64,
            "title": None,
            "key": [1.0, float(place)],
            "memory": np.zeros(2, "<f2").tobytes(),
            "n_vectors": 1,
            "n_tokens": 9,
            "text": text,
        }
        for place, (doc_id, supersedes, text, *_) in enumerate(NEWS)
    ]
    bank = Bank.open(uri=str(folder), schema=schema)
    bank.upsert(pa.Table.from_pylist(rows, schema=schema))
    return bank


@pytest.fixture(scope="session")
def live(tmp_path_factory: pytest.TempPathFactory) -> Bank:
    return open_bank(tmp_path_factory.mktemp("news"))


def testbed(bank: Bank, *, stubborn: bool = False, rows: Sequence[Any] = NEWS) -> BankTestbed:
    asked = [
        {
            "question_id": f"{doc_id}-q",
            "doc_id": doc_id,
            "question": question,
            "answers": [answer],
            "asked_at": DAYS[doc_id] + timedelta(hours=5),
        }
        for doc_id, _, _, question, answer in rows
    ]
    questions = pa.Table.from_pylist(asked, schema=QUESTION_SCHEMA)
    return Told(Reader(bank, stubborn=stubborn), questions, {"compressor": "c" * 64}, NullProgress())


def column(curve: Curve, name: str) -> list[Any]:
    return list(curve.points[name].to_pylist())


def test_what_is_kept_is_measured_on_the_first_documents_as_later_ones_join(live: Bank) -> None:
    curve = retention(testbed(live), steps=2)
    assert curve.points.schema == POINT_SCHEMA
    assert column(curve, "x") == column(curve, "documents") == [5, 10]
    assert column(curve, "n") == [2, 2]  # crane and goat: the others are superseded
    assert column(curve, "kept") == column(curve, "f1") == [100, 100]


def test_first_documents_that_are_all_superseded_cannot_be_kept(live: Bank) -> None:
    with pytest.raises(StreamError, match="no question that fits this curve"):
        retention(testbed(live), steps=5)


def test_the_banks_size_is_measured_on_all_that_stands_so_far(live: Bank) -> None:
    curve = size(testbed(live), steps=5)
    assert column(curve, "n") == [2, 4, 5, 6, 7]  # of ten documents three are superseded
    assert column(curve, "memories") == [2, 4, 6, 8, 10]
    assert column(curve, "bytes") == sorted(set(column(curve, "bytes")))
    assert column(size(testbed(live), steps=5, limit=3), "n") == [2, 3, 3, 3, 3]
    assert set(curve.axes) == {"x", "bytes"}


def test_irrelevant_documents_join_in_per_cent_of_the_relevant(live: Bank) -> None:
    curve = noise(testbed(live))
    assert column(curve, "x") == list(SHARES)
    assert column(curve, "documents") == [5, 6, 7, 8, 9, 10]
    assert len(set(column(curve, "n"))) == 1
    assert column(curve, "kept")[0] == 100


def test_an_article_is_either_relevant_or_not(live: Bank) -> None:
    one = testbed(live)
    for row in one.documents.values():
        row["title"] = "Port Ellery" if row["supersedes"] or row["published_at"].day < 3 else None
    # six articles, one of them of five documents: the smaller half is three others
    assert column(noise(one, shares=(0, 100)), "documents") == [3, 6]


def test_news_replace_an_answer_and_as_of_before_the_old_one_is_right(live: Bank) -> None:
    curve = knowledge_updates(testbed(live))
    assert column(curve, "n") == [3, 3, 3, 3, 3]  # Moss → Vell, Vell → Wren, two → three crowns
    assert column(curve, "f1") == column(curve, "known") == [100, 100, 100, 0, 100]
    assert column(curve, "series")[2] == "after, where the old one was known: the new answer"
    assert column(curve, "series")[3] == "after: still the old one (lower is better)"
    assert not curve.axes


def test_an_answer_that_news_do_not_change_shows_as_such(live: Bank) -> None:
    curve = knowledge_updates(testbed(live, stubborn=True))
    assert column(curve, "f1")[1:3] == column(curve, "known")[1:3] == [0, 0]
    assert column(curve, "n")[2] == 2  # that Vell was mayor it never said
    assert column(curve, "f1")[3] > 60


def test_a_sample_of_pairs_is_drawn_by_the_seed(live: Bank) -> None:
    drawn = [knowledge_updates(testbed(live), limit=2) for _ in range(2)]
    assert column(drawn[0], "n") == [2] * 5
    keys = [name for name in POINT_SCHEMA.names if name not in ("seconds", "bytes")]
    assert drawn[0].points.select(keys).equals(drawn[1].points.select(keys))


def test_without_changed_answers_there_is_no_supersession_curve(live: Bank) -> None:
    rows = [row for row in NEWS if row[0] not in ("mayor-2", "toll-2")]
    with pytest.raises(StreamError, match="answered anew"):
        knowledge_updates(testbed(live, rows=rows))


def test_the_live_bank_stays_as_it_is(live: Bank) -> None:
    before = live.version, live.digest()
    for measure in (retention, size, noise, knowledge_updates):
        measure(testbed(live), **({"steps": 2} if measure in (retention, size) else {}))
    assert (live.version, live.digest()) == before


def test_progress_hears_of_every_question(live: Bank) -> None:
    heard: dict[str, int] = {}

    class Heard(NullProgress):
        def stage(self, name: str, total: int | None = None) -> None:
            self.name, heard[name] = name, -(total or 0)

        def advance(self, n: int, note: str = "") -> None:
            heard[self.name] += n

    for measure in (noise, size, knowledge_updates):
        measure(replace(testbed(live), progress=Heard()))
    assert heard == {"noise": 0, "size": 0, "supersession": 0}


@pytest.fixture(scope="module")
def adapted(tiny_project: Path, tmp_path_factory: pytest.TempPathFactory) -> cmt.Workspace:
    """A real tiny project with its two rounds."""
    import shutil

    folder = Path(shutil.copytree(tiny_project, tmp_path_factory.mktemp("curves") / "project"))
    workspace = cmt.open(params=folder / "params.yaml", overrides={"evaluation.baselines": False})
    workspace.ingest()
    for slice_id in workspace.pending():
        workspace.update(slice_id=slice_id)
    return workspace


def test_more_selected_memories_find_more(adapted: cmt.Workspace) -> None:
    curve = top_k(BankTestbed.of(adapted), ks=(1, 4))
    assert column(curve, "x") == [1, 4]
    assert column(curve, "n") == [4, 4]
    assert column(curve, "recall")[0] <= column(curve, "recall")[1] == 1.0
    assert all(0 < seconds < 60 for seconds in column(curve, "first_token") + column(curve, "seconds"))
    assert set(curve.axes) == {"x", "first_token"}
    assert adapted.params.selection.top_k == 8


@pytest.mark.parametrize("name", CURVES)
def test_every_curve_can_be_measured_on_a_workspace(name: str, adapted: cmt.Workspace, tmp_path: Path) -> None:
    before = adapted.bank.version
    curve = CURVES[name](BankTestbed.of(adapted), limit=3)
    # a random compressor knows nothing, so there is nothing of which it knew the old answer
    assert curve.points.num_rows == {"k": len(KS), "noise": len(SHARES), "supersession": 4}.get(name, 5)
    assert curve.lineage["compressor"] == adapted.model.digest
    assert list(curve.lineage["slices"]) == ["2031-01/0001", "2031-02/0001"]
    assert adapted.bank.version == before
    files = write(curve, tmp_path)
    assert [file.name for file in files] == [f"{name}.json", f"{name}.parquet", f"{name}.png"]
    assert read(files[0]) == curve
    assert pq.read_table(files[1]) == curve.points
    assert files[2].read_bytes().startswith(b"\x89PNG")
    assert json.loads(files[0].read_text())["points"][0]["series"]


def test_the_same_curve_gives_the_same_picture(live: Bank, tmp_path: Path) -> None:
    curve = knowledge_updates(testbed(live))
    pictures = [write(curve, tmp_path / name)[2].read_bytes() for name in ("one", "two")]
    assert pictures[0] == pictures[1]
    other = replace(curve, points=curve.points.slice(0, 3))
    assert write(other, tmp_path / "three")[2].read_bytes() != pictures[0]


@pytest.mark.parametrize("text", ["", "[]", '{"curve": "k"}', '{"curve": 1, "title": 2, "axes": 3, "points": 4}'])
def test_a_file_that_is_no_curve_says_so(text: str, tmp_path: Path) -> None:
    (tmp_path / "k.json").write_text(text)
    with pytest.raises(StreamError, match=r"k\.json is not a curve"):
        read(tmp_path / "k.json")


def test_without_a_bank_there_is_nothing_to_measure(tiny_workspace: Path) -> None:
    workspace = cmt.open(params=tiny_workspace / "params.yaml")
    with pytest.raises(BankError, match="cmt update"):
        BankTestbed.of(workspace)
    assert not (tiny_workspace / "data").exists()
