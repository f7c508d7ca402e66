"""The stored answers of a round's evaluation."""

import logging

import pyarrow as pa
import pyarrow.parquet as pq

from cmt.bank.ledger import Round, round_folder
from cmt.common.arrow import is_in
from cmt.resources import Resources

log = logging.getLogger(__name__)


def read_records(resources: Resources, round_: Round) -> pa.Table | None:
    """The answers of a round (RECORD_SCHEMA); None if it asked no question, or if the file cannot be read."""
    path = round_folder(resources.state, round_.slice_id) / "answers.parquet"
    if round_.state not in ("committed", "refused") or not round_.questions or not path.is_file():
        return None
    try:
        return pq.read_table(path)
    except (pa.ArrowException, OSError, ValueError) as error:
        log.warning("the records of round %s cannot be read and are ignored: %s", round_.round_id, error)
        return None


def is_own(resources: Resources, round_: Round, records: pa.Table) -> pa.ChunkedArray:
    """Whether each of `records` is of a question of the round's own slice, not of an earlier one (n,)."""
    own = resources.store.questions(resources.store.slice(round_.slice_id))["question_id"]
    return is_in(records["question_id"], own)
