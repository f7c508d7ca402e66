"""`cmt baselines` and `cmt report`, from the command line."""

import re
from pathlib import Path

from cmt.evaluation.systems import SYSTEMS
from tests.helpers.cli import read, run


def test_systems_are_measured_with_their_costs_and_lineage(adapted_project: Path) -> None:
    result = read(adapted_project, "baselines", "--rows", "closed, rag-dense-1,cmt", "--questions", "3")
    assert [row["row"] for row in result["rows"]] == ["closed", "rag-dense-1", "cmt"]
    assert {row["n"] for row in result["rows"]} == {3}
    assert result["rows"][1]["cost"]["adapt_seconds"] > 0
    assert len(result["lineage"]["slices"]) == 2
    assert {"compressor", "lm", "bank", "git_commit"} < result["lineage"].keys()


def test_results_are_a_table_and_progress_goes_to_stderr(adapted_project: Path) -> None:
    result = run(adapted_project, "baselines", "--rows", "rag-hybrid-3,cmt", "--questions", "2")
    assert [line.split()[0] for line in result.stdout.splitlines()[2:]] == ["rag-hybrid-3", "cmt"]
    assert "tokens a question" in result.stdout
    for stage in ("rag-hybrid-3: 2 of 2", "cmt: 2 of 2"):
        assert stage in result.stderr


def test_an_unknown_system_is_bad_usage(adapted_project: Path) -> None:
    assert (
        "no row 'rag-bm26'; there are: closed, full"
        in run(adapted_project, "baselines", "--rows", "rag-bm26", status=2).stderr
    )


def test_measuring_needs_a_bank(tiny_workspace: Path) -> None:
    assert "cmt update" in run(tiny_workspace, "baselines", "--rows", "closed", status=1).stderr


def test_help_names_every_system(adapted_project: Path) -> None:
    printed = " ".join(run(adapted_project, "baselines", "--help").stdout.replace("│", " ").split())
    assert all(name in printed.replace("- ", "-") for name in SYSTEMS)


def test_a_report_is_written_and_counted(adapted: Path, tmp_path: Path) -> None:
    out = tmp_path / "site" / "index.html"
    result = read(adapted, "report", "--out", str(out))
    assert (result["path"], result["rounds"], result["bytes"]) == (str(out), 2, out.stat().st_size)
    result = run(adapted, "report", "--out", str(out))
    assert re.search(r"index\.html: 2 rounds, 3 systems, \d worst questions, 0\.\d MB", result.stdout)
    assert "gather" in result.stderr


def test_a_report_needs_a_bank(tiny_workspace: Path) -> None:
    assert "cmt update" in run(tiny_workspace, "report", status=1).stderr
