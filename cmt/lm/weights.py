"""The base LM on disk: pulled from its source once, checked, and installed for all later commands.

`<path>/<name>-<hash of source>/` holds safetensors, configuration, tokenizer, and `lm.json`: the source, the SHA-256 of
the fetched weights, the digest of the tensors, and file sizes, by which a truncated file is noticed. A pull works in
`<path>/.partial-…` and moves the finished folder into place.
"""

import contextlib
import errno
import json
import logging
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import NotRequired, TypedDict

from filelock import FileLock, Timeout
from safetensors import SafetensorError

from cmt.common.digests import sha256_file
from cmt.common.storage import flush_to_disk
from cmt.errors import ModelError
from cmt.lm.convert_gguf import OnProgress, convert, quiet_transformers
from cmt.lm.download import FILES, digest_of, fetch, folder_name

RECORD = "lm.json"

log = logging.getLogger(__name__)


class _Record(TypedDict):
    """Content of `lm.json`."""

    source: str
    sha256: str
    digest: str
    files: dict[str, str]
    digests: NotRequired[dict[str, str]]
    """SHA-256 of each file; version 0.1.0 did not record them."""


def pull(*, source: str, sha256: str | None = None, path: Path, on_progress: OnProgress | None = None) -> Path:
    """Fetch, check and convert the base LM unless it is installed; returns its folder below `path`.

    `sha256` is that of the fetched weights (`download.digest_of`). Files of a `path:` folder are linked, not copied.
    Raises ConfigError if `source` is malformed, ModelError if it cannot be fetched, read or written, or has another
    digest.
    """
    folder = path / folder_name(source)
    partial = path / f".partial-{folder.name}"
    with _explain_disk_errors(path):
        if _is_current(folder, source, sha256) and not partial.exists():
            return folder
        with _pull_lock(path):
            if not _is_current(folder, source, sha256):  # another process may have pulled it meanwhile
                _install(source, sha256, folder, partial, on_progress)
            shutil.rmtree(partial, ignore_errors=True)
    return folder


def installed(*, source: str, path: Path) -> Path:
    """Folder of the installed base LM.

    Raises ModelError if it was not pulled, or if a file has another size than it had then.
    """
    folder = path / folder_name(source)
    if problem := _problem(folder):
        raise ModelError(f"the base LM {source} {problem}: run `cmt model pull`")
    return folder


def verify(*, source: str, path: Path) -> Path:
    """Like `installed`, but reads every file; also raises ModelError if one has changed."""
    folder = installed(source=source, path=path)
    record = _record(folder)
    digests = record.get("digests", {})  # the files beside the weights, such as the tokenizer, are only in these
    changed = [name for name, digest in digests.items() if sha256_file(folder / name) != digest]
    if changed or _tensors_digest(folder) != record["digest"]:
        names = ", ".join(changed) or "weights"
        raise ModelError(f"the {names} in {folder} are not those that were pulled: remove it and run `cmt model pull`")
    return folder


def recorded_digest(folder: Path) -> str:
    """Digest of the weights in their stored type, as recorded when `folder` was installed."""
    return _record(folder)["digest"]


def _is_current(folder: Path, source: str, sha256: str | None) -> bool:
    """Whether `folder` is undamaged, has the digest `sha256` if one is given, and a local GGUF file has not changed."""
    if _problem(folder):
        return False
    recorded = _record(folder)["sha256"]
    file = Path(source.removeprefix("path:"))
    if source.startswith("path:") and file.is_file() and digest_of(file) != recorded:
        return False
    return sha256 is None or sha256.lower() == recorded


def _problem(folder: Path) -> str | None:
    """What is wrong with an installed folder, judging by the file sizes; None if nothing is."""
    if not folder.is_dir():
        return f"is not in {folder.parent}"
    try:
        changed = [name for name, stamp in _record(folder)["files"].items() if _stamp(folder / name) != stamp]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return f"has no readable {RECORD} in {folder}"
    return f"is damaged: {', '.join(changed)} in {folder} changed since it was pulled" if changed else None


def _record(folder: Path) -> _Record:
    record: _Record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
    return record


def _stamp(file: Path) -> str:
    """Size of a file; of a linked one also its modification time, since other programs may write it."""
    if not file.is_file():
        return "missing"
    status = file.stat()
    return f"{status.st_size} bytes" + (f", written {status.st_mtime_ns} ns" if file.is_symlink() else "")


def _install(source: str, sha256: str | None, folder: Path, partial: Path, on_progress: OnProgress | None) -> None:
    # 1. fetch
    partial.mkdir(exist_ok=True)
    try:
        fetched = fetch(source=source, partial=partial, on_progress=on_progress)
    except ModelError:
        with contextlib.suppress(OSError):  # it stays if it holds something that the next pull can use
            partial.rmdir()
        raise
    # 2. check the digest
    actual = digest_of(fetched)
    if sha256 and actual != sha256.lower():
        if downloaded := fetched.is_relative_to(partial):
            shutil.rmtree(partial)
        raise ModelError(
            f"{source} has the sha256 {actual}, but lm.sha256 is {sha256}: "
            f"{'the download was removed' if downloaded else 'it is not used'}. Correct lm.sha256, or find out who "
            f"changed the file"
        )
    # 3. convert, and record what an undamaged folder looks like
    ready = _prepare(fetched, partial, on_progress)
    stamps = {file.name: _stamp(file) for file in sorted(ready.iterdir())}
    record: _Record = {
        "source": source,
        "sha256": actual,
        "digest": _tensors_digest(ready),
        "files": stamps,
        "digests": {name: sha256_file(ready / name) for name in stamps},
    }
    (ready / RECORD).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    _sync(ready)
    # 4. move into place, instead of a damaged folder or one of another digest
    if folder.exists():
        shutil.rmtree(partial / "replaced", ignore_errors=True)
        folder.rename(partial / "replaced")
    ready.rename(folder)


def _prepare(fetched: Path, partial: Path, on_progress: OnProgress | None) -> Path:
    """A folder below `partial` that transformers loads: the downloaded one, a conversion, or links to the files."""
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
    """Digest of the weights in their stored type. Raises ModelError if transformers cannot load them."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from cmt.lm.model import weights_digest

    try:
        options = {"local_files_only": True, "trust_remote_code": False}
        with quiet_transformers():
            AutoTokenizer.from_pretrained(folder, **options)
            model = AutoModelForCausalLM.from_pretrained(folder, dtype="auto", use_safetensors=True, **options)
    except Exception as error:  # transformers raises many kinds for a damaged or foreign folder
        raise ModelError(f"{folder} is not a decoder-only LM that transformers can load: {error}") from error
    return weights_digest(model)


def _sync(folder: Path) -> None:
    """Make the files of `folder` readable by other users and flush them to the disk."""
    for file in folder.iterdir():
        if not file.is_symlink():
            file.chmod(0o644)  # safetensors writes 0600
            flush_to_disk(file)


@contextlib.contextmanager
def _pull_lock(path: Path) -> Iterator[None]:
    """Allow one pull at a time below `path`, which is created."""
    path.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        log.warning("another process is pulling into %s: waiting for it", path)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


@contextlib.contextmanager
def _explain_disk_errors(path: Path) -> Iterator[None]:
    """Raise ModelError, with what to do, in place of errors of the disk."""
    try:
        yield
    except (OSError, SafetensorError) as error:
        number = getattr(error, "errno", None)
        if number in (errno.ENOSPC, errno.EDQUOT) or "No space left" in str(error):
            hint = "the disk is full: free space for about twice the model and run `cmt model pull` again"
        elif number in (errno.EROFS, errno.EACCES, errno.EPERM):
            hint = "the folder is not writable: set lm.path to one that is"
        else:
            hint = "check lm.path and run `cmt model pull` again"
        raise ModelError(f"the base LM could not be written to {path} ({error}): {hint}") from error
