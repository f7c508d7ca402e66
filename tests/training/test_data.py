"""The split of the base data, and mixes of several sources."""

from pathlib import Path
from typing import Any

from cmt.config import Params
from cmt.training.data import TrainingData, hold_out, load_base_data
from cmt.training.sources import pull_sources, read_pairs
from tests.helpers.training import SQUAD_ROWS, squad, titled_documents


def load(folder: Path, **files: list[dict[str, Any]]) -> TrainingData:
    """The base data of a mix of equal shares, of a file in `folder` for each list of rows; one file is no mix."""
    sources = [f"path:{folder / name}.json" for name in files]
    for name, rows in files.items():
        (folder / f"{name}.json").write_bytes(squad(rows))
    train: dict[str, Any] = {"source": sources[0]} if len(files) == 1 else {"mix": dict.fromkeys(sources, 1.0)}
    params = Params.model_validate({"train": train | {"path": folder / "train", "validation_articles": 1}})
    pull_sources(params.train)
    return load_base_data(params)


def articles_of(letter: str, **changes: Any) -> list[dict[str, Any]]:
    """Four articles with a paragraph each, all question ids being those of every other letter."""
    numbers = ("one", "two", "three", "four")
    row = {"question": f"{letter}?"}
    return [
        row | {"id": n, "title": f"{letter}{n}", "context": f"{letter} is {n}.", "answers": [n]} | changes
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
    assert data.unanswerable.select(["question", "answers"]).to_pylist() == [{"question": "Why?", "answers": []}]
    assert data.unanswerable.schema == data.questions.schema


def test_whole_articles_are_held_out() -> None:
    table = titled_documents(["a", "a", "b", "c", "c", None, None, "d"])
    seen, held_out = hold_out(table, articles=2)
    assert sorted(seen["doc_id"].to_pylist() + held_out["doc_id"].to_pylist()) == table["doc_id"].to_pylist()
    articles = [{row["title"] or row["doc_id"] for row in part.to_pylist()} for part in (seen, held_out)]
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
    second = [row | {"id": f"u{n}", "question": "Why?", "answers": []} for n, row in enumerate(first[:3])]
    data = load(tmp_path, whole=first, part=[*second, first[0] | {"id": "again"}])
    assert sorted(data.documents["source"].to_pylist()) == ["part"] * 3 + ["whole"]  # it counts for the last
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
    assert load(tmp_path, a=articles_of("A"), b=articles_of("B", answers=[])).unanswerable.num_rows == 4
