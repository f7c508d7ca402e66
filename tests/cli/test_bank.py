"""`cmt bank`: stats and optimize."""

import re
from pathlib import Path

from tests.helpers.cli import bank_report, read, run


def test_the_bank_is_counted_and_optimized(adapted: Path) -> None:
    stats = read(adapted, "bank", "stats")
    assert (stats["rows"], stats["documents"]) == (6, 6)
    printed = run(adapted, "bank", "stats").stdout
    assert re.search(r"rows\s+6\n", printed)
    assert re.search(r"size\s+0\.\d\d MB\n", printed)
    assert re.search(r"size per document\s+\d+\.\d kB\n", printed)
    digest = bank_report(adapted)["digest"]
    assert read(adapted, "bank", "optimize")["rows"] == 6
    assert read(adapted, "bank", "optimize", "--keep-days", "0")["rows"] == 6
    assert bank_report(adapted)["digest"] == digest


def test_a_bank_with_one_row_has_no_mean_cosine(adapted: Path) -> None:
    for doc_id in ("mayor-1", "ferry", "raft", "mayor-2", "hitch"):
        run(adapted, "forget", doc_id)
    assert read(adapted, "bank", "stats")["mean_pairwise_cosine"] is None
    assert re.search(r"mean cosine of two keys\s+–\n", run(adapted, "bank", "stats").stdout)
