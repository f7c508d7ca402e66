"""Training data from a file and from a local hub."""

import lzma
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cmt.config import TrainParams
from cmt.errors import ConfigError, StreamError
from cmt.training.sources import installed_sources, pull_sources, read_pairs
from tests.helpers.hub import Hub, serve_hub
from tests.helpers.training import SQUAD_ROWS, squad


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


def pull(source: str, folder: Path) -> Path:
    """The file of the only source."""
    train = TrainParams(source=source, path=folder)
    pull_sources(train)
    return installed_sources(train)[source]


def test_a_file_is_decompressed_validated_and_read_without_duplicates(tmp_path: Path) -> None:
    source = tmp_path / "train-v1.1.json.xz"
    train = TrainParams(source=f"path:{source}", path=tmp_path / "train")
    with pytest.raises(StreamError, match="run `cmt data pull`"):
        installed_sources(train)
    source.write_bytes(lzma.compress(squad(SQUAD_ROWS)))
    assert pull_sources(train) == {train.source: (2, 3)}
    assert installed_sources(train) == {train.source: tmp_path / "train/train-v1.1.json"}
    documents, questions = read_pairs(tmp_path / "train/train-v1.1.json")
    assert documents["title"].to_pylist() == ["A town", "B"]
    assert questions["question"].to_pylist() == ["Who leads?", "What colour?", "What does Moss do?"]
    assert len(set(questions["doc_id"].to_pylist())) == 2
    source.write_bytes(lzma.compress(squad(SQUAD_ROWS[:2])))  # pulling again replaces the file
    assert read_pairs(pull(train.source, train.path))[1].num_rows == 2


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "is empty"),
        (b"[1]", "not a JSON object but int"),
        (squad([]), "no text in its columns"),
        (b"\xff{", "not valid JSON"),
        (squad([SQUAD_ROWS[0] | {"answers": [""]}]), "no question with an answer"),
    ],
)
def test_a_bad_file_leaves_the_pulled_one_unchanged(
    tmp_path: Path, content: bytes, reason: str
) -> None:
    source = tmp_path / "pairs.json"
    source.write_bytes(squad(SQUAD_ROWS))
    file = pull(f"path:{source}", tmp_path / "train")
    source.write_bytes(content)
    with pytest.raises(StreamError, match=reason):
        pull(f"path:{source}", tmp_path / "train")
    assert read_pairs(file)[1].num_rows == 3


def test_the_error_names_a_file_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "pairs.json").write_bytes(squad(SQUAD_ROWS))
    with pytest.raises(StreamError, match=r"cannot write .*pairs\.json"):
        pull(f"path:{tmp_path / 'pairs.json'}", tmp_path / "pairs.json/train")


def test_a_table_on_the_hub_gives_the_same_pairs(hub: Path, tmp_path: Path) -> None:
    rows = [
        row | {"answers": {"text": row["answers"], "answer_start": [0] * len(row["answers"])}}
        for row in SQUAD_ROWS
    ]
    pq.write_table(pa.Table.from_pylist(rows[:2]), hub / "plain_text/train-00000-of-00002.parquet")
    pq.write_table(pa.Table.from_pylist(rows[2:]), hub / "plain_text/train-00001-of-00002.parquet")
    pq.write_table(pa.table({"x": [1]}), hub / "plain_text/validation-00000-of-00001.parquet")
    file = pull("hub:org/tiny@main", tmp_path / "train")
    assert file == tmp_path / "train/org--tiny--main.json"
    documents, questions = read_pairs(file)
    (tmp_path / "same.json").write_bytes(squad(SQUAD_ROWS))
    same_documents, same_questions = read_pairs(tmp_path / "same.json")
    assert documents.equals(same_documents)
    assert questions.sort_by("question_id").equals(same_questions)


def test_the_error_names_what_the_hub_lacks(hub: Path, tmp_path: Path) -> None:
    (hub / "README.md").write_text("nothing here")
    with pytest.raises(StreamError, match="no train split in Parquet"):
        pull("hub:org/tiny@main", tmp_path)
    pq.write_table(pa.table({"x": [1]}), hub / "plain_text/train.parquet")
    with pytest.raises(
        StreamError, match="does not have SQuAD's columns id, title, context, question, answers"
    ):
        pull("hub:org/tiny@main", tmp_path)


def test_without_network_the_error_names_the_alternative(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(
        StreamError, match=r"rajpurkar/squad could not be fetched.*train\.source to path:<file>"
    ):
        pull("hub:rajpurkar/squad", tmp_path)


@pytest.mark.parametrize(
    "source", ["hub:squad", "path:", "ftp:x", "squad", "hub:a/b@", "hub:../../x/y"]
)
def test_a_malformed_source_is_refused(source: str, tmp_path: Path) -> None:
    for train in (
        TrainParams(source=source, path=tmp_path),
        TrainParams(mix={source: 1.0}, path=tmp_path),
    ):
        with pytest.raises(
            ConfigError, match=rf"train\.source or train\.mix: '{source}' is not of the form path:"
        ):
            pull_sources(train)


def test_two_sources_of_a_mix_have_two_names(tmp_path: Path) -> None:
    train = TrainParams(mix={"path:a/pairs.json": 1.0, "path:b/pairs.json.xz": 1.0}, path=tmp_path)
    for function in (pull_sources, installed_sources):
        with pytest.raises(
            ConfigError, match=r"a/pairs\.json and path:b/pairs\.json\.xz would both be pairs\.json"
        ):
            function(train)
