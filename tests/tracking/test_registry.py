"""Compressors as versions of a registered model."""

import re
import shutil
import tomllib
from dataclasses import fields
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.artifacts import download_artifacts
from mlflow.models import Model

from cmt.answering.answer import Source
from cmt.common.difference import Difference
from cmt.config import TrackingParams
from cmt.errors import ModelError
from cmt.evaluation.challenger_decision import Decision, Figures, Measured
from cmt.modeling.champion import champion_folder, read_champion
from cmt.modeling.checkpoint import checkpoint_digest
from cmt.rounds.promotion import promote_version
from cmt.tracking.registry import CHAMPION, NEEDED, Registry
from tests.helpers.cli import read, run
from tests.helpers.lamps import write_lamps
from tests.helpers.projects import JANUARY, change_params, open_workspace, save_other_compressor
from tests.helpers.registry import HELD_OUT, add

NAME = "cmt"  # the default of tracking.registered_model
ROOT = Path(__file__).parents[2]


@pytest.fixture
def project(registered: Path, tmp_path: Path) -> Path:
    """A copy to change, with its database; the files of the versions stay in the original."""
    return Path(shutil.copytree(registered, tmp_path / "registered"))


def client(folder: Path) -> MlflowClient:
    return MlflowClient(tracking_uri=f"sqlite:///{folder / 'mlflow.db'}")


def aliases(folder: Path) -> dict[str, tuple[str, ...]]:
    """The aliases of each version."""
    return {
        found.version: found.aliases for found in open_workspace(folder).project.registry.versions()
    }


def test_a_version_has_all_that_serving_needs_and_no_pickle(registered: Path) -> None:
    found = client(registered).get_model_version_by_alias(NAME, CHAMPION)
    compressor = open_workspace(registered).params.compressor.path
    assert found.tags == {
        "cmt.digest": checkpoint_digest(compressor),
        "cmt.held_out": HELD_OUT,
        "cmt.decision": "promoted: it is the compressor in use",
        "f1": "40",
    }
    folder = Path(download_artifacts(found.source))
    assert checkpoint_digest(folder / "artifacts/compressor") == checkpoint_digest(compressor)
    assert (folder / "code/cmt/serving/mlflow_model.py").read_bytes() == (
        folder / "mlflow_model.py"
    ).read_bytes()
    suffixes = {path.suffix for path in folder.rglob("*") if path.is_file()}
    assert len(list(folder.rglob("compressor.safetensors"))) == 1
    assert not suffixes & {".pkl", ".pickle", ".pt", ".pth", ".bin"}
    assert found.run_id and client(registered).get_run(found.run_id).info.status == "FINISHED"


def test_a_version_declares_its_inputs_outputs_and_requirements(registered: Path) -> None:
    folder = Path(download_artifacts(client(registered).get_model_version(NAME, "1").source))
    # 1. Inputs and outputs.
    model = Model.load(folder)
    assert model.signature
    assert {column.name: column.required for column in model.signature.inputs} == {
        "question": True,
        "as_of": False,
    }
    assert model.signature.outputs.input_names() == [
        "answer",
        "verdict",
        "known",
        "confidence",
        "sources",
    ]
    source = model.signature.outputs.inputs[-1].type.dtype
    assert {of.name for of in source.properties} == {field.name for field in fields(Source)}
    example = model.load_input_example(str(folder))
    assert example.to_dict("records") == [
        {"question": "Who is the mayor of Port Ellery?", "as_of": "2031-02-15"}
    ]
    # 2. Requirements of the package, each in one version.
    lines = (folder / "requirements.txt").read_text().split()
    assert [line.partition("==")[0] for line in lines] == list(NEEDED)
    assert all(re.fullmatch(r"[a-z-]+==[0-9.]+", line) for line in lines)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lines = [*project["dependencies"], *project["optional-dependencies"]["pipeline"]]
    assert {re.split(r"[<>=]", line)[0] for line in lines} >= set(NEEDED)


def test_the_same_weights_are_one_version_and_a_promotion_moves_the_aliases(
    project: Path, tmp_path: Path
) -> None:
    workspace = open_workspace(project)
    assert add(project, workspace.params.compressor.path, f1=42.0) == "1"
    assert add(project, save_other_compressor(workspace, tmp_path / "b"), f1=41.0) == "2"
    versions = workspace.project.registry
    assert [(found.version, found.f1, found.aliases) for found in versions.versions()] == [
        ("2", 41.0, ("challenger",)),
        ("1", 42.0, ("champion",)),
    ]
    versions.set_champion(versions.version("2"), tags={"cmt.decision": "promoted: a test"})
    assert aliases(project) == {"2": ("champion",), "1": ("previous",)}
    assert client(project).get_model_version(NAME, "2").tags["cmt.decision"] == "promoted: a test"
    folder = versions.download(versions.version("2"), tmp_path / "download")
    assert checkpoint_digest(folder) == checkpoint_digest(tmp_path / "b")


def test_projects_with_a_name_each_share_a_database(project: Path) -> None:
    other = Registry(
        TrackingParams(uri=f"sqlite:///{project}/mlflow.db", registered_model="other"), project
    )
    assert other.versions() == []
    workspace = open_workspace(project)
    folder, params = workspace.params.compressor.path, project / "params.yaml"
    assert other.add(folder, project=params, params=workspace.params, scores={}, held_out="") == "1"
    assert [found.aliases for found in other.versions()] == [("challenger",)]
    assert aliases(project) == {"1": ("champion",)}


def kill(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize("step", ["create_model_version", "set_registered_model_alias"])
def test_a_killed_registration_is_completed_by_the_next_one(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    compressor = save_other_compressor(open_workspace(project), tmp_path / "b")
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(MlflowClient, step, kill)
        add(project, compressor, f1=41.0)
    assert add(project, compressor, f1=41.0) == "2"
    assert aliases(project) == {"2": ("challenger",), "1": ("champion",)}


def test_the_commands_measure_register_compare_and_promote(project: Path, tmp_path: Path) -> None:
    lessons(project)
    workspace = open_workspace(project)
    compressor = save_other_compressor(workspace, tmp_path / "b")
    added = read(project, "registry", "add", str(compressor), "--questions", "3")
    assert added["version"] == "2"
    assert added["held_out"] == "3 questions on 1 articles of lamps.json, seed 0"
    assert 0 <= added["scores"]["f1"] <= 100
    # random weights answer nothing: the challenger is as good, and neither smaller nor faster by so
    # much
    limits = "promotion={max_loss: 100, min_saving: 0.99}"
    refused = read(project, "--set", limits, "registry", "promote", "2", "--slice", JANUARY)
    assert (refused["promoted"], refused["figures"]["slice_id"]) == (False, JANUARY)
    assert "as good, but not 99% smaller or faster" in refused["reason"]
    tags = client(project).get_model_version(NAME, "2").tags
    assert tags["cmt.decision"] == f"refused: {refused['reason']}"
    assert float(tags["cmt.challenger.bytes_per_document"]) > 0
    listed = read(project, "registry", "list")["versions"]
    assert [(found["version"], found["aliases"]) for found in listed] == [
        ("2", []),
        ("1", ["champion"]),
    ]
    shown = run(project, "registry", "list").stdout
    assert re.search(
        r"1\s+champion\s+[0-9a-f]{12}\s+500 questions on 20 articles, seed 0\s+40\.00", shown
    )
    assert read_champion(workspace.project.state) is None


def test_a_promotion_names_the_champion_and_keeps_both_compressors(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lessons(project)
    workspace = open_workspace(project)
    in_use = workspace.params.compressor.path
    assert add(project, save_other_compressor(workspace, tmp_path / "b"), f1=None) == "2"
    monkeypatch.setattr("cmt.rounds.promotion.decide", lambda *_: Decision(True, "a test"))
    assert promote_version(workspace.project, slice_id=JANUARY).promoted
    named = read_champion(workspace.project.state)
    assert named
    assert (named.champion.digest, named.champion.version) == (
        checkpoint_digest(tmp_path / "b"),
        "2",
    )
    assert (named.champion.scored_slice, named.previous.digest) == (
        JANUARY,
        checkpoint_digest(in_use),
    )
    for one in (named.champion, named.previous):
        assert checkpoint_digest(champion_folder(workspace.project.state, one.digest)) == one.digest
    assert aliases(project) == {"2": ("champion",), "1": ("previous",)}
    again = promote_version(open_workspace(project).project)
    assert (again.promoted, again.reason) == (False, "version 2 is the champion already")
    # the bank of the champion is not filled yet
    assert open_workspace(project).params.compressor.path == champion_folder(
        workspace.project.state, named.previous.digest
    )


def test_a_lost_record_of_the_champion_is_written_again(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lessons(project)
    workspace = open_workspace(project)
    add(project, save_other_compressor(workspace, tmp_path / "b"), f1=None)
    monkeypatch.setattr("cmt.rounds.promotion.decide", lambda *_: Decision(True, "a test"))
    promote_version(workspace.project, slice_id=JANUARY)
    named, file = read_champion(workspace.project.state), workspace.project.state / "champion.json"
    file.write_text("{")
    with pytest.raises(ModelError, match="champion.json, .* is damaged .* remove it"):
        promote_version(open_workspace(project).project, slice_id=JANUARY)
    file.unlink()
    assert promote_version(open_workspace(project).project, slice_id=JANUARY).promoted
    assert read_champion(workspace.project.state) == named


@pytest.mark.parametrize(
    "step", ["cmt.rounds.promotion.write_champion", "cmt.tracking.registry.Registry.set_champion"]
)
def test_a_killed_promotion_is_completed_by_the_next_one(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    workspace = open_workspace(project)
    assert add(project, save_other_compressor(workspace, tmp_path / "b"), f1=None) == "2"
    # as measured of two compressors, the second of which is better
    measured, better = Measured(60.0, 60.0, 0.2, 1000.0), Difference(5.0, 1.0, 9.0)
    figures = Figures(JANUARY, 80, 500, measured, measured, better, better)
    monkeypatch.setattr(
        "cmt.rounds.promotion.compare_with_challenger", lambda *_args, **_options: figures
    )
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(step, kill)
        promote_version(workspace.project)
    assert promote_version(open_workspace(project).project).promoted
    named = read_champion(workspace.project.state)
    assert named
    assert named.champion.digest == checkpoint_digest(tmp_path / "b")
    assert aliases(project) == {"2": ("champion",), "1": ("previous",)}


def lessons(project: Path) -> None:
    """Four articles to measure on."""
    lamps = write_lamps(project, ["Ann", "Bea", "Cyd", "Dot"])
    change_params(project, train={**lamps, "validation_articles": 1})
