"""Files of the quarantine: rejected rows, and rows that wait, as JSON lines."""

import json
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import TypeVar

from cmt.common.storage import write_bytes
from cmt.errors import StreamError
from cmt.stream.schema import Rejected

Row = TypeVar("Row")


def write_quarantine(folder: Path, *, name: str, rejected: Sequence[Rejected]) -> Path | None:
    """Replace `folder`/`name` by `rejected` as JSON lines and return the path; without rows, delete
    it.
    """
    rows = [
        {"file": row.file, "row": row.row, "reason": row.reason, "raw": row.raw} for row in rejected
    ]
    return write_lines(folder / name, [json.dumps(row, ensure_ascii=False) for row in rows])


def write_lines(path: Path, lines: Collection[str]) -> Path | None:
    """Replace `path` by `lines` of JSON and return it; without lines, delete it. Raises OSError."""
    if not lines:
        path.unlink(missing_ok=True)
        return None
    # a lone surrogate cannot be encoded as UTF-8; its \u escape is valid JSON
    write_bytes(path, "".join(f"{line}\n" for line in lines).encode("utf-8", "backslashreplace"))
    return path


def read_lines(path: Path, row: Callable[..., Row], *, remedy: str) -> list[Row]:
    """The lines that `write_lines` wrote, each as a `row`; none without a file. Raises StreamError
    with `remedy`.
    """
    try:
        return [row(**json.loads(line)) for line in path.read_text("utf-8").split("\n") if line]
    except FileNotFoundError:
        return []
    except (OSError, ValueError, TypeError) as error:
        raise StreamError(f"{path} cannot be read ({error}): {remedy}") from None
