"""`cmt baselines` and `cmt report`, from the command line."""

import re
from pathlib import Path

from cmt.evaluation.systems import SYSTEMS
from tests.helpers.cli import read, run


def test_systems_are_measured_with_their_costs_and_lineage(adapted_project: Path) -> None:
    result = read(
        adapted_project, "baselines", "--rows", "closed, rag-dense-1,cmt", "--questions", "3"
    )
    assert [row["row"] for row in result["rows"]] == ["closed", "rag-dense-1", "cmt"]
    assert {row["n"] for row in result["rows"]} == {3}
    assert result["rows"][1]["cost"]["adapt_seconds"] > 0
    assert len(result["lineage"]["slices"]) == 2
    assert {"compressor", "lm", "bank", "git_commit"} < result["lineage"].keys()
    printed = run(adapted_project, "baselines", "--rows", "rag-hybrid-3,cmt", "--questions", "2")
    assert [line.split()[0] for line in printed.stdout.splitlines()[2:]] == ["rag-hybrid-3", "cmt"]
    assert "tokens a question" in printed.stdout
    assert "rag-hybrid-3: 2 of 2" in printed.stderr and "cmt: 2 of 2" in printed.stderr


def test_every_system_is_named_by_the_help_and_after_an_unknown_one(adapted_project: Path) -> None:
    refused = run(adapted_project, "baselines", "--rows", "rag-bm26", status=2).stderr
    assert "no row 'rag-bm26'; there are: closed, full" in refused
    printed = " ".join(run(adapted_project, "baselines", "--help").stdout.replace("│", " ").split())
    assert all(name in printed.replace("- ", "-") for name in SYSTEMS)


def test_a_report_is_written_and_counted(adapted: Path, tmp_path: Path) -> None:
    out = tmp_path / "site" / "index.html"
    result = run(adapted, "report", "--out", str(out))
    assert f"{out.stat().st_size / 1e6:.1f} MB" in result.stdout
    assert re.search(
        r"index\.html: 2 rounds, 3 systems, \d worst questions, 0\.\d MB", result.stdout
    )
    assert "gather" in result.stderr
