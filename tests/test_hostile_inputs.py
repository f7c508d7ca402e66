"""Each boundary – params.yaml, LM, compressor, source file, project folder – refuses hostile input
with one line.
"""

import json
import os
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from cmt.cli._new_project import write_project
from cmt.config import load_params
from cmt.errors import CmtError
from cmt.lm._loading import check_folder
from cmt.modeling.checkpoint import CONFIG, WEIGHTS, Checkpoint, load_checkpoint, save_checkpoint
from cmt.stream.readers.detection import records
from tests.helpers.models import make_config
from tests.helpers.tiny import write_folder

LONGEST_SECONDS = 10


def refusal(act: Callable[[], Any]) -> str:
    """The message with which `act` refuses its input in time: a short line."""
    began = time.monotonic()
    with pytest.raises(CmtError) as refused:
        act()
    assert time.monotonic() - began < LONGEST_SECONDS
    message = str(refused.value)
    assert len(message) < 3_000
    return message


PARAMS: dict[str, tuple[str | bytes, str]] = {
    "brackets": ("seed: " + "[" * 5_000, "is not valid YAML"),
    "closed brackets": ("seed: " + "[" * 5_000 + "]" * 5_000, "nested too deeply"),
    "braces": ("{a: " * 5_000, "is not valid YAML"),
    "digits": ("seed: " + "9" * 5_000, "4300 digits"),
    "number": ("seed: " + "9" * 400, "seed: Input should be less than 4294967296"),
    "positive": (
        "answering: {batch_size: 99999999999999999999}",
        "answering.batch_size: Input should be less than",
    ),
    "infinite": ("drift: {false_alarm_rate: .inf}", "drift.false_alarm_rate: Input should be"),
    "not a number": (
        "research: {objective: {alpha: .nan}}",
        "research.objective.alpha: Input should be",
    ),
    "doubled key": (
        "seed: 1\nlm: {}\nseed: 2\n",
        "the key 'seed' is in line 1 and again in line 3",
    ),
    "doubled inner key": (
        "gate:\n  min_f1: 1\n  min_f1: 2\n",
        "the key 'min_f1' is in line 2 and again in line 3",
    ),
    "alias": ("a: &a [1]\nb: [*a, *a]\n", "an alias"),
    "tag": ("seed: !!python/object/apply:os.system [true]", "could not determine a constructor"),
    "nul": ('bank: {uri: "a\\0b"}', "NUL"),
    "half a pair": ('bank: {uri: "\\ud800"}', "is not valid YAML"),
    "date": ("seed: 2031-13-45", "is not valid YAML"),
    "bytes": (b"seed: \xff\xfe", "is not valid YAML"),
    "large": ("#" * 300_000, "more than 200,000 bytes"),
    "list": ("- 1\n- 2\n", "holds a list"),
    "numbers as keys": ("1: 2\n", "Keys should be strings"),
    "thousand keys": ("".join(f"k{number}: 1\n" for number in range(1_000)), "and 990 more"),
    "long key": (f"{'k' * 1_000}: 1\n", "Extra inputs"),
}


@pytest.mark.parametrize("name", PARAMS)
def test_hostile_params_are_refused(tmp_path: Path, name: str) -> None:
    content, expected = PARAMS[name]
    path = tmp_path / "params.yaml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    assert expected in refusal(lambda: load_params(path))


def test_params_that_are_no_file_are_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/zero"), tmp_path, tmp_path / "missing"):
        refusal(lambda path=path: load_params(path))  # type: ignore[misc]


LMS: list[dict[str, Any]] = [
    {"num_hidden_layers": 10**7},
    {"num_hidden_layers": -(10**7)},
    {"hidden_size": 10**12},
    {"vocab_size": 1e300},
    {"rms_norm_eps": 1e12},
    {"x" * 10_000: 1},
]


@pytest.mark.parametrize("values", LMS, ids=range(len(LMS)))
def test_a_hostile_lm_is_refused_before_it_is_built(tmp_path: Path, values: dict[str, Any]) -> None:
    folder = write_folder(tmp_path / "lm")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | values))
    assert "is refused" in refusal(lambda: check_folder(folder))


def nan(folder: Path, value: float) -> None:
    save_checkpoint(
        folder,
        Checkpoint("digest", make_config(), {"a": torch.ones(3), "b": torch.tensor([1.0, value])}),
    )


def rewrite(folder: Path, name: str, content: str) -> None:
    save_checkpoint(folder, Checkpoint("digest", make_config(), {"a": torch.ones(3)}))
    (folder / name).write_text(content)


COMPRESSORS: dict[str, tuple[Callable[[Path], None], str]] = {
    "nan": (lambda folder: nan(folder, float("nan")), "the weight b holds NaN or infinite numbers"),
    "infinite": (
        lambda folder: nan(folder, float("-inf")),
        "the weight b holds NaN or infinite numbers",
    ),
    "brackets": (lambda folder: rewrite(folder, CONFIG, "[" * 5_000), "is damaged"),
    "list": (lambda folder: rewrite(folder, CONFIG, "[1]"), "is damaged"),
    "design": (
        lambda folder: rewrite(folder, CONFIG, '{"lm_digest": "a", "design": {"objective": 5}}'),
        "is damaged",
    ),
    "weights": (
        lambda folder: rewrite(folder, WEIGHTS, "\x08" + "\0" * 7 + '{"a":1}'),
        "is damaged",
    ),
    "changed": (lambda folder: rewrite(folder, WEIGHTS, ""), "is damaged"),
}


@pytest.mark.parametrize("name", COMPRESSORS)
def test_a_hostile_compressor_is_refused_when_it_is_loaded(tmp_path: Path, name: str) -> None:
    write, expected = COMPRESSORS[name]
    write(tmp_path)
    assert expected in refusal(lambda: load_checkpoint(tmp_path))


SOURCES: dict[str, bytes] = {
    "brackets.json": b"[" * 100_000,
    "digits.json": b'[{"text": ' + b"9" * 5_000 + b"}]",
    "columns.csv": b",".join(b"c%d" % number for number in range(200_000))
    + b"\n"
    + b"1," * 200_000,
    "tags.html": b"<html><body>" + b"<div>" * 20_000 + b"text",
    "parts.eml": b"From: a\nTo: b\nContent-Type: multipart/mixed; boundary=x\n\n"
    + b"--x\n" * 50_000,
    "a.parquet": b"PAR1" + b"\xff" * 100 + b"PAR1",
    "a.arrow": b"ARROW1\0\0" + b"\xff\xff\xff\xff" + b"\x7f" * 100,
    "a.zip": b"PK\3\4" + b"\xff" * 100,
    "a.gz": b"\x1f\x8b\x08" + b"\xff" * 100,
    "a.pdf": b"%PDF-1.7\n" + b"1 0 obj<<" * 5_000,
    "front.md": b"---\na: " + b"[" * 5_000 + b"\n---\ntext\n",
    "date.jsonl": b'{"text": "a", "published_at": 1' + b"0" * 400 + b"}\n",
}


@pytest.mark.parametrize("name", SOURCES)
def test_a_hostile_source_gives_records_or_an_error_in_time(tmp_path: Path, name: str) -> None:
    path, began = tmp_path / name, time.monotonic()
    path.write_bytes(SOURCES[name])
    assert list(records(path))
    assert time.monotonic() - began < LONGEST_SECONDS


def test_a_socket_and_a_device_are_no_source(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # the name of a socket is short
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("socket")
        for path in (Path("socket"), Path("/dev/zero"), Path("/dev/null")):
            (record,) = records(path)
            assert "a pipe, a socket or a device" in str(record.error)


def test_a_project_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    (tmp_path / "file").write_text("mine")
    before = sorted(tmp_path.rglob("*"))
    for name in (
        "pipe",
        "loop",
        "loop/project",
        "dangling",
        "file",
        "file/project",
        "n" * 300,
        "/proc/project",
    ):
        with pytest.raises((CmtError, OSError)):
            write_project(tmp_path / name)
        assert sorted(tmp_path.rglob("*")) == before
