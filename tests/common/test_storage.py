import errno
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cmt.common.storage import (
    atomic_path,
    read_checked_json,
    read_checked_table,
    read_json,
    relative,
    replace_file,
    write_checked_json,
    write_checked_table,
    write_json,
    write_new_folder,
)
from tests.helpers.damage import flip


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_an_error_while_writing_keeps_the_old_file_and_removes_the_temporary_one(
    tmp_path: Path, error: BaseException
) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    with pytest.raises(type(error)), atomic_path(path) as temporary:
        temporary.write_text("half of the n")
        assert temporary.parent == tmp_path
        raise error
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_file_and_folder_are_flushed_around_the_replacement(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[str] = []
    monkeypatch.setattr(
        "cmt.common.storage.flush_to_disk", lambda path: events.append(f"flush {path.name}")
    )
    monkeypatch.setattr(
        "os.replace", lambda source, target: events.append(f"replace {target.name}")
    )
    replace_file(tmp_path / "temporary", tmp_path / "file")
    assert events == ["flush temporary", "replace file", f"flush {tmp_path.name}"]


@dataclass(frozen=True)
class Note:
    """A record for these tests."""

    name: str
    sizes: dict[str, tuple[int, int]]


def test_json_is_read_as_the_type_that_was_written(tmp_path: Path) -> None:
    note = Note("lamp", {"a": (1, 2)})
    write_json(tmp_path / "note.json", asdict(note))
    assert read_json(tmp_path / "note.json", Note) == note
    with pytest.raises(FileNotFoundError):
        read_json(tmp_path / "missing.json", list[str])


@pytest.mark.parametrize(
    ("content", "expected", "reason"),
    [
        (b"5", list[str], "Input should be a valid array"),
        (b'["a", 5]', list[str], "1: Input should be a valid string"),
        (b'["a", "b"', list[str], "Invalid JSON: EOF while parsing"),
        (b"", list[str], "Invalid JSON: EOF while parsing"),
        (b"\xff\xfe", dict[str, Any], "Invalid JSON"),
        (b"[" * 100_000, dict[str, Any], "Invalid JSON: recursion limit"),
        (b"null", dict[str, Any], "Input should be an object"),
        (b'{"name": "lamp"}', Note, "sizes: Field required"),
        (b'{"name": "lamp", "sizes": {"a": [1]}}', Note, r"sizes\.a\.1: Field required"),
        (b'{"name": 5, "sizes": {}}', Note, "name: Input should be a valid string"),
    ],
)
def test_damaged_json_is_an_error_of_one_line(
    tmp_path: Path, content: bytes, expected: Any, reason: str
) -> None:
    (tmp_path / "state.json").write_bytes(content)
    with pytest.raises(ValueError, match=f"^{reason}") as caught:
        read_json(tmp_path / "state.json", expected)
    assert "\n" not in str(caught.value)


def test_checked_json_is_read_back_and_a_change_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "content.json"
    write_checked_json(path, {"names": ["a", "b"], "count": 2})
    assert read_checked_json(path, dict[str, Any]) == {"names": ["a", "b"], "count": 2}
    for altered in (
        path.read_text().replace('"b"', '"c"'),
        path.read_text().replace("checksum", "chucksum"),
    ):
        path.write_text(altered)
        with pytest.raises(ValueError, match="does not match its checksum"):
            read_checked_json(path, dict[str, Any])


def flip_a_bit(path: Path) -> None:
    flip(path, 30)  # in the first column


def change_a_value(path: Path) -> None:
    pq.write_table(pq.read_table(path).set_column(1, "n", pa.array([1, 3])), path)


@pytest.mark.parametrize("damage", [flip_a_bit, change_a_value, lambda path: path.write_bytes(b"")])
def test_a_damaged_table_is_none_with_a_warning(
    tmp_path: Path, damage: Callable[[Path], object], caplog: pytest.LogCaptureFixture
) -> None:
    path, rows = tmp_path / "rows.parquet", pa.table({"doc_id": ["a", "b"], "n": [1, 2]})

    def read() -> pa.Table | None:
        return read_checked_table(
            path, lambda table: repr(table.to_pylist()), remedy="write it again"
        )

    assert read() is None
    write_checked_table(path, rows, lambda table: repr(table.to_pylist()))
    assert rows.equals(read()) and not caplog.records
    damage(path)
    assert read() is None
    assert "is damaged" in caplog.text and "write it again" in caplog.text


def test_places_below_the_project_are_relative(tmp_path: Path) -> None:
    assert relative(tmp_path / "data/bank", tmp_path) == "data/bank"
    assert relative("s3://bucket/bank", tmp_path) == "s3://bucket/bank"


@pytest.mark.parametrize("present", [False, True])
def test_a_folder_of_files_is_written_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, present: bool
) -> None:
    """A full disk at every change in turn leaves what was there, and the next try succeeds."""
    folder, contents = tmp_path / "new/project", {"a": "1", "b": "2"}
    if present:
        folder.mkdir(parents=True)
    before = sorted(tmp_path.rglob("*"))
    changes = ("mkdir", "write_text", "rename")
    for failing in range(20):
        left = [failing]

        def full_disk(
            original: Callable[..., object], left: list[int] = left
        ) -> Callable[..., object]:
            def change(path: Path, *arguments: object, **named: object) -> object:
                left[0] -= 1
                if left[0] < 0:
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
                return original(path, *arguments, **named)

            return change

        with monkeypatch.context() as patch:
            for name in changes:
                patch.setattr(Path, name, full_disk(getattr(Path, name)))
            try:
                write_new_folder(folder, contents)
            except OSError as error:
                assert error.errno == errno.ENOSPC
                assert sorted(tmp_path.rglob("*")) == before
                continue
        break
    assert failing > 3
    assert {path.name: path.read_text() for path in folder.iterdir()} == contents


@pytest.mark.parametrize("present", [False, True])
def test_the_files_of_a_killed_write_are_replaced(tmp_path: Path, present: bool) -> None:
    folder = tmp_path / "project"
    killed = folder / ".unfinished" if present else tmp_path / ".project.unfinished"
    killed.mkdir(parents=True)
    (killed / "a").write_text("half")
    if present:
        (folder / "b").write_text("2")
    write_new_folder(folder, {"a": "1", "b": "2"})
    assert {path.name: path.read_text() for path in folder.iterdir()} == {"a": "1", "b": "2"}
    assert list(tmp_path.iterdir()) == [folder]


def test_a_folder_with_files_is_not_taken(tmp_path: Path) -> None:
    (tmp_path / "own").write_text("mine")
    for folder in (tmp_path, tmp_path / "own"):
        with pytest.raises(FileExistsError):
            write_new_folder(folder, {"a": "1"})
    assert [path.read_text() for path in tmp_path.iterdir()] == ["mine"]
