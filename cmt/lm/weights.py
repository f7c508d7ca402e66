"""The base LM on disk: pulled once from its source, checked, and then found by everybody.

`<path>/<name>-<hash of source>/` holds the safetensors, configuration and tokenizer, and `lm.json`: the source, the
sha256 of the fetched weights, the digest of the tensors, and the sizes by which a cut file is noticed. Work goes on in
`<path>/.partial-…` and is moved into place at the end.
"""

import contextlib
import errno
import json
import logging
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from safetensors import SafetensorError

from cmt.errors import ModelError
from cmt.lm.convert_gguf import OnProgress, convert, quiet_transformers
from cmt.lm.download import FILES, digest_of, fetch, folder_name

RECORD = "lm.json"

log = logging.getLogger(__name__)


def pull(*, source: str, sha256: str | None = None, path: Path, on_progress: OnProgress | None = None) -> Path:
    """Fetch, check and convert the base LM unless it is there; the folder to load it from, below `path`.

    `sha256` is that of the fetched weights file (of a folder: of its safetensors in the order of their names).
    A folder named by `path:` stays where it is and is linked to. Raises ConfigError for a malformed source, ModelError
    when it cannot be fetched, read or written, or has another digest.
    """
    folder = path / folder_name(source)
    partial = path / f".partial-{folder.name}"
    with _explained(path):
        if _is_current(folder, source, sha256) and not partial.exists():
            return folder
        with _alone(path):
            if not _is_current(folder, source, sha256):  # another pull may just have finished
                _install(source, sha256, folder, partial, on_progress)
            shutil.rmtree(partial, ignore_errors=True)
    return folder


def installed(*, source: str, path: Path) -> Path:
    """The folder of the base LM. ModelError when it was not pulled or is damaged; only file sizes are looked at."""
    folder = path / folder_name(source)
    if problem := _problem(folder):
        raise ModelError(f"the base LM {source} {problem}: run `cmt model pull`")
    return folder


def verify(*, source: str, path: Path) -> Path:
    """`installed`, after reading every weight and comparing the digest. ModelError when one has changed."""
    folder = installed(source=source, path=path)
    if _tensors_digest(folder) != _record(folder)["digest"]:
        raise ModelError(f"the weights in {folder} are not those that were pulled: remove it and run `cmt model pull`")
    return folder


def _is_current(folder: Path, source: str, sha256: str | None) -> bool:
    if _problem(folder):
        return False
    recorded = _record(folder)["sha256"]
    given = Path(source.removeprefix("path:"))
    if source.startswith("path:") and given.is_file() and digest_of(given) != recorded:
        return False  # the GGUF file was written anew since it was converted
    return sha256 is None or sha256.lower() == recorded


def _problem(folder: Path) -> str | None:
    """What is wrong with an installed folder, as far as the file sizes tell."""
    if not folder.is_dir():
        return f"is not in {folder.parent}"
    try:
        changed = [name for name, stamp in _record(folder)["files"].items() if _stamp(folder / name) != stamp]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return f"has no readable {RECORD} in {folder}"
    return f"is damaged: {', '.join(changed)} in {folder} changed since it was pulled" if changed else None


def _record(folder: Path) -> dict[str, Any]:
    record: dict[str, Any] = json.loads((folder / RECORD).read_text(encoding="utf-8"))
    return record


def _stamp(file: Path) -> str:
    """Size of a file of ours; of a linked one also when it was written, since others may write it."""
    if not file.is_file():
        return "missing"
    about = file.stat()
    return f"{about.st_size} bytes" + (f", written {about.st_mtime_ns} ns" if file.is_symlink() else "")


def _install(source: str, sha256: str | None, folder: Path, partial: Path, on_progress: OnProgress | None) -> None:
    partial.mkdir(exist_ok=True)
    try:
        fetched = fetch(source=source, partial=partial, on_progress=on_progress)
    except ModelError:
        with contextlib.suppress(OSError):  # unless there is something in it to go on from
            partial.rmdir()
        raise
    found = digest_of(fetched)
    if sha256 and found != sha256.lower():
        if ours := fetched.is_relative_to(partial):
            shutil.rmtree(partial)
        raise ModelError(
            f"{source} has the sha256 {found}, and lm.sha256 asks for {sha256}: "
            f"{'it was removed' if ours else 'it is not used'}. Correct lm.sha256, or find out who changed the file"
        )
    ready = _prepare(fetched, partial, on_progress)
    stamps = {file.name: _stamp(file) for file in sorted(ready.iterdir())}
    record = {"source": source, "sha256": found, "digest": _tensors_digest(ready), "files": stamps}
    (ready / RECORD).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    _settle(ready)
    if folder.exists():  # damaged, or of another digest
        shutil.rmtree(partial / "replaced", ignore_errors=True)
        folder.rename(partial / "replaced")
    ready.rename(folder)


def _prepare(fetched: Path, partial: Path, on_progress: OnProgress | None) -> Path:
    """A folder below `partial` that transformers can load."""
    if fetched.is_dir() and fetched.is_relative_to(partial):
        return fetched
    ready = partial / "ready"
    shutil.rmtree(ready, ignore_errors=True)
    if fetched.is_file():
        convert(file=fetched, folder=ready, on_progress=on_progress)
        return ready
    ready.mkdir()
    for pattern in FILES:
        for file in fetched.glob(pattern):
            (ready / file.name).symlink_to(file.resolve())
    return ready


def _tensors_digest(folder: Path) -> str:
    """Digest of the weights as transformers loads them in their stored type; ModelError when it cannot."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from cmt.lm.model import weights_digest

    try:
        where = {"local_files_only": True, "trust_remote_code": False}
        with quiet_transformers():
            AutoTokenizer.from_pretrained(folder, **where)
            model = AutoModelForCausalLM.from_pretrained(folder, dtype="auto", use_safetensors=True, **where)
    except Exception as error:  # transformers raises many kinds for a damaged or foreign folder
        raise ModelError(f"{folder} is no decoder-only LM that transformers can load: {error}") from error
    return weights_digest(model)


def _settle(folder: Path) -> None:
    """Everything in `folder` on the disk and readable by others, before it is moved into place."""
    for file in folder.iterdir():
        if not file.is_symlink():
            file.chmod(0o644)  # safetensors writes 0600
            with file.open("rb") as written:
                os.fsync(written.fileno())


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[None]:
    """One pull at a time below `path`, which is made."""
    path.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        log.warning("another pull is at work in %s: waiting for it", path)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


@contextlib.contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, SafetensorError) as error:
        number = getattr(error, "errno", None)
        if number in (errno.ENOSPC, errno.EDQUOT) or "No space left" in str(error):
            hint = "the disk is full: free some space (about twice the model) and run `cmt model pull` again"
        elif number in (errno.EROFS, errno.EACCES, errno.EPERM):
            hint = "it cannot be written: set lm.path to a folder of your own"
        else:
            hint = "check lm.path and run `cmt model pull` again"
        raise ModelError(f"the base LM could not be put into {path} ({error}): {hint}") from error
