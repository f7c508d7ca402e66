"""`benchmarks/backfill.py` on a small archive, in one process."""

import json

import pytest

from tests.helpers.scripts import run_main


@pytest.mark.timeout(600)
def test_a_small_archive_is_adapted() -> None:
    status, stdout, stderr = run_main("backfill", "--documents", "20", "--engine", "local", "--json")
    assert status == 0, stderr
    row = json.loads(stdout)
    assert row["engine"] == "local"
    assert 10 <= row["documents"] <= 20
    assert row["seconds"] > row["compress_seconds"] > 0
    assert row["hours_for_100000"] == pytest.approx(100_000 / row["documents_per_second"] / 3600, rel=0.1)
