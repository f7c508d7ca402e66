"""Training data from a file and from a local hub, and the held-out articles."""

import json
import lzma
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cmt.config import TrainParams
from cmt.errors import ConfigError, StreamError
from cmt.training.data import (
    hold_out,
    installed_sources,
    installed_training_data,
    load_split,
    load_training_data,
    pull_sources,
    pull_training_data,
)
from tests.helpers.hub import Hub, serve_hub
from tests.helpers.training import titled_documents

ROWS = [
    {"id": "1", "title": "A_town", "context": "Moss leads it.", "question": "Who leads?", "answers": ["Moss", "Moss"]},
    {"id": "2", "title": "B", "context": "It is blue.", "question": "What colour?", "answers": ["blue"]},
    {"id": "3", "title": "A_town", "context": "Moss leads it.", "question": "What does Moss do?", "answers": ["leads"]},
]


def squad(rows: list[dict[str, Any]]) -> bytes:
    """`rows` in SQuAD's layout, a paragraph each."""
    data = [
        {
            "title": row["title"],
            "paragraphs": [
                {
                    "context": row["context"],
                    "qas": [
                        {key: row[key] for key in ("id", "question")}
                        | {"answers": [{"text": text} for text in row["answers"][:1]]}
                    ],
                }
            ],
        }
        for row in rows
    ]
    return json.dumps({"data": data}).encode()


class DatasetHub(Hub):
    """A hub whose repository is a dataset: its addresses differ from those of a model."""

    def do_GET(self) -> None:
        self.path = self.path.replace("/api/datasets/", "/api/models/").replace("/datasets/", "/")
        super().do_GET()

    do_HEAD = do_GET


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Folder behind `hub:org/tiny@main`."""
    folder = tmp_path / "repository"
    (folder / "plain_text").mkdir(parents=True)
    with serve_hub(DatasetHub, folder, monkeypatch):
        yield folder


def test_a_file_is_decompressed_validated_and_read_without_duplicates(tmp_path: Path) -> None:
    source = tmp_path / "train-v1.1.json.xz"
    source.write_bytes(lzma.compress(squad(ROWS)))
    file = pull_training_data(source=f"path:{source}", path=tmp_path / "train")
    assert (
        file
        == tmp_path / "train/train-v1.1.json"
        == installed_training_data(source=f"path:{source}", path=tmp_path / "train")
    )
    documents, questions = load_training_data(file)
    assert documents["title"].to_pylist() == ["A town", "B"]
    assert questions["question"].to_pylist() == ["Who leads?", "What colour?", "What does Moss do?"]
    assert len(set(questions["doc_id"].to_pylist())) == 2


def test_pulling_again_replaces_the_file(tmp_path: Path) -> None:
    source = tmp_path / "pairs.json"
    for count in (3, 2):
        source.write_bytes(squad(ROWS[:count]))
        assert (
            load_training_data(pull_training_data(source=f"path:{source}", path=tmp_path / "train"))[1].num_rows
            == count
        )


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"", "is empty"), (b"[1]", "not in SQuAD's layout"), (squad([]), "has no rows"), (b"\xff{", "not UTF-8")],
)
def test_a_bad_file_leaves_the_pulled_one_unchanged(tmp_path: Path, content: bytes, reason: str) -> None:
    source = tmp_path / "pairs.json"
    source.write_bytes(squad(ROWS))
    file = pull_training_data(source=f"path:{source}", path=tmp_path / "train")
    source.write_bytes(content)
    with pytest.raises(StreamError, match=reason):
        pull_training_data(source=f"path:{source}", path=tmp_path / "train")
    assert load_training_data(file)[1].num_rows == 3


def test_a_file_without_answers_is_refused(tmp_path: Path) -> None:
    source = tmp_path / "pairs.json"
    source.write_bytes(squad([ROWS[0] | {"answers": [""]}]))
    with pytest.raises(StreamError, match="no question with an answer"):
        pull_training_data(source=f"path:{source}", path=tmp_path / "train")


def test_a_question_without_an_answer_is_kept_apart(tmp_path: Path) -> None:
    source = tmp_path / "pairs.json"
    source.write_bytes(squad([*ROWS, ROWS[0] | {"id": "none", "question": "Why?", "answers": []}]))
    train = TrainParams(source=f"path:{source}", path=tmp_path / "train")
    pull_training_data(source=train.source, path=train.path)
    data = load_split(train)
    assert data.questions.num_rows == 3
    assert data.unanswerable.select(["question", "answers"]).to_pylist() == [{"question": "Why?", "answers": []}]
    assert data.unanswerable.schema == data.questions.schema


def test_the_error_names_a_file_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "pairs.json").write_bytes(squad(ROWS))
    with pytest.raises(StreamError, match=r"cannot write .*pairs\.json"):
        pull_training_data(source=f"path:{tmp_path / 'pairs.json'}", path=tmp_path / "pairs.json/train")


def test_a_table_on_the_hub_gives_the_same_pairs(hub: Path, tmp_path: Path) -> None:
    rows = [row | {"answers": {"text": row["answers"], "answer_start": [0] * len(row["answers"])}} for row in ROWS]
    pq.write_table(pa.Table.from_pylist(rows[:2]), hub / "plain_text/train-00000-of-00002.parquet")
    pq.write_table(pa.Table.from_pylist(rows[2:]), hub / "plain_text/train-00001-of-00002.parquet")
    pq.write_table(pa.table({"x": [1]}), hub / "plain_text/validation-00000-of-00001.parquet")
    file = pull_training_data(source="hub:org/tiny@main", path=tmp_path / "train")
    assert file == tmp_path / "train/org--tiny--main.json"
    documents, questions = load_training_data(file)
    (tmp_path / "same.json").write_bytes(squad(ROWS))
    same_documents, same_questions = load_training_data(tmp_path / "same.json")
    assert documents.equals(same_documents)
    assert questions.sort_by("question_id").equals(same_questions)


def test_the_error_names_what_the_hub_lacks(hub: Path, tmp_path: Path) -> None:
    (hub / "README.md").write_text("nothing here")
    with pytest.raises(StreamError, match="no train split in Parquet"):
        pull_training_data(source="hub:org/tiny@main", path=tmp_path)
    pq.write_table(pa.table({"x": [1]}), hub / "plain_text/train.parquet")
    with pytest.raises(StreamError, match="does not have SQuAD's columns id, title, context, question, answers"):
        pull_training_data(source="hub:org/tiny@main", path=tmp_path)


def test_without_network_the_error_names_the_alternative(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(StreamError, match=r"rajpurkar/squad could not be fetched.*train\.source to path:<file>"):
        pull_training_data(source="hub:rajpurkar/squad", path=tmp_path)


@pytest.mark.parametrize("source", ["hub:squad", "path:", "ftp:x", "squad", "hub:a/b@", "hub:../../x/y"])
def test_a_malformed_source_is_refused(source: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"train\.source"):
        pull_training_data(source=source, path=tmp_path)


def test_data_that_were_not_pulled_are_an_error_with_the_command(tmp_path: Path) -> None:
    with pytest.raises(StreamError, match="run `cmt data pull`"):
        installed_training_data(source="hub:rajpurkar/squad", path=tmp_path)


def test_the_split_has_all_documents_and_holds_out_whole_articles(tmp_path: Path) -> None:
    source = tmp_path / "pairs.json"
    source.write_bytes(squad(ROWS))
    train = TrainParams(source=f"path:{source}", path=tmp_path / "train", validation_articles=1)
    with pytest.raises(StreamError, match="run `cmt data pull`"):
        load_split(train)
    documents, questions = load_training_data(pull_training_data(source=train.source, path=train.path))
    data = load_split(train)
    assert data.documents.equals(documents) and data.questions.equals(questions)
    assert (data.seen, data.held_out) == hold_out(documents, articles=1)
    assert (len(data.seen), len(data.held_out)) == (1, 1)


def test_whole_articles_are_held_out() -> None:
    table = titled_documents(["a", "a", "b", "c", "c", None, None, "d"])
    seen, held_out = hold_out(table, articles=2)
    assert sorted(seen["doc_id"].to_pylist() + held_out["doc_id"].to_pylist()) == table["doc_id"].to_pylist()
    articles = [{row["title"] or row["doc_id"] for row in part.to_pylist()} for part in (seen, held_out)]
    assert not articles[0] & articles[1]
    assert len(articles[1]) == 2
    assert hold_out(table, articles=2) == (seen, held_out)


def test_at_most_half_of_the_articles_are_held_out() -> None:
    seen, held_out = hold_out(titled_documents(["a", "b", "c"]), articles=20)
    assert (seen.num_rows, held_out.num_rows) == (2, 1)


def test_documents_with_one_title_for_all_are_articles_of_their_own() -> None:
    seen, held_out = hold_out(titled_documents(["a", "a", "a", "a"]), articles=1)
    assert (seen.num_rows, held_out.num_rows) == (3, 1)


def mix_of(folder: Path, articles: int = 1, **files: list[dict[str, Any]]) -> TrainParams:
    """A mix of equal shares, of a file in `folder` for each list of rows."""
    for name, rows in files.items():
        (folder / f"{name}.json").write_bytes(squad(rows))
    mix = {f"path:{folder / name}.json": 1.0 for name in files}
    return TrainParams(mix=mix, path=folder / "train", validation_articles=articles)


def articles_of(letter: str) -> list[dict[str, Any]]:
    """Four articles with a paragraph each, all question ids being those of every other letter."""
    return [
        {
            "id": str(n),
            "title": f"{letter}{n}",
            "context": f"{letter} is {n}.",
            "question": f"{letter}?",
            "answers": [n],
        }
        for n in ("one", "two", "three", "four")
    ]


def test_a_mix_has_the_documents_and_questions_of_all_sources(tmp_path: Path) -> None:
    train = mix_of(tmp_path, a=articles_of("A"), b=articles_of("B"))
    with pytest.raises(StreamError, match="run `cmt data pull`"):
        load_split(train)
    files = pull_sources(train)
    assert [file.name for file in files.values()] == ["a.json", "b.json"]
    assert installed_sources(train) == files
    data = load_split(train)
    assert data.documents["source"].to_pylist() == ["a"] * 4 + ["b"] * 4
    assert data.documents.schema == load_training_data(files[f"path:{tmp_path}/a.json"])[0].schema
    ids = data.questions["question_id"].to_pylist()
    assert ids == [f"{name}/{n}" for name in "ab" for n in ("one", "two", "three", "four")]
    assert sorted(data.held_out["source"].to_pylist()) == ["a", "b"]
    assert sorted(data.seen["doc_id"].to_pylist() + data.held_out["doc_id"].to_pylist()) == sorted(
        data.documents["doc_id"].to_pylist()
    )


def test_a_document_of_two_sources_has_the_questions_of_both(tmp_path: Path) -> None:
    first = articles_of("A")
    second = [row | {"id": f"u{n}", "question": "Why?", "answers": []} for n, row in enumerate(first[:3])]
    train = mix_of(tmp_path, whole=first, part=[*second, first[0] | {"id": "again"}])
    pull_sources(train)
    data = load_split(train)
    assert sorted(data.documents["source"].to_pylist()) == ["part"] * 3 + ["whole"]  # it counts for the last
    assert data.documents.num_rows == len(set(data.documents["doc_id"].to_pylist())) == 4
    assert data.questions.num_rows == 4  # the same question is asked once
    assert data.unanswerable["question_id"].to_pylist() == ["part/u0", "part/u1", "part/u2"]
    assert set(data.unanswerable["doc_id"].to_pylist()) < set(data.questions["doc_id"].to_pylist())


def test_an_article_that_one_source_holds_out_is_held_out_of_all(tmp_path: Path) -> None:
    first = articles_of("A")
    other_texts = [row | {"context": f"Other: {row['context']}"} for row in first]
    same_texts = [row | {"title": f"Copy {n}"} for n, row in enumerate(first)]
    train = mix_of(tmp_path, first=first, other=[*other_texts, *articles_of("B")], copy=same_texts)
    pull_sources(train)
    data = load_split(train)
    alone = hold_out(load_training_data(tmp_path / "train/first.json")[0], articles=1)[1]
    assert set(alone["doc_id"].to_pylist()) <= set(data.held_out["doc_id"].to_pylist())
    seen_texts, [title] = data.seen["text"].to_pylist(), alone["title"].to_pylist()
    assert title not in data.seen["title"].to_pylist()
    assert not any(text in other for text in alone["text"].to_pylist() for other in seen_texts)


def test_a_source_of_a_mix_with_one_title_for_all_holds_out_a_document(tmp_path: Path) -> None:
    one_title = [row | {"title": "Tweets"} for row in articles_of("B")]
    train = mix_of(tmp_path, a=articles_of("A"), b=one_title)
    pull_sources(train)
    data = load_split(train)
    assert sorted(data.held_out["source"].to_pylist()) == ["a", "b"]
    assert sorted(data.seen["source"].to_pylist()) == ["a"] * 3 + ["b"] * 3


def test_a_source_of_a_mix_may_have_no_answers(tmp_path: Path) -> None:
    rows = [row | {"answers": []} for row in articles_of("B")]
    train = mix_of(tmp_path, a=articles_of("A"), b=rows)
    pull_sources(train)
    assert load_split(train).unanswerable.num_rows == 4


def test_two_sources_of_a_mix_have_two_names(tmp_path: Path) -> None:
    train = TrainParams(mix={"path:a/pairs.json": 1.0, "path:b/pairs.json.xz": 1.0}, path=tmp_path)
    for function in (pull_sources, installed_sources):
        with pytest.raises(ConfigError, match=r"a/pairs\.json and path:b/pairs\.json\.xz would both be pairs\.json"):
            function(train)
    with pytest.raises(ConfigError, match=r"train\.mix: 'ftp:x' is not of the form path:<file>"):
        pull_sources(TrainParams(mix={"ftp:x": 1.0}, path=tmp_path))
