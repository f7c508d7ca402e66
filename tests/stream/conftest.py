import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest

from cmt.config import StreamParams
from cmt.stream.admission.ingest import Options
from cmt.stream.admission.ingest import ingest as ingest_into
from cmt.stream.admission.report import IngestReport
from cmt.stream.store import SliceStore
from tests.helpers.rows import NOW, Ingest, Row, write_lines


@pytest.fixture
def store(tmp_path: Path) -> SliceStore:
    """An empty store."""
    return SliceStore(
        path=tmp_path / "stream", quarantine=tmp_path / "quarantine", lock_timeout=0.2
    )


@pytest.fixture
def ingest(store: SliceStore, tmp_path: Path) -> Ingest:
    """Ingest rows as JSON lines, by month, at the end of 2031; `rows` may also be a path, and
    `period` another one.
    """

    def run(
        rows: Iterable[Mapping[str, Any] | str] | Path, *, name: str = "rows.jsonl", **changes: Any
    ) -> IngestReport:
        path = rows if isinstance(rows, Path) else write_lines(tmp_path / name, rows)
        given: Row = {"params": StreamParams(), "period": "month", "now": NOW} | changes
        params = given.pop("params").model_copy(update={"period": given.pop("period")})
        reading = {name: given.pop(name) for name in ("columns", "published_at") if name in given}
        file_format = given.pop("file_format", "jsonl")
        options = Options(params, **given)
        return ingest_into(store, path, file_format=file_format, options=options, **reading)

    return run


@pytest.fixture
def quarantined(store: SliceStore) -> Callable[[], list[Row]]:
    """Read every row in the quarantine."""

    def read() -> list[Row]:
        files = sorted(store.quarantine.glob("*.jsonl"))
        return [
            json.loads(line)
            for file in files
            for line in file.read_text(encoding="utf-8").splitlines()
        ]

    return read
