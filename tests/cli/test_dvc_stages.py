"""The stages of `dvc.yaml`: apart from the live bank, from scratch every time, and equal byte by
byte.
"""

import json
import shutil
from pathlib import Path
from typing import Any

import matplotlib.image
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rich.console import Console

import cmt
from cmt.cli import dvc_stages
from cmt.cli.progress_bar import ProgressBar
from cmt.evaluation.calibration import reliability
from tests.helpers.projects import change_params
from tests.helpers.training import write_squad

SCORES = {"em", "em_prefix", "f1", "f1_low", "f1_high"}


def run(project: Path, *stages: str) -> None:
    for stage in stages or dvc_stages.STAGES:
        dvc_stages.STAGES[stage](project / "params.yaml", ProgressBar(Console(quiet=True)))


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def results(project: Path) -> dict[str, bytes]:
    """Everything that DVC stores, path → bytes."""
    outs = ("data/replay/slices", "data/replay/compressor", "metrics", "plots")
    folders = {out: contents(project / out) for out in outs} | {"pin": {"": pin(project)}}
    return {
        f"{out}/{name}": content
        for out, files in folders.items()
        for name, content in files.items()
    }


def pin(project: Path) -> bytes:
    return (project / "data/replay/bank.json").read_bytes()


def metrics(project: Path, name: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((project / f"metrics/{name}.json").read_text())
    return content


@pytest.fixture(scope="module")
def replayed_once(tiny_project: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = Path(shutil.copytree(tiny_project, tmp_path_factory.mktemp("replayed") / "project"))
    change_params(
        folder, selection={"abstain_below": 0}
    )  # else the answers of a random LM have one confidence
    run(folder)
    return folder


@pytest.fixture
def replayed(replayed_once: Path, tmp_path: Path) -> Path:
    """A project whose stages have all run."""
    return Path(shutil.copytree(replayed_once, tmp_path / "replayed"))


# prepare


def test_prepare_writes_slices_apart_from_the_live_ones_over_earlier_ones(
    tiny_workspace: Path,
) -> None:
    change_params(tiny_workspace, stream={"period": 2})
    run(tiny_workspace, "prepare")
    change_params(tiny_workspace, stream={"period": "month"})
    run(tiny_workspace, "prepare")
    store = dvc_stages.workspace(tiny_workspace / "params.yaml").project.store
    assert [slice_.slice_id for slice_ in store.slices()] == ["2031-01/0001", "2031-02/0001"]
    assert sorted(path.name for path in (tiny_workspace / "data").glob("*/*/2*")) == [
        "2031-01",
        "2031-02",
    ]


# train


def test_without_training_the_shipped_compressor_is_copied(tiny_workspace: Path) -> None:
    shipped = cmt.open(params=tiny_workspace / "params.yaml").params.compressor.path
    run(tiny_workspace, "train")
    copied = contents(tiny_workspace / "data/replay/compressor")
    assert copied.keys() == {"config.json", "compressor.safetensors", "SHA256SUMS"}
    assert copied.items() <= contents(shipped).items()


def test_a_missing_shipped_compressor_is_named(tiny_workspace: Path) -> None:
    change_params(tiny_workspace, compressor={"path": "nowhere"})
    with pytest.raises(cmt.ModelError, match=r"no compressor in .*nowhere.*train\.enabled"):
        run(tiny_workspace, "train")


@pytest.fixture
def trainable(tiny_workspace: Path) -> Path:
    """A project with training switched on and a data set of four paragraphs."""
    texts = {name: f"{name} built it." for name in ("Moss", "Vell", "Greta", "Aziz")}
    source = f"path:{write_squad(tiny_workspace / 'squad.json', texts)}"
    sizes = {
        "questions": 4,
        "paragraphs": 2,
        "validation_articles": 1,
        "bf16": False,
        "save_steps": 1,
    }
    change_params(tiny_workspace, train={"enabled": True, "source": source, **sizes})
    change_params(tiny_workspace, lm={"dtype": "float32"})
    return tiny_workspace


def test_a_finished_training_is_repeated_only_with_other_settings(trainable: Path) -> None:
    shipped = cmt.open(params=trainable / "params.yaml").params.compressor.path
    run(trainable, "train")
    first = contents(trainable / "data/replay/compressor")
    assert first.keys() == {
        "config.json",
        "compressor.safetensors",
        "SHA256SUMS",
        "card.md",
        "curve.png",
    }
    assert first["compressor.safetensors"] != contents(shipped)["compressor.safetensors"]
    [folder] = (trainable / "data/replay/training").iterdir()
    written = (folder / "compressor.safetensors").stat().st_mtime_ns
    run(trainable, "train")
    assert contents(trainable / "data/replay/compressor") == first
    assert (folder / "compressor.safetensors").stat().st_mtime_ns == written
    change_params(trainable, train={"learning_rate": 0.01})
    run(trainable, "train")
    assert len(list((trainable / "data/replay/training").iterdir())) == 2
    assert contents(trainable / "data/replay/compressor") != first


# replay


def test_a_replay_is_a_round_for_every_slice(replayed: Path) -> None:
    result = metrics(replayed, "replay")
    assert {name: result[name] for name in ("slices", "committed", "rows")} == {
        "slices": 2,
        "committed": 2,
        "rows": 6,
    }
    assert [(r["slice"], r["documents"], r["rows"]) for r in result["rounds"]] == [
        ("2031-01/0001", 3, 3),
        ("2031-02/0001", 3, 6),
    ]
    assert {*SCORES, "recall", "closed_f1", "rag_f1", "rag_recall"} <= result["last"].keys()
    assert result["last"].items() <= result["rounds"][1].items()
    workspace = dvc_stages.workspace(replayed / "params.yaml")
    assert json.loads(pin(replayed)) == {
        "table": workspace.project.active.stored().name,
        "rows": 6,
        "digest": workspace.rounds()[1].bank_digest,
        "calibration": workspace.project.active.calibration()._asdict(),
    }
    assert matplotlib.image.imread(replayed / "plots/rounds.png").shape == (720, 960, 4)
    # the error of the confidence, calibrated and not
    answers = pa.concat_tables(
        pq.read_table(path)
        for path in sorted(workspace.project.state.glob("rounds/*/answers.parquet"))
    )
    for name, column in (
        ("calibration_error", "confidence"),
        ("uncalibrated_error", "uncalibrated"),
    ):
        error = reliability(answers[column].to_numpy(), answers["cmt_f1"].to_numpy()).error
        assert result[name] == pytest.approx(error, abs=1e-4)
    assert result["calibration_error"] != result["uncalibrated_error"]


def test_a_repeated_replay_gives_the_same_bytes_and_leaves_the_live_bank_and_mlflow_alone(
    replayed: Path,
) -> None:
    before = results(replayed)
    dvc_stages.workspace(replayed / "params.yaml").rollback("2031-02/0001")
    change_params(replayed, tracking={"enabled": True})
    run(replayed, "replay", "evaluate")
    assert results(replayed) == before
    assert [path.name for path in (replayed / "data").iterdir()] == ["replay"]
    assert not (replayed / "mlflow.db").exists()


def test_a_refused_round_is_recorded_and_the_replay_goes_on(replayed: Path) -> None:
    change_params(replayed, gate={"min_f1": 100})
    run(replayed, "replay")
    result = metrics(replayed, "replay")
    assert (result["committed"], result["rows"], result["last"]) == (0, 0, {})
    assert [r["state"] for r in result["rounds"]] == ["refused", "refused"]
    assert json.loads(pin(replayed))["rows"] == 0
    assert (replayed / "plots/rounds.png").read_bytes().startswith(b"\x89PNG")


def test_baseline_answers_are_cached_for_each_setting(replayed: Path) -> None:
    cache = replayed / "data/replay/state/prompts.sqlite"
    filled = cache.read_bytes()
    change_params(replayed, selection={"top_k": 2})
    run(replayed, "evaluate")
    assert cache.read_bytes() == filled
    change_params(replayed, answering={"max_new_tokens": 2})
    run(replayed, "evaluate")
    assert cache.read_bytes() != filled


# evaluate


def test_an_evaluation_asks_every_system_all_questions(replayed: Path) -> None:
    result = metrics(replayed, "scores")
    assert result.keys() == {"cmt", "closed", "rag"}
    assert result["closed"].keys() == {*SCORES, "n"}
    assert result["rag"].keys() == {*SCORES, "recall", "n"}
    # without a likely answer there is no share of right ones among them
    expected = {*SCORES, "recall", "calibration_error", "likely", "n"}
    assert result["cmt"].keys() - {"likely_right"} == expected
    assert {row["n"] for row in result.values()} == {4}
    assert (replayed / "plots/scores.png").read_bytes().startswith(b"\x89PNG")


def test_another_bank_than_the_pinned_one_is_not_evaluated(replayed: Path) -> None:
    dvc_stages.workspace(replayed / "params.yaml").rollback("2031-02/0001")
    with pytest.raises(cmt.RoundError, match=r"bank\.json.*dvc repro --force replay"):
        run(replayed, "evaluate")
    shutil.rmtree(replayed / "data/replay/bank")
    with pytest.raises(cmt.RoundError, match=r"is not that of .*bank\.json"):
        run(replayed, "evaluate")
