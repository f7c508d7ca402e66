"""`cmt bank`: stats and optimize."""

import re
from pathlib import Path

from tests.helpers.cli import bank_report, read, run


def test_the_bank_is_counted_and_optimized(adapted: Path) -> None:
    stats = read(adapted, "bank", "stats")
    assert (stats["rows"], stats["documents"]) == (6, 6)
    assert re.search(r"size per document\s+\d+\.\d kB\n", run(adapted, "bank", "stats").stdout)
    digest = bank_report(adapted)["digest"]
    assert read(adapted, "bank", "optimize")["rows"] == 6
    assert read(adapted, "bank", "optimize", "--keep-days", "0")["rows"] == 6
    assert bank_report(adapted)["digest"] == digest
