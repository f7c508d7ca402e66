"""The stored answers of a round's evaluation."""

import logging
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from cmt.bank.rounds import ANSWERS, Round, round_folder
from cmt.common.arrow import is_in
from cmt.common.storage import write_table
from cmt.project import Project

log = logging.getLogger(__name__)

# in the metadata of the schema: rounds of all compressors write to one folder
_COMPRESSOR = b"compressor"


def write_records(folder: Path, records: pa.Table, *, compressor: str) -> None:
    """Write the answers of a round (RECORD_SCHEMA) of `compressor`, a digest, to its folder. Raises
    OSError.
    """
    write_table(folder / ANSWERS, records.replace_schema_metadata({_COMPRESSOR: compressor}))


def read_records(project: Project, round_: Round) -> pa.Table | None:
    """The answers of a round (RECORD_SCHEMA); None if it asked no question, if the file cannot be
    read, or if another compressor has adapted to the slice since.
    """
    path = round_folder(project.state, round_.slice_id) / ANSWERS
    if round_.state not in ("committed", "refused") or not round_.questions or not path.is_file():
        return None
    try:
        records = pq.read_table(path)
    except (pa.ArrowException, OSError, ValueError) as error:
        log.warning(
            "the records of round %s cannot be read and are ignored: %s", round_.round_id, error
        )
        return None
    written_by = (records.schema.metadata or {}).get(_COMPRESSOR, b"").decode()
    return records if written_by in ("", round_.compressor) else None


def is_own(project: Project, round_: Round, records: pa.Table) -> pa.ChunkedArray:
    """Whether each of `records` is of a question of the round's own slice, not of an earlier one
    (n,).
    """
    question_ids = project.store.questions(project.store.slice(round_.slice_id))["question_id"]
    return is_in(records["question_id"], question_ids)
