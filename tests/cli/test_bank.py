"""`cmt bank`: verify, stats and optimize."""

import json
import re
from datetime import UTC, datetime
from pathlib import Path

import lancedb

from cmt.bank.bank import Bank
from tests.helpers.cli import read, run


def test_the_bank_is_counted_and_optimized(adapted: Path) -> None:
    stats = read(adapted, "bank", "stats")
    assert (stats["rows"], stats["documents"]) == (6, 6)
    printed = run(adapted, "bank", "stats").stdout
    assert re.search(r"rows\s+6\n", printed)
    assert re.search(r"size\s+0\.\d\d MB\n", printed)
    assert re.search(r"size per document\s+\d+\.\d kB\n", printed)
    digest = read(adapted, "bank", "verify")["digest"]
    assert read(adapted, "bank", "optimize")["rows"] == 6
    assert read(adapted, "bank", "optimize", "--keep-days", "0")["rows"] == 6
    assert read(adapted, "bank", "verify")["digest"] == digest


def test_a_bank_with_one_row_has_no_mean_cosine(adapted: Path) -> None:
    for doc_id in ("mayor-1", "ferry", "raft", "mayor-2", "hitch"):
        run(adapted, "forget", doc_id)
    assert read(adapted, "bank", "stats")["mean_pairwise_cosine"] is None
    assert re.search(r"mean cosine of two keys\s+–\n", run(adapted, "bank", "stats").stdout)


def test_a_damaged_bank_fails_verification(adapted: Path) -> None:
    uri = adapted / "data/bank"
    table = lancedb.connect(uri).open_table(Bank.open(uri=str(uri)).name)
    table.update(where="doc_id = 'ferry'", values={"superseded_at": datetime(2031, 3, 1, tzinfo=UTC)})
    result = run(adapted, "bank", "verify", "--json", status=1)
    problems = json.loads(result.stdout)["problems"]
    assert problems[0] == "document 'ferry' has another superseded_at than its successors' dates say"
    assert re.search(rf"error: the bank has {len(problems)} problems?\n", result.stderr)
    assert "document 'ferry'" in run(adapted, "bank", "verify", status=1).stdout


def test_a_sound_bank_is_verified(adapted_project: Path) -> None:
    assert re.match(r"no problem in 6 rows; digest [0-9a-f]{64}\n", run(adapted_project, "bank", "verify").stdout)
