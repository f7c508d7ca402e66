"""`cmt lineage`: a round and a version of the registry, followed through all stores."""

from pathlib import Path

import pytest

from cmt.common.digests import sha256_file
from cmt.errors import ConfigError
from cmt.rounds.lineage import lineage
from tests.helpers.cli import read, run
from tests.helpers.projects import JANUARY, ingest_more, open_workspace


def test_a_round_names_its_slice_compressor_and_bank(registered: Path) -> None:
    workspace = open_workspace(registered)
    round_ = workspace.rounds()[0]
    [found] = lineage(workspace, JANUARY)
    assert found.name == f"round {JANUARY}"
    assert found.facts["slice digest"] == workspace.store.slice(JANUARY).digest
    assert found.facts["compressor"] == workspace.compressor_digest
    assert found.facts["compressor's folder"] == str(workspace.params.compressor.path)
    versions = found.facts["bank version before"], found.facts["bank version after"]
    assert versions == (str(round_.version_before), str(round_.version_after))
    assert "Prefect run" not in found.facts


def test_a_version_names_its_training_and_its_rounds(registered: Path) -> None:
    [found] = lineage(open_workspace(registered), "1")
    assert found.facts["aliases"] == "champion"
    assert found.facts["decision"] == "promoted: it is the compressor in use"
    assert found.facts["rounds"].startswith(JANUARY)
    assert len(found.facts["training run in MLflow"]) == 32


def test_the_lock_of_dvc_is_that_of_the_round(adapted_workspace: Path) -> None:
    (adapted_workspace / "dvc.lock").write_text("schema: '2.0'\n")
    ingest_more(adapted_workspace, month=3, doc_ids=["march"])
    round_ = open_workspace(adapted_workspace).update()
    facts = read(adapted_workspace, "lineage", round_.round_id)["lineage"][0]["facts"]
    assert facts["dvc.lock"] == sha256_file(adapted_workspace / "dvc.lock")
    assert round_.slice_digest in run(adapted_workspace, "lineage", round_.round_id).stdout


def test_what_is_unknown_is_named(registered: Path) -> None:
    with pytest.raises(ConfigError, match=f"there is no round 'May'; there are: {JANUARY}"):
        lineage(open_workspace(registered), "May")
    with pytest.raises(ConfigError, match="no version 7 of cmt is registered"):
        lineage(open_workspace(registered), "7")


def test_an_answer_leads_to_what_answered_and_to_its_last_round(adapted_workspace: Path) -> None:
    workspace = open_workspace(adapted_workspace)
    answer = workspace.ask("Who is the mayor?")
    assert answer.id == workspace.ask("Who is the mayor?").id
    found, round_ = lineage(workspace, answer.id)
    last = max(workspace.rounds(), key=lambda one: one.number)
    assert found.facts["compressor"] == last.compressor
    assert found.facts["bank version"] == str(workspace.bank.version)
    assert (found.facts["last round before"], round_.name) == (last.round_id, f"round {last.round_id}")
    assert round_.facts["slice digest"] == last.slice_digest


def test_an_earlier_answer_leads_to_an_earlier_round(adapted_workspace: Path) -> None:
    earlier = open_workspace(adapted_workspace).ask("Who is the mayor?").id
    ingest_more(adapted_workspace, month=3, doc_ids=["march"])
    workspace = open_workspace(adapted_workspace)
    march = workspace.update().round_id
    later = workspace.ask("Who is the mayor?").id
    assert lineage(workspace, later)[0].facts["last round before"] == march
    assert lineage(workspace, earlier)[0].facts["last round before"] != march


def test_an_answer_of_another_project_is_unknown(adapted_workspace: Path) -> None:
    with pytest.raises(ConfigError, match="no bank of compressor 0123456789ab is here"):
        lineage(open_workspace(adapted_workspace), "0123456789ab-1-0123456789ab")
