"""Training data: the split of the base data, mixes of several sources, and what is taken from the
stream.
"""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from cmt.config import Params, TrainParams
from cmt.errors import StreamError
from cmt.lm.model import FrozenLM
from cmt.stream.admission.ingest import Options, ingest
from cmt.stream.store import SliceStore
from cmt.training.data import (
    TrainingData,
    hold_out,
    load_base_data,
    load_training_data,
    stream_pairs,
)
from cmt.training.sources import pull_sources, read_pairs
from tests.helpers.rows import NOW, make_document, make_question, write_lines
from tests.helpers.training import SQUAD_ROWS, squad, titled_documents, write_squad
from tests.helpers.words import UnknownWords

TOWNS = (
    "Ines Vell opened the school in Saltby in 1987. The harbour of Port Ellery has 40 berths for"
    " the fishing boats."
)


def load(folder: Path, **files: list[dict[str, Any]]) -> TrainingData:
    """The base data of a mix of equal shares, of a file in `folder` for each list of rows; one file
    is no mix.
    """
    sources = [f"path:{folder / name}.json" for name in files]
    for name, rows in files.items():
        (folder / f"{name}.json").write_bytes(squad(rows))
    train: dict[str, Any] = (
        {"source": sources[0]} if len(files) == 1 else {"mix": dict.fromkeys(sources, 1.0)}
    )
    params = Params.model_validate(
        {"train": train | {"path": folder / "train", "validation_articles": 1}}
    )
    pull_sources(params.train)
    return load_base_data(params)


def articles_of(letter: str, **changes: Any) -> list[dict[str, Any]]:
    """Four articles with a paragraph each, all question ids being those of every other letter."""
    numbers = ("one", "two", "three", "four")
    row = {"question": f"{letter}?"}
    return [
        row
        | {"id": n, "title": f"{letter}{n}", "context": f"{letter} is {n}.", "answers": [n]}
        | changes
        for n in numbers
    ]


def test_the_split_has_all_documents_and_holds_out_whole_articles(tmp_path: Path) -> None:
    unanswerable = SQUAD_ROWS[0] | {"id": "none", "question": "Why?", "answers": []}
    data = load(tmp_path, pairs=[*SQUAD_ROWS, unanswerable])
    documents, _ = read_pairs(tmp_path / "pairs.json")
    assert data.documents.equals(documents)
    assert (data.seen, data.held_out) == hold_out(documents, articles=1)
    assert (len(data.seen), len(data.held_out)) == (1, 1)
    assert data.questions.num_rows == 3
    assert data.unanswerable.select(["question", "answers"]).to_pylist() == [
        {"question": "Why?", "answers": []}
    ]
    assert data.unanswerable.schema == data.questions.schema


def test_whole_articles_are_held_out() -> None:
    table = titled_documents(["a", "a", "b", "c", "c", None, None, "d"])
    seen, held_out = hold_out(table, articles=2)
    assert (
        sorted(seen["doc_id"].to_pylist() + held_out["doc_id"].to_pylist())
        == table["doc_id"].to_pylist()
    )
    articles = [
        {row["title"] or row["doc_id"] for row in part.to_pylist()} for part in (seen, held_out)
    ]
    assert not articles[0] & articles[1]
    assert len(articles[1]) == 2
    assert hold_out(table, articles=2) == (seen, held_out)
    # at most half of the articles; and with one title for all, each document is an article
    for titles, articles_held_out, sizes in ((["a", "b", "c"], 20, [2, 1]), (["a"] * 4, 1, [3, 1])):
        parts = hold_out(titled_documents([*titles]), articles=articles_held_out)
        assert [part.num_rows for part in parts] == sizes


def test_a_mix_has_the_documents_and_questions_of_all_sources(tmp_path: Path) -> None:
    data = load(tmp_path, a=articles_of("A"), b=articles_of("B", title="Tweets"))
    assert data.documents["source"].to_pylist() == ["a"] * 4 + ["b"] * 4
    assert data.documents.schema == read_pairs(tmp_path / "a.json")[0].schema
    ids = data.questions["question_id"].to_pylist()
    assert ids == [f"{name}/{n}" for name in "ab" for n in ("one", "two", "three", "four")]
    # of the source with one title for all a document is held out
    assert sorted(data.held_out["source"].to_pylist()) == ["a", "b"]
    ids = data.seen["doc_id"].to_pylist() + data.held_out["doc_id"].to_pylist()
    assert sorted(ids) == sorted(data.documents["doc_id"].to_pylist())


def test_a_document_of_two_sources_has_the_questions_of_both(tmp_path: Path) -> None:
    first = articles_of("A")
    second = [
        row | {"id": f"u{n}", "question": "Why?", "answers": []} for n, row in enumerate(first[:3])
    ]
    data = load(tmp_path, whole=first, part=[*second, first[0] | {"id": "again"}])
    assert sorted(data.documents["source"].to_pylist()) == ["part"] * 3 + [
        "whole"
    ]  # it counts for the last
    assert data.documents.num_rows == len(set(data.documents["doc_id"].to_pylist())) == 4
    assert data.questions.num_rows == 4  # the same question is asked once
    assert data.unanswerable["question_id"].to_pylist() == ["part/u0", "part/u1", "part/u2"]
    assert set(data.unanswerable["doc_id"].to_pylist()) < set(data.questions["doc_id"].to_pylist())


def test_an_article_that_one_source_holds_out_is_held_out_of_all(tmp_path: Path) -> None:
    first = articles_of("A")
    other_texts = [row | {"context": f"Other: {row['context']}"} for row in first]
    same_texts = [row | {"title": f"Copy {n}"} for n, row in enumerate(first)]
    data = load(tmp_path, first=first, other=[*other_texts, *articles_of("B")], copy=same_texts)
    alone = hold_out(read_pairs(tmp_path / "train/first.json")[0], articles=1)[1]
    assert set(alone["doc_id"].to_pylist()) <= set(data.held_out["doc_id"].to_pylist())
    seen_texts, [title] = data.seen["text"].to_pylist(), alone["title"].to_pylist()
    assert title not in data.seen["title"].to_pylist()
    assert not any(text in other for text in alone["text"].to_pylist() for other in seen_texts)


def test_a_source_of_a_mix_may_have_no_answers(tmp_path: Path) -> None:
    assert (
        load(tmp_path, a=articles_of("A"), b=articles_of("B", answers=[])).unanswerable.num_rows
        == 4
    )


# the stream


@pytest.fixture
def store(tmp_path: Path) -> SliceStore:
    """Two months: a ferry with a question in January, a school and a correction of the ferry in
    February.
    """
    store = SliceStore(path=tmp_path / "stream", quarantine=tmp_path / "quarantine")
    months = [
        [
            make_document(),
            make_question("q1"),
            make_question("q2", asked_at="2031-02-20T06:00:00Z"),
        ],
        [
            make_document(text="The ferry sails at dawn.", published_at="2031-02-03T06:00:00Z"),
            make_document("school", text=TOWNS, published_at="2031-02-05T06:00:00Z"),
            make_question("q3", "school", answers=["1987"], asked_at="2031-02-06T06:00:00Z"),
        ],
    ]
    for number, rows in enumerate(months):
        file = write_lines(tmp_path / f"{number}.jsonl", rows)
        ingest(store, file, file_format="jsonl", options=Options(now=NOW, publisher="Courier"))
    return store


def pairs(
    store: SliceStore, until: str | None = None, *, per_document: int = 1
) -> tuple[pa.Table, pa.Table, tuple[str, ...]]:
    date = datetime.fromisoformat(until).replace(tzinfo=UTC) if until else None
    return stream_pairs(
        store, until=date, per_document=per_document, seed=0, knowledge=UnknownWords()
    )


def asked(questions: pa.Table) -> list[str]:
    return [
        name if not name.startswith("made-") else "made"
        for name in questions["question_id"].to_pylist()
    ]


def test_every_document_is_taken_once_in_its_latest_version_with_its_questions(
    store: SliceStore,
) -> None:
    documents, questions, slices = pairs(store)
    assert documents["doc_id"].to_pylist() == ["ferry", "school"]
    assert documents["text"].to_pylist() == ["The ferry sails at dawn.", TOWNS]
    assert asked(questions) == ["q1", "q2", "q3"]
    assert slices == tuple(slice_.slice_id for slice_ in store.slices())


def test_an_earlier_version_that_came_later_and_a_repeat_are_not_taken(
    store: SliceStore, tmp_path: Path
) -> None:
    backfilled = make_document(text="The ferry is painted.", published_at="2031-02-01T06:00:00Z")
    repeat = make_document("repeat", text=TOWNS, published_at="2031-02-09T06:00:00Z")
    file = write_lines(tmp_path / "more.jsonl", [backfilled, repeat])
    ingest(store, file, file_format="jsonl", options=Options(now=NOW, publisher="Courier"))
    assert pairs(store)[0]["text"].to_pylist() == ["The ferry sails at dawn.", TOWNS]


def test_nothing_after_the_date_is_taken(store: SliceStore) -> None:
    documents, questions, slices = pairs(store, "2031-01-31")
    assert documents["text"].to_pylist() == ["The ferry sails at noon."]
    assert asked(questions) == ["q1"]  # q2 is asked in February
    assert slices == (store.slices()[0].slice_id,)
    between, _, _ = pairs(store, "2031-02-04")  # in the middle of a slice
    assert between["text"].to_pylist() == ["The ferry sails at dawn."]
    assert max(documents["published_at"].to_pylist()) <= datetime(2031, 1, 31, tzinfo=UTC)
    with pytest.raises(StreamError, match=r"no document up to 2030-12-31.* to train on"):
        pairs(store, "2030-12-31")


def test_a_document_with_few_questions_gets_made_ones(store: SliceStore) -> None:
    _, questions, _ = pairs(store, per_document=4)
    assert asked(questions) == ["q1", "q2", "q3", *["made"] * 5]
    made = questions.slice(3)
    assert sorted(made["doc_id"].to_pylist()) == ["ferry", "ferry", "school", "school", "school"]
    texts = {"ferry": "The ferry sails at dawn.", "school": TOWNS}
    assert all(row["answers"][0] in texts[row["doc_id"]] for row in made.to_pylist())


def test_a_forgotten_document_is_not_trained_on(store: SliceStore) -> None:
    store.forget({"school": [TOWNS]})
    documents, questions, _ = pairs(store, per_document=4)
    assert documents["doc_id"].to_pylist() == ["ferry"]
    assert asked(questions) == ["q1", "q2", "made", "made"]
    assert set(questions["doc_id"].to_pylist()) == {"ferry"}
    store.forget({"ferry": []})
    with pytest.raises(StreamError, match="no document to train on"):
        pairs(store)


# the stream beside base data


@pytest.fixture
def split(
    store: SliceStore, tmp_path: Path, tiny_lm: Callable[[str], FrozenLM]
) -> Callable[..., TrainingData]:
    """Load the stream beside base data; the arguments change `train`."""
    base = write_squad(
        tmp_path / "base.json", {f"Town {n}": f"Mayor {n} leads it." for n in range(6)}
    )
    values = {
        "source": "stream",
        "mix": {f"path:{base}": 1.0},
        "path": tmp_path / "train",
        "validation_articles": 2,
    }

    def load(**changes: object) -> TrainingData:
        params = Params.model_validate({"train": values | changes})
        pull_sources(params.train)
        return load_training_data(params, store=store, lm=tiny_lm("llama"))

    return load


def test_the_stream_is_beside_base_data_of_which_articles_are_held_out(
    store: SliceStore, split: Callable[..., TrainingData]
) -> None:
    data = split()
    assert data.seen["source"].to_pylist() == ["stream"] * 2 + ["base"] * 4
    assert data.held_out["source"].to_pylist() == ["base"] * 2
    assert data.slices == tuple(slice_.slice_id for slice_ in store.slices())
    assert {"q1", "q3"} < set(data.questions["question_id"].to_pylist())


def test_without_replay_the_stream_is_trained_on_alone(split: Callable[..., TrainingData]) -> None:
    data = split(base_fraction=0.0, until="2031-01-31")
    assert data.seen["doc_id"].to_pylist() == ["ferry"]
    assert data.held_out.num_rows == 2


def test_a_document_that_base_data_hold_out_is_not_trained_on(
    store: SliceStore, tmp_path: Path, split: Callable[..., TrainingData]
) -> None:
    held_out = split().held_out.to_pylist()[0]
    copy = make_document(held_out["doc_id"], text=held_out["text"], title="Copy")
    file = write_lines(tmp_path / "copy.jsonl", [copy])
    ingest(store, file, file_format="jsonl", options=Options(now=NOW))
    assert held_out["doc_id"] not in split().seen["doc_id"].to_pylist()


@pytest.mark.parametrize(
    ("train", "shares"),
    [
        ({"source": "stream"}, {"stream": 0.5, "hub:rajpurkar/squad": 0.5}),
        ({"source": "stream", "base_fraction": 0.0}, {}),
        (
            {"source": "stream", "base_fraction": 0.4, "mix": {"path:a": 3, "path:b": 1}},
            {"stream": 0.6, "path:a": 0.3, "path:b": 0.1},
        ),
        ({"mix": {"path:a": 3}}, {"path:a": 3}),
        ({}, {}),
    ],
)
def test_the_shares_of_the_sources(train: dict[str, object], shares: dict[str, float]) -> None:
    assert Params.model_validate({"train": train}).train.shares == pytest.approx(shares)


def test_a_date_is_the_end_of_its_day() -> None:
    assert (
        TrainParams.model_validate({"until": "2031-03-31"}).until == "2031-03-31T23:59:59.999999Z"
    )
    with pytest.raises(ValueError, match="write"):
        TrainParams.model_validate({"until": "March"})
