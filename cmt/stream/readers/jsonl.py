"""JSON lines with the columns of the schema; an object with the key `question` is a question, any other a document."""

from collections.abc import Iterator
from pathlib import Path

from cmt.stream.limits import Limits
from cmt.stream.readers.files import RawRow, read_json_lines
from cmt.stream.schema import Rejected


def read(path: Path, limits: Limits) -> Iterator[RawRow | Rejected]:
    """Yield the rows of one file, numbered by line. Raises StreamError."""
    for row in read_json_lines(path, limits):
        if isinstance(row, Rejected):
            yield row
        else:
            number, values = row
            yield RawRow("question" if "question" in values else "document", path.name, number, values)
