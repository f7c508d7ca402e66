"""The base LM on disk: fetched once, checked, and installed for all later commands.

`<path>/<name>-<hash of lm.source>/` holds safetensors, configuration, tokenizer, and the record
`lm.json`: `lm.source`, the SHA-256 of the fetched weights, the digest of the tensors, and the
SHA-256 of every file (`cmt.lm.integrity`). A pull works in `<path>/.partial-…` and moves the
finished folder into place.
"""

import contextlib
import errno
import logging
import shutil
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout
from safetensors import SafetensorError

from cmt.common.storage import flush_to_disk
from cmt.errors import ModelError
from cmt.lm._configuration import clean_configuration
from cmt.lm._convert_gguf import convert
from cmt.lm._download import FILES, OnProgress, digest_of, fetch
from cmt.lm._loading import load_model, load_tokenizer
from cmt.lm.installed import installed, problem_of
from cmt.lm.integrity import (
    Record,
    changed_files,
    read_record,
    record_files,
    write_record,
)
from cmt.lm.model import weights_digest
from cmt.lm.source import folder_name

log = logging.getLogger(__name__)


def pull(
    *, source: str, sha256: str | None = None, path: Path, on_progress: OnProgress | None = None
) -> Path:
    """Fetch, check and convert the base LM unless it is installed; returns its folder below `path`.

    `sha256`: the expected digest of the fetched weights (`download.digest_of`). Files of a `path:`
    folder are linked, not copied. Raises ConfigError if `source` is malformed, ModelError if the LM
    cannot be fetched, read or written, or has another digest.
    """
    folder = path / folder_name(source)
    partial = path / f".partial-{folder.name}"
    with _explain_disk_errors(path):
        if _is_current(folder, source, sha256) and not partial.exists():
            return folder
        with _pull_lock(path):
            if not _is_current(
                folder, source, sha256
            ):  # another process may have pulled it meanwhile
                _install(source, sha256, folder, partial, on_progress)
            shutil.rmtree(partial, ignore_errors=True)
    return folder


def verify(*, source: str, path: Path) -> Path:
    """As `installed`, but read every file and every weight; also raises ModelError if one has
    changed.
    """
    folder = installed(source=source, path=path)
    record = read_record(folder)
    if changed := changed_files(record.files, record_files(folder)):
        names = ", ".join(changed)
        raise ModelError(
            f"{names} in {folder} changed since it was pulled: remove the folder and run `cmt "
            "model pull`"
        )
    with _explain_disk_errors(path):
        if _tensors_digest(folder) != record.digest:
            raise ModelError(
                f"the weights in {folder} have changed: remove it and run `cmt model pull`"
            )
    return folder


def _is_current(folder: Path, source: str, sha256: str | None) -> bool:
    """Whether `folder` is undamaged, has the digest `sha256` if one is given, and a local original
    has not changed.
    """
    if problem_of(folder):
        return False
    recorded = read_record(folder).sha256
    if source.startswith("path:"):
        original = Path(source.removeprefix("path:"))
        if original.is_file() and digest_of(original) != recorded:
            return False
        # a pull writes its own copy of a configuration that has other fields than the architecture
        for own in folder.glob("*.json"):
            file = original / own.name
            if (
                not own.is_symlink()
                and file.is_file()
                and file.stat().st_mtime > own.stat().st_mtime
            ):
                return False
    return sha256 is None or sha256.lower() == recorded


def _install(
    source: str, sha256: str | None, folder: Path, partial: Path, on_progress: OnProgress | None
) -> None:
    # 1. fetch
    partial.mkdir(exist_ok=True)
    try:
        fetched = fetch(source=source, partial=partial, on_progress=on_progress)
    except ModelError:
        with contextlib.suppress(OSError):  # a folder with files that the next pull can use stays
            partial.rmdir()
        raise
    # 2. check the digest
    actual = digest_of(fetched)
    if sha256 and actual != sha256.lower():
        if downloaded := fetched.is_relative_to(partial):
            shutil.rmtree(partial)
        raise ModelError(
            f"{source} has the sha256 {actual}, but lm.sha256 is {sha256}: "
            f"{'the download was removed' if downloaded else 'it is not used'}. Correct "
            "lm.sha256, or find out who "
            f"changed the file"
        )
    # 3. convert, and record the files
    ready = _prepare(fetched, partial, on_progress)
    for name, fields in clean_configuration(ready).items():
        log.warning("left out of %s: %s", name, ", ".join(fields))
    digest = _tensors_digest(ready)
    for file in ready.iterdir():
        if not file.is_symlink():
            file.chmod(
                0o644
            )  # safetensors writes 0600; before the record, because it changes the file's times
            flush_to_disk(file)
    write_record(ready, Record(source, actual, digest, record_files(ready)))
    # 4. replace a damaged folder, or one of another digest
    if folder.exists():
        shutil.rmtree(partial / "replaced", ignore_errors=True)
        folder.rename(partial / "replaced")
    ready.rename(folder)


def _prepare(fetched: Path, partial: Path, on_progress: OnProgress | None) -> Path:
    """A folder below `partial` that transformers loads: the downloaded one, a conversion, or links
    to the files.
    """
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
    """Digest of the weights in their stored type. Raises ModelError if transformers cannot load
    them.
    """
    try:
        model = load_model(folder, dtype="auto")
        load_tokenizer(folder)
    except ModelError:
        raise
    except Exception as error:  # transformers raises many kinds for a damaged or foreign folder
        raise ModelError(
            f"{folder} is not a decoder-only LM that transformers can load: {error}"
        ) from error
    return weights_digest(model)


def _pull_lock(path: Path) -> contextlib.AbstractContextManager[object]:
    """Allow one pull at a time below `path`, which is created."""
    path.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path / ".lock")
    try:
        return lock.acquire(timeout=0)
    except Timeout:
        log.warning("another process is pulling into %s: waiting for it", path)
        return lock.acquire()


@contextlib.contextmanager
def _explain_disk_errors(path: Path) -> Iterator[None]:
    """Turn errors of the disk into ModelError with a remedy."""
    try:
        yield
    except (OSError, SafetensorError) as error:
        number = getattr(error, "errno", None)
        if number in (errno.ENOSPC, errno.EDQUOT) or "No space left" in str(error):
            hint = (
                "the disk is full: free space for about twice the model and run `cmt model pull` "
                "again"
            )
        elif number in (errno.EROFS, errno.EACCES, errno.EPERM):
            hint = "the folder is not writable: set lm.path to one that is"
        else:
            hint = "check lm.path and run `cmt model pull` again"
        raise ModelError(f"the base LM could not be written to {path} ({error}): {hint}") from error
