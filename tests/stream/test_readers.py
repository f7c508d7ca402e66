from pathlib import Path

import pytest

from cmt.errors import ConfigError, StreamError
from cmt.stream.readers import infer_format, read
from tests.helpers.rows import make_document, make_question, write_lines


def test_an_unknown_format_is_refused_and_the_known_ones_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="jsonl, parquet, squad, streamingqa, archivalqa"):
        read(tmp_path, "xml")


@pytest.mark.parametrize("file_format", ["jsonl", "parquet", "squad", "streamingqa", "archivalqa"])
def test_a_missing_or_empty_source_is_refused_with_its_name(tmp_path: Path, file_format: str) -> None:
    with pytest.raises(StreamError, match="none.jsonl not found"):
        read(tmp_path / "none.jsonl", file_format)
    with pytest.raises(StreamError, match=r"has no .*documents|has no \*\."):
        read(tmp_path, file_format)
    (tmp_path / "rows.csv").touch()
    with pytest.raises(StreamError, match=r"rows\.csv is empty"):
        read(tmp_path / "rows.csv", file_format)


def test_an_empty_file_is_accepted_beside_one_with_rows(tmp_path: Path) -> None:
    write_lines(tmp_path / "documents.jsonl", [make_document()])
    (tmp_path / "questions.jsonl").touch()
    assert len(read(tmp_path, "jsonl").documents) == 1
    (tmp_path / "documents.jsonl").write_text("")
    with pytest.raises(StreamError, match=r"documents\.jsonl is empty"):
        read(tmp_path, "jsonl")


def test_of_a_folder_only_the_two_files_of_the_format_are_read(tmp_path: Path) -> None:
    write_lines(tmp_path / "documents.jsonl", [make_document()])
    write_lines(tmp_path / "questions.jsonl", [make_question()])
    write_lines(tmp_path / "notes.jsonl", ["not read"])
    raw = read(tmp_path, "jsonl")
    assert [row.file for row in (*raw.documents, *raw.questions)] == ["documents.jsonl", "questions.jsonl"]
    assert not raw.rejected


def test_the_digest_depends_on_the_content_alone(tmp_path: Path) -> None:
    first = read(write_lines(tmp_path / "a.jsonl", [make_document()]), "jsonl").digest
    assert read(write_lines(tmp_path / "b.jsonl", [make_document()]), "jsonl").digest == first
    assert read(write_lines(tmp_path / "b.jsonl", [make_document("bus")]), "jsonl").digest != first


@pytest.mark.parametrize(
    ("name", "file_format"),
    [("dev-v1.1.json", "squad"), ("a.json.xz", "squad"), ("news.jsonl.gz", "jsonl"), ("rows.parquet", "parquet")],
)
def test_the_format_is_inferred_from_the_suffix_of_a_file_or_in_a_folder(
    tmp_path: Path, name: str, file_format: str
) -> None:
    assert infer_format(tmp_path / name) == file_format
    (tmp_path / "README.md").touch()
    (tmp_path / name).touch()
    assert infer_format(tmp_path) == file_format


def test_a_suffix_that_tells_no_format_asks_for_the_option(tmp_path: Path) -> None:
    for path in (tmp_path / "rows.csv", tmp_path):
        with pytest.raises(ConfigError, match="not clear from its name: name one with --format, jsonl, parquet"):
            infer_format(path)
