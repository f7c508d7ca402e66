"""Names and values of a round in MLflow."""

from dataclasses import replace

from cmt.tracking._payload import DESCRIBED_ROUNDS, describe, lineage, round_metrics
from tests.helpers.rounds import ROUND as BEGUN

ROUND = replace(
    BEGUN,
    state="committed",
    documents=40,
    rows=42,
    questions=60,
    scores={
        "cmt": {"f1": 62.125, "f1_low": 50.0, "f1_high": 70.0, "recall": None},
        "closed": {"f1": 1.5},
    },
    seconds={"compress": 1.5, "bank": 0.25, "evaluate": 12.0, "decide": 0.5},
)


def test_metrics_are_grouped_and_missing_ones_left_out() -> None:
    metrics = round_metrics(ROUND)
    assert (metrics["seconds/adapt"], metrics["seconds/measure"]) == (1.75, 12.5)
    assert (metrics["seconds/compress"], metrics["seconds/evaluate"]) == (1.5, 12.0)
    assert (metrics["qa/f1"], metrics["closed/f1"], metrics["counts/questions"]) == (
        62.125,
        1.5,
        60.0,
    )
    assert "qa/recall" not in metrics
    assert round_metrics(replace(ROUND, changes=2))["counts/changes"] == 2
    calibrated = round_metrics(
        replace(ROUND, calibration={"slope": 0.75, "answers": 60}, tokens_per_second=812.5)
    )
    assert (calibrated["calibration/slope"], calibrated["calibration/answers"]) == (0.75, 60.0)
    assert calibrated["counts/tokens_per_second"] == 812.5
    assert "counts/questions" not in round_metrics(replace(ROUND, questions=None))


def test_the_description_has_the_headline_figures() -> None:
    tags = describe([ROUND, replace(ROUND, slice_id="2031-02/0001", scores={}, questions=0)])
    assert (tags["mlflow.source.name"], tags["mlflow.source.type"]) == ("cmt update", "LOCAL")
    lines = tags["mlflow.note.content"].splitlines()
    assert lines[0] == "| slice | documents | adapted in | F1 | 95 % | questions |"
    assert lines[2] == "| 2031-01/0001 | 40 | 1.8 s | 62.1 | 50.0 – 70.0 | 60 |"
    assert lines[3] == "| 2031-02/0001 | 40 | 1.8 s | – | – | 0 |"
    tags = describe([replace(ROUND, prefect_run="flow-run")])
    assert (tags["mlflow.source.name"], tags["mlflow.source.type"]) == ("cmt/online-update", "JOB")
    assert "mlflow.note.content" not in describe([])


def test_a_long_stream_is_described_by_its_newest_rounds() -> None:
    history = [replace(ROUND, number=n, slice_id=f"{2000 + n}-01/0001") for n in range(1, 1001)]
    note = describe(history)["mlflow.note.content"]
    assert len(note) < 8000  # MLflow cuts longer tags
    assert note.splitlines()[2].startswith(f"| {3001 - DESCRIBED_ROUNDS}-01/0001 ")
    assert note.splitlines()[-1].startswith("| 3000-01/0001 ")


def test_lineage_leaves_out_what_is_empty() -> None:
    tags = lineage(ROUND)
    assert (tags["cmt.round"], tags["cmt.compressor"], tags["cmt.version_before"]) == (
        "2031-01/0001",
        "c" * 64,
        "1",
    )
    assert {"cmt.reason", "cmt.bank_digest", "cmt.prefect_run", "cmt.git_commit"}.isdisjoint(tags)
