"""What pins a state of the project: the git commit, and the bank's small file."""

import json
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from cmt.bank.bank import Bank
from cmt.bank.schema import bank_schema
from cmt.cli.dvc_stages import pin
from cmt.common.provenance import git_commit
from cmt.common.storage import write_json

SCHEMA = bank_schema(key_dim=2, codes="fp16", dim=2, compressor="c" * 64)


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false"]
    command = ["git", "-C", str(folder), *identity, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """One commit of one file."""
    git(tmp_path, "init", "-q")
    (tmp_path / "file").write_text("a")
    git(tmp_path, "add", "file")
    git(tmp_path, "commit", "-qm", "first")
    return tmp_path


def test_the_commit_is_that_of_the_folder(repository: Path) -> None:
    (repository / "untracked").write_text("b")
    (repository / "below").mkdir()
    assert git_commit(repository) == git_commit(repository / "below") == git(repository, "rev-parse", "HEAD")


def test_changed_files_are_told_from_a_clean_commit(repository: Path) -> None:
    (repository / "file").write_text("b")
    assert git_commit(repository) == git(repository, "rev-parse", "HEAD") + "+"


def test_outside_git_or_without_git_there_is_no_commit(
    repository: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert git_commit(tmp_path_factory.mktemp("outside")) == ""
    monkeypatch.setenv("PATH", "")
    assert git_commit(repository) == ""


def rows(*numbers: int) -> pa.Table:
    """One document a number."""
    made = [
        {
            "memory_id": f"d{number}#0",
            "doc_id": f"d{number}",
            "slice_id": "2031-01/0001",
            "published_at": datetime(2031, 1, number, tzinfo=UTC),
            "sha256": f"{number:064}",
            "compressor": "c" * 64,
            "key": [1.0, float(number)],
            "memory": np.zeros(2, "<f2").tobytes(),
            "n_vectors": 1,
            "n_tokens": 3,
            "text": f"text {number}",
        }
        for number in numbers
    ]
    return pa.Table.from_pylist(made, schema=SCHEMA)


def pinned(folder: Path, *batches: pa.Table) -> bytes:
    bank = Bank.open(uri=str(folder / "bank"), schema=SCHEMA)
    for batch in batches:
        bank.upsert(batch)
    pin(bank, folder / "bank.json")
    return (folder / "bank.json").read_bytes()


def test_equal_banks_have_equal_pins_however_they_were_written(tmp_path: Path) -> None:
    once = pinned(tmp_path / "once", rows(1, 2, 3))
    assert pinned(tmp_path / "by-and-by", rows(3), rows(2), rows(1)) == once
    assert pinned(tmp_path / "other", rows(1, 2, 4)) != once
    assert json.loads(once).keys() == {"table", "rows", "digest"}
    assert json.loads(once)["rows"] == 3


def test_json_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "new" / "scores.json"
    write_json(path, {"f1": 1.0})
    before = path.read_bytes()
    with pytest.raises(TypeError):
        write_json(path, {"f1": object()})
    assert (path.read_bytes(), list(path.parent.iterdir())) == (before, [path])
