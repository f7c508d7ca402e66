"""The format of a file by its content, and the records of files, folders and archives of any mixture."""

from collections.abc import Iterator
from pathlib import Path

from cmt.errors import StreamError
from cmt.stream.limits import DEFAULT_LIMITS, Limits
from cmt.stream.readers.files import Record, read_json_lines
from cmt.stream.schema import Rejected


def records(path: Path, *, format: str | None = None, limits: Limits = DEFAULT_LIMITS) -> Iterator[Record]:
    """Yield the records of the file or folder `path`, detecting each format by content unless `format` is named.

    A folder is read recursively without its hidden files. A record or a file that cannot be read is one record with
    an `error`. Raises StreamError if `path` does not exist.
    """
    if not path.exists():
        raise StreamError(f"{path} not found; name a file or a folder")
    try:
        for row in read_json_lines(path, limits):
            if isinstance(row, Rejected):
                yield Record({}, f"{row.file} row {row.row}", row.reason)
            else:
                yield Record(row[1], f"{path.name} row {row[0]}")
    except StreamError as error:
        yield Record({}, path.name, str(error))
