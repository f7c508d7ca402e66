"""Readers turn files into records; one module a family of formats."""

from cmt.stream.columns import Record

__all__ = ["Record"]
