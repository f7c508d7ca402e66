"""The installed base LM: where it is, and whether it is as it was pulled (`cmt.lm.weights`).

Nothing here imports transformers, so a command that only checks the files starts fast.
"""

import contextlib
from dataclasses import replace
from pathlib import Path

from cmt.errors import ModelError
from cmt.lm.integrity import (
    RECORD,
    changed_files,
    is_untouched,
    read_record,
    record_files,
    write_record,
)
from cmt.lm.source import folder_name


def installed(*, source: str, path: Path) -> Path:
    """Folder of the installed base LM, unchanged since the pull.

    Files with the recorded sizes and times are not read. Raises ModelError if the LM was not
    pulled, or if a file was changed, removed or added; the message names the file.
    """
    folder = path / folder_name(source)
    if problem := problem_of(folder):
        raise ModelError(f"the base LM {source} {problem}: run `cmt model pull`")
    return folder


def problem_of(folder: Path) -> str | None:
    """The problem of an installed folder, or None."""
    # 1. the record
    if not folder.is_dir():
        return f"is not in {folder.parent}"
    try:
        record = read_record(folder)
    except (OSError, ValueError) as error:
        return f"has no readable {RECORD} in {folder} ({error})"
    # 2. the files: hashes, if a size or time differs
    try:
        if is_untouched(folder, record.files):
            return None
        found = record_files(folder)
    except OSError as error:
        return f"has an unreadable file ({error})"
    if changed := changed_files(record.files, found):
        return f"is damaged: {', '.join(changed)} in {folder} changed since it was pulled"
    # 3. new sizes and times: a copy or a restored backup changes no content
    with contextlib.suppress(
        OSError
    ):  # in a folder that cannot be written, files are hashed every time
        write_record(folder, replace(record, files=found))
    return None
