"""The ledger: what became of every round, and which documents must not come back, in two tables beside the bank."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import pyarrow as pa

if TYPE_CHECKING:
    from lancedb.db import DBConnection

State = Literal["started", "committed", "refused", "rolling_back", "rolled_back", "interrupted"]
"""`started` and `rolling_back` are at work; found by somebody else, they were interrupted."""


@dataclass(frozen=True)
class Round:
    """A row of the ledger."""

    round_id: str
    """The slice's id."""
    number: int
    """Its place among the committed rounds, in the order in which they were banked."""
    slice_id: str
    slice_digest: str
    compressor: str
    bank_params: str
    """The parameters that shape the rows; with slice and compressor the identity of the round."""
    params_digest: str
    """Digest of all that shapes answers and scores."""
    state: State
    version_before: int
    version_after: int | None = None
    bank_digest: str = ""
    documents: int = 0
    rows: int = 0
    scores: dict[str, float | None] = field(default_factory=dict)
    """As `flat_scores` makes them."""
    seconds: dict[str, float] = field(default_factory=dict)
    """Wall-clock a stage."""
    tokens_per_second: float | None = None
    """Compression, tokens of text."""
    dtype: str = ""
    """What the LM computed in, bfloat16 or float32: with `lm.dtype: auto` the machine decides."""
    git_commit: str = ""
    mlflow_run: str = ""
    prefect_run: str = ""
    started_at: str = ""
    finished_at: str = ""
    reason: str = ""
    """Why it was refused or what interrupted it."""
    already: bool = False
    """Found committed before; nothing was done."""

    @property
    def identity(self) -> tuple[str, str, str]:
        """Two rounds with one identity put the same rows into the bank."""
        return self.slice_digest, self.compressor, self.bank_params


class Ledger:
    """The tables `rounds` (one row a round) and `forgotten`. BankError when they cannot be read or written."""

    SCHEMAS = {
        "rounds": pa.schema([pa.field("round_id", pa.string(), nullable=False), pa.field("record", pa.large_string())]),
        "forgotten": pa.schema([pa.field("doc_id", pa.string(), nullable=False)]),
    }

    def __init__(self, connection: "DBConnection") -> None:
        from cmt.bank.tables import created, opened

        self._connection = connection
        with self._explained("opened"):
            found = {name: opened(connection, name) for name in self.SCHEMAS}  # makes nothing where it cannot write
            self._tables = {
                name: created(connection, name, self.SCHEMAS[name]) if table is None else table
                for name, table in found.items()
            }

    def rounds(self, compressor: str | None = None) -> list[Round]:
        """All rounds (of one compressor) by number."""
        found = [Round(**json.loads(record)) for record in self._column("rounds", "record")]
        found = [round_ for round_ in found if compressor in (None, round_.compressor)]
        return sorted(found, key=lambda round_: (round_.number, round_.round_id))

    def write(self, *rounds: Round) -> None:
        """Insert or replace the rows of `rounds`, in one commit. Another compressor's round has a row of its own."""
        keys = [f"{round_.round_id}@{round_.compressor[:12]}" for round_ in rounds]
        self._upsert("rounds", {"round_id": keys, "record": [json.dumps(asdict(round_)) for round_ in rounds]})

    def forgotten(self) -> list[str]:
        """Documents that were forgotten and must not come back, sorted."""
        return sorted(self._column("forgotten", "doc_id"))

    def forget(self, doc_id: str) -> None:
        """Remember that `doc_id` was forgotten."""
        self._upsert("forgotten", {"doc_id": [doc_id]})

    def _column(self, name: str, column: str) -> list[str]:
        table: Any = self._tables[name]
        with self._explained("read"):
            table.checkout_latest()
            found = table.search().select([column]).limit(max(table.count_rows(), 1)).to_arrow()
        values: list[str] = found[column].to_pylist()
        return values

    def _upsert(self, name: str, columns: dict[str, list[str]]) -> None:
        rows, key = pa.table(columns, schema=self.SCHEMAS[name]), self.SCHEMAS[name].names[0]
        with self._explained("written", "check free space and rights, then repeat"):
            merge = self._tables[name].merge_insert(key).when_matched_update_all()
            merge.when_not_matched_insert_all().execute(rows)

    @contextmanager
    def _explained(self, done: str, *advice: str) -> Iterator[None]:
        from cmt.bank.tables import explained

        with explained(f"the ledger in {self._connection.uri} cannot be {done}", *advice):
            yield


def flat_scores(rows: list[dict[str, Any]]) -> dict[str, float | None]:
    """`Evaluation.to_json()["rows"]` as one flat dict: the memory's names bare, a baseline's behind its name.

    em, em_prefix, f1 and the bounds of its interval f1_low and f1_high (0–100), recall (0–1), as in closed_f1.
    """
    scores: dict[str, float | None] = {}
    for row in rows:
        prefix = "" if row["row"] == "cmt" else f"{row['row']}_"
        found = row | {"f1_low": row["ci"][0], "f1_high": row["ci"][1]}
        names = ("em", "em_prefix", "f1", "f1_low", "f1_high", "recall")
        scores |= {f"{prefix}{name}": found[name] for name in names if row["n"]}
    return scores
