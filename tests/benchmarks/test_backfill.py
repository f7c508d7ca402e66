"""`benchmarks/backfill.py` on a small archive, without a Prefect server; tests/flows has the flow itself."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import cmt
from tests.helpers.scripts import load_script


def test_a_small_archive_is_adapted(
    tiny_project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    @contextmanager
    def without_server(*, params: Path, **_: Any) -> Iterator[SimpleNamespace]:
        def run(_deployment: str, *, source: str) -> None:
            workspace = cmt.open(params=params)
            workspace.ingest(source=source)
            for slice_id in workspace.pending():
                workspace.update(slice_id=slice_id)

        yield SimpleNamespace(run=run)

    script = load_script("backfill")
    monkeypatch.setattr(script, "ROOT", tiny_project)  # its params.yaml: a random LM of some kilobytes
    monkeypatch.setattr(script, "local_prefect", without_server)
    script.main(documents=20, engine=script.Engine.LOCAL, workers=1, as_json=True)
    row = json.loads(capsys.readouterr().out)
    assert row["engine"] == "local"
    assert 10 <= row["documents"] <= 20
    assert row["seconds"] > row["compress_seconds"] + row["bank_seconds"] > 0
    assert row["hours_for_100000"] == pytest.approx(100_000 / row["documents_per_second"] / 3600, rel=0.1)
