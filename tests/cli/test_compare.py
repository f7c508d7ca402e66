"""`cmt baselines`, as somebody types it."""

import shutil
from pathlib import Path

import pytest

from cmt.evaluation.comparison import SYSTEMS
from tests.cli.test_main import read, run


@pytest.fixture(scope="module")
def adapted(tiny_project: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    copy = Path(shutil.copytree(tiny_project, tmp_path_factory.mktemp("adapted") / "project"))
    run(copy, "ingest")
    run(copy, "update", "--all")
    return copy


def test_rows_are_measured_with_their_costs_and_lineage(adapted: Path) -> None:
    found = read(adapted, "baselines", "--rows", "closed, uniform,cmt", "--questions", "3")
    assert [row["row"] for row in found["rows"]] == ["closed", "uniform", "cmt"]
    assert {row["n"] for row in found["rows"]} == {3}
    assert found["rows"][1]["cost"]["adapt_seconds"] > 0
    assert len(found["lineage"]["slices"]) == 2
    assert {"compressor", "lm", "bank", "git_commit"} < found["lineage"].keys()


def test_rows_are_a_table_for_people_and_progress_goes_to_stderr(adapted: Path) -> None:
    result = run(adapted, "baselines", "--rows", "rag-hybrid-3,salient,cmt", "--questions", "2")
    assert [line.split()[0] for line in result.stdout.splitlines()[2:]] == ["rag-hybrid-3", "salient", "cmt"]
    assert "tokens a question" in result.stdout
    for stage in ("rag-hybrid-3: 2 of 2", "salient: adapt: 6 of 6", "salient: 2 of 2", "cmt: 2 of 2"):
        assert stage in result.stderr


def test_an_unknown_row_is_bad_usage(adapted: Path) -> None:
    assert (
        "no row 'rag-bm26'; there are: closed, full" in run(adapted, "baselines", "--rows", "rag-bm26", status=2).stderr
    )


def test_there_is_nothing_to_measure_before_the_first_update(tiny_workspace: Path) -> None:
    assert "cmt update" in run(tiny_workspace, "baselines", "--rows", "closed", status=1).stderr


def test_help_names_every_row(adapted: Path) -> None:
    told = " ".join(run(adapted, "baselines", "--help").stdout.replace("│", " ").split())
    assert all(name in told.replace("- ", "-") for name in SYSTEMS)
