"""The stages of `dvc.yaml`: apart from the live bank, from scratch every time, and equal byte by byte."""

import json
import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import matplotlib.image
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from rich.console import Console

import cmt
from cmt.answering.confidence import NO_CALIBRATION
from cmt.bank.bank import open_bank
from cmt.bank.location import BankLocation
from cmt.bank.schema import bank_schema
from cmt.cli import dvc_stages
from cmt.cli.progress_bar import ProgressBar
from cmt.evaluation.calibration import reliability

SCORES = {"em", "em_prefix", "f1", "f1_low", "f1_high"}


def run(project: Path, *stages: str) -> None:
    for stage in stages or dvc_stages.STAGES:
        dvc_stages.STAGES[stage](project / "params.yaml", ProgressBar(Console(quiet=True)))


def change(project: Path, section: str, **values: Any) -> None:
    """Set values in params.yaml."""
    file = project / "params.yaml"
    params = yaml.safe_load(file.read_text())
    params[section] = params.get(section, {}) | values
    file.write_text(yaml.safe_dump(params))


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def results(project: Path) -> dict[str, bytes]:
    """Everything that DVC stores, path → bytes."""
    outs = ("data/replay/slices", "data/replay/compressor", "metrics", "plots")
    folders = {out: contents(project / out) for out in outs} | {"pin": {"": pin(project)}}
    return {f"{out}/{name}": content for out, files in folders.items() for name, content in files.items()}


def pin(project: Path) -> bytes:
    return (project / "data/replay/bank.json").read_bytes()


def metrics(project: Path, name: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((project / f"metrics/{name}.json").read_text())
    return content


@pytest.fixture(scope="module")
def replayed_once(tiny_project: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = Path(shutil.copytree(tiny_project, tmp_path_factory.mktemp("replayed") / "project"))
    run(folder)
    return folder


@pytest.fixture
def replayed(replayed_once: Path, tmp_path: Path) -> Path:
    """A project whose stages have all run."""
    return Path(shutil.copytree(replayed_once, tmp_path / "replayed"))


# prepare


def test_prepare_writes_slices_apart_from_the_live_ones(tiny_workspace: Path) -> None:
    run(tiny_workspace, "prepare")
    store = dvc_stages.workspace(tiny_workspace / "params.yaml").store
    assert [slice_.slice_id for slice_ in store.slices()] == ["2031-01/0001", "2031-02/0001"]
    assert not (tiny_workspace / "data/stream").exists()


def test_prepare_removes_earlier_slices(tiny_workspace: Path) -> None:
    change(tiny_workspace, "stream", period=2)
    run(tiny_workspace, "prepare")
    change(tiny_workspace, "stream", period="month")
    run(tiny_workspace, "prepare")
    slices = tiny_workspace / "data/replay/slices"
    assert sorted(path.name for path in slices.iterdir()) == ["2031-01", "2031-02"]


# train


def test_without_training_the_shipped_compressor_is_copied(tiny_workspace: Path) -> None:
    shipped = cmt.open(params=tiny_workspace / "params.yaml").params.compressor.path
    run(tiny_workspace, "train")
    copied = contents(tiny_workspace / "data/replay/compressor")
    assert copied.keys() == {"config.json", "compressor.safetensors", "SHA256SUMS"}
    assert copied.items() <= contents(shipped).items()


def test_a_missing_shipped_compressor_is_named(tiny_workspace: Path) -> None:
    change(tiny_workspace, "compressor", path="nowhere")
    with pytest.raises(cmt.ModelError, match=r"no compressor in .*nowhere.*train\.enabled"):
        run(tiny_workspace, "train")


@pytest.fixture
def trainable(tiny_workspace: Path) -> Path:
    """A project with training switched on and a data set of four paragraphs."""
    names = ("Moss", "Vell", "Greta", "Aziz")
    paragraphs = [
        {
            "context": f"{name} built it.",
            "qas": [{"id": f"q-{name}", "question": f"Who built {place}?", "answers": [{"text": name}]}],
        }
        for place, name in enumerate(names)
    ]
    data = [{"title": f"Title {place}", "paragraphs": [part]} for place, part in enumerate(paragraphs)]
    (tiny_workspace / "squad.json").write_text(json.dumps({"version": "1.1", "data": data}))
    change(
        tiny_workspace,
        "train",
        enabled=True,
        source="path:squad.json",
        questions=4,
        paragraphs=2,
        validation_articles=1,
        bf16=False,
        save_steps=1,
    )
    change(tiny_workspace, "lm", dtype="float32")
    return tiny_workspace


def test_rounds_run_with_a_trained_compressor(trainable: Path) -> None:
    shipped = cmt.open(params=trainable / "params.yaml").params.compressor.path
    run(trainable, "prepare", "train", "replay")
    trained = contents(trainable / "data/replay/compressor")
    assert trained.keys() == {"config.json", "compressor.safetensors", "SHA256SUMS", "card.md", "curve.png"}
    assert trained["compressor.safetensors"] != contents(shipped)["compressor.safetensors"]
    assert metrics(trainable, "replay")["committed"] == 2


def test_a_finished_training_is_repeated_only_with_other_settings(trainable: Path) -> None:
    run(trainable, "train")
    first = contents(trainable / "data/replay/compressor")
    [folder] = (trainable / "data/replay/training").iterdir()
    (folder / "compressor.safetensors").touch()
    written = (folder / "compressor.safetensors").stat().st_mtime_ns
    run(trainable, "train")
    assert contents(trainable / "data/replay/compressor") == first
    assert (folder / "compressor.safetensors").stat().st_mtime_ns == written
    change(trainable, "train", learning_rate=0.01)
    run(trainable, "train")
    assert len(list((trainable / "data/replay/training").iterdir())) == 2
    assert contents(trainable / "data/replay/compressor") != first


# replay


def test_a_replay_is_a_round_for_every_slice(replayed: Path) -> None:
    result = metrics(replayed, "replay")
    assert {name: result[name] for name in ("slices", "committed", "rows")} == {"slices": 2, "committed": 2, "rows": 6}
    assert [(r["slice"], r["documents"], r["rows"]) for r in result["rounds"]] == [
        ("2031-01/0001", 3, 3),
        ("2031-02/0001", 3, 6),
    ]
    assert {*SCORES, "recall", "closed_f1", "rag_f1", "rag_recall"} <= result["last"].keys()
    assert result["last"].items() <= result["rounds"][1].items()
    workspace = dvc_stages.workspace(replayed / "params.yaml")
    assert json.loads(pin(replayed)) == {
        "table": workspace.open_bank().name,
        "rows": 6,
        "digest": workspace.rounds()[1].bank_digest,
        "calibration": workspace.calibration()._asdict(),
    }
    assert matplotlib.image.imread(replayed / "plots/rounds.png").shape == (720, 960, 4)


def test_a_replay_has_the_error_of_the_confidence_with_and_without_calibration(tiny_workspace: Path) -> None:
    change(tiny_workspace, "selection", abstain_below=0)
    run(tiny_workspace, "prepare", "train", "replay")
    result = metrics(tiny_workspace, "replay")
    workspace = dvc_stages.workspace(tiny_workspace / "params.yaml")
    records = [pq.read_table(path) for path in sorted(workspace.state.glob("rounds/*/answers.parquet"))]
    answers = pa.concat_tables(records)
    outcome = answers["cmt_f1"].to_numpy()
    for name, column in (("calibration_error", "confidence"), ("uncalibrated_error", "uncalibrated")):
        assert result[name] == pytest.approx(reliability(answers[column].to_numpy(), outcome).error, abs=1e-4)
    assert result["calibration_error"] != result["uncalibrated_error"]


def test_a_replay_from_scratch_gives_the_same_bytes_and_leaves_the_live_bank_and_mlflow_alone(
    replayed: Path, tiny_workspace: Path
) -> None:
    change(tiny_workspace, "tracking", enabled=True)
    run(tiny_workspace)
    assert results(tiny_workspace) == results(replayed)
    assert sorted(path.name for path in (tiny_workspace / "data").iterdir()) == ["replay"]
    assert not (tiny_workspace / "mlflow.db").exists()


def test_a_replay_over_an_earlier_one_gives_the_same_bytes(replayed: Path) -> None:
    before = results(replayed)
    dvc_stages.workspace(replayed / "params.yaml").rollback("2031-02/0001")
    run(replayed)
    assert results(replayed) == before


def test_metrics_have_no_durations_dates_or_paths(replayed: Path) -> None:
    text = "".join((replayed / f"metrics/{name}.json").read_text() for name in ("replay", "scores"))
    assert not any(word in text for word in ("seconds", "_at", 'commit"', str(replayed)))


def test_a_refused_round_is_recorded_and_the_replay_goes_on(replayed: Path) -> None:
    change(replayed, "gate", min_f1=100)
    run(replayed, "replay")
    result = metrics(replayed, "replay")
    assert (result["committed"], result["rows"], result["last"]) == (0, 0, {})
    assert [r["state"] for r in result["rounds"]] == ["refused", "refused"]
    assert json.loads(pin(replayed))["rows"] == 0
    assert (replayed / "plots/rounds.png").read_bytes().startswith(b"\x89PNG")


def test_baseline_answers_are_cached_for_one_setting(replayed: Path) -> None:
    [cache] = (replayed / "data/replay/state").glob("prompts-*")
    filled = cache.read_bytes()
    change(replayed, "selection", top_k=2)
    run(replayed, "replay", "evaluate")
    assert cache.read_bytes() == filled
    change(replayed, "answering", max_new_tokens=2)
    run(replayed, "replay")
    [other] = (replayed / "data/replay/state").glob("prompts-*")
    assert other != cache


# evaluate


def test_an_evaluation_asks_every_system_all_questions(replayed: Path) -> None:
    result = metrics(replayed, "scores")
    assert result.keys() == {"cmt", "closed", "rag"}
    assert result["closed"].keys() == {*SCORES, "n"}
    assert result["rag"].keys() == {*SCORES, "recall", "n"}
    assert result["cmt"].keys() == {*SCORES, "recall", "calibration_error", "likely", "likely_right", "n"}
    assert {row["n"] for row in result.values()} == {4}
    assert (replayed / "plots/scores.png").read_bytes().startswith(b"\x89PNG")


def test_another_bank_than_the_pinned_one_is_not_evaluated(replayed: Path) -> None:
    dvc_stages.workspace(replayed / "params.yaml").rollback("2031-02/0001")
    with pytest.raises(cmt.RoundError, match=r"is not the one in .*bank\.json.*dvc repro --force replay"):
        run(replayed, "evaluate")
    shutil.rmtree(replayed / "data/replay/bank")
    with pytest.raises(cmt.RoundError, match="is not the one"):
        run(replayed, "evaluate")


# The command


def test_the_command_runs_a_stage_and_prints_a_summary(
    tiny_workspace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tiny_workspace)
    dvc_stages.main("prepare")
    assert "6 documents and 4 questions taken into 2 slices" in capsys.readouterr().err


# The pin


BANK_SCHEMA = bank_schema(key_dim=2, codes="fp16", dim=2, compressor="c" * 64)


def memories(*numbers: int) -> pa.Table:
    """Rows of a bank, one document a number."""
    rows = [
        {
            "memory_id": f"d{number}#0",
            "doc_id": f"d{number}",
            "slice_id": "2031-01/0001",
            "published_at": datetime(2031, 1, number, tzinfo=UTC),
            "sha256": f"{number:064}",
            "compressor": "c" * 64,
            "key": [1.0, float(number)],
            "memory": np.zeros(2, "<f2").tobytes(),
            "n_vectors": 1,
            "n_tokens": 3,
            "text": f"text {number}",
        }
        for number in numbers
    ]
    return pa.Table.from_pylist(rows, schema=BANK_SCHEMA)


def pinned_bytes(folder: Path, *batches: pa.Table) -> bytes:
    """The pin of a new bank with these rows."""
    bank = open_bank(BankLocation(str(folder / "bank")), schema=BANK_SCHEMA)
    for batch in batches:
        bank.upsert(batch)
    dvc_stages.pin(bank, NO_CALIBRATION, folder / "bank.json")
    return (folder / "bank.json").read_bytes()


def test_equal_banks_have_equal_pins_in_whatever_order_they_were_written(tmp_path: Path) -> None:
    once = pinned_bytes(tmp_path / "once", memories(1, 2, 3))
    assert pinned_bytes(tmp_path / "one-by-one", memories(3), memories(2), memories(1)) == once
    assert pinned_bytes(tmp_path / "other", memories(1, 2, 4)) != once
    assert json.loads(once).keys() == {"table", "rows", "digest", "calibration"}
    assert json.loads(once)["rows"] == 3
