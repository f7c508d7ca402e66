"""Readers turn files into records; one module a family of formats."""

from cmt.stream.readers.detection import records, records_of
from cmt.stream.readers.files import Record

__all__ = ["Record", "records", "records_of"]
