"""Training data from a file and from a hub on this machine."""

import http.server
import json
import lzma
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cmt.errors import ConfigError, StreamError
from cmt.training.data import installed_training_data, load_training_data, pull_training_data
from tests.helpers.hub import Hub

ROWS = [
    {"id": "1", "title": "A_town", "context": "Moss leads it.", "question": "Who leads?", "answers": ["Moss", "Moss"]},
    {"id": "2", "title": "B", "context": "It is blue.", "question": "What colour?", "answers": ["blue"]},
    {"id": "3", "title": "A_town", "context": "Moss leads it.", "question": "What does Moss do?", "answers": ["leads"]},
]


def squad(rows: list[dict[str, Any]]) -> bytes:
    """`rows` in the official layout, a paragraph each."""
    data = [
        {
            "title": row["title"],
            "paragraphs": [
                {
                    "context": row["context"],
                    "qas": [{key: row[key] for key in ("id", "question")} | {"answers": [{"text": row["answers"][0]}]}],
                }
            ],
        }
        for row in rows
    ]
    return json.dumps({"data": data}).encode()


class DataHub(Hub):
    """The hub has data sets beside models, under addresses of their own."""

    def do_GET(self) -> None:
        self.path = self.path.replace("/api/datasets/", "/api/models/").replace("/datasets/", "/")
        super().do_GET()

    do_HEAD = do_GET


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Folder behind `hub:org/tiny@main`."""
    folder = tmp_path / "repository"
    (folder / "plain_text").mkdir(parents=True)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(DataHub, folder=folder))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", address)
    monkeypatch.setattr(
        "huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", address + "/{repo_id}/resolve/{revision}/{filename}"
    )
    yield folder
    server.shutdown()
    server.server_close()


def test_a_file_is_unpacked_checked_and_read_once_each(tmp_path: Path) -> None:
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


def test_pulling_again_takes_what_is_there_now(tmp_path: Path) -> None:
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
def test_a_bad_file_leaves_what_was_pulled(tmp_path: Path, content: bytes, reason: str) -> None:
    source = tmp_path / "pairs.json"
    source.write_bytes(squad(ROWS))
    file = pull_training_data(source=f"path:{source}", path=tmp_path / "train")
    source.write_bytes(content)
    with pytest.raises(StreamError, match=reason):
        pull_training_data(source=f"path:{source}", path=tmp_path / "train")
    assert load_training_data(file)[1].num_rows == 3


def test_questions_without_answers_are_nothing_to_train_on(tmp_path: Path) -> None:
    source = tmp_path / "pairs.json"
    source.write_bytes(squad([ROWS[0] | {"answers": [""]}]))
    with pytest.raises(StreamError, match="no question with an answer"):
        pull_training_data(source=f"path:{source}", path=tmp_path / "train")


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "pairs.json").write_bytes(squad(ROWS))
    with pytest.raises(StreamError, match=r"cannot write .*pairs\.json"):
        pull_training_data(source=f"path:{tmp_path / 'pairs.json'}", path=tmp_path / "pairs.json/train")


def test_the_hubs_table_becomes_the_same_pairs(hub: Path, tmp_path: Path) -> None:
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


def test_a_hub_without_the_table_is_named(hub: Path, tmp_path: Path) -> None:
    (hub / "README.md").write_text("nothing here")
    with pytest.raises(StreamError, match="no train split in Parquet"):
        pull_training_data(source="hub:org/tiny@main", path=tmp_path)
    pq.write_table(pa.table({"x": [1]}), hub / "plain_text/train.parquet")
    with pytest.raises(StreamError, match="has not SQuAD's columns id, title, context, question, answers"):
        pull_training_data(source="hub:org/tiny@main", path=tmp_path)


def test_without_a_hub_the_way_around_it_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(StreamError, match=r"rajpurkar/squad could not be fetched.*train\.source to path:<file>"):
        pull_training_data(source="hub:rajpurkar/squad", path=tmp_path)


@pytest.mark.parametrize("source", ["hub:squad", "path:", "ftp:x", "squad", "hub:a/b@", "hub:../../x/y"])
def test_a_malformed_source_is_refused(source: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"train\.source"):
        pull_training_data(source=source, path=tmp_path)


def test_what_was_not_pulled_is_asked_for(tmp_path: Path) -> None:
    with pytest.raises(StreamError, match="run `cmt data pull`"):
        installed_training_data(source="hub:rajpurkar/squad", path=tmp_path)
