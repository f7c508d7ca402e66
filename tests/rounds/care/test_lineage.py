"""`cmt lineage`: a round and a version of the registry, followed through all stores."""

from pathlib import Path

import pytest

from cmt.common.digests import sha256_file
from cmt.errors import NotFoundError
from cmt.rounds.care.lineage import lineage
from tests.helpers.cli import read, run
from tests.helpers.projects import FEBRUARY, JANUARY, ingest_more, open_workspace


def test_a_round_names_its_slice_compressor_and_bank(registered: Path) -> None:
    workspace = open_workspace(registered)
    round_ = workspace.rounds()[0]
    [found] = lineage(workspace.project, JANUARY)
    assert found.name == f"round {JANUARY}"
    assert found.facts["slice digest"] == workspace.project.store.slice(JANUARY).digest
    assert found.facts["compressor"] == workspace.project.compressor_digest
    assert found.facts["compressor's folder"] == str(workspace.params.compressor.path)
    versions = found.facts["bank version before"], found.facts["bank version after"]
    assert versions == (str(round_.version_before), str(round_.version_after))
    assert "Prefect run" not in found.facts


def test_a_version_names_its_training_and_its_rounds(registered: Path) -> None:
    [found] = lineage(open_workspace(registered).project, "1")
    assert found.facts["aliases"] == "champion"
    assert found.facts["decision"] == "promoted: it is the compressor in use"
    assert found.facts["rounds"].startswith(JANUARY)
    assert len(found.facts["training run in MLflow"]) == 32


def test_what_is_unknown_is_named(registered: Path) -> None:
    with pytest.raises(NotFoundError, match=rf"there is no round 'May' \(there are: {JANUARY}"):
        lineage(open_workspace(registered).project, "May")
    with pytest.raises(NotFoundError, match="no version 7 of cmt is registered"):
        lineage(open_workspace(registered).project, "7")
    with pytest.raises(NotFoundError, match="no bank of compressor 0123456789ab is here"):
        lineage(open_workspace(registered).project, "0123456789ab-1-0123456789ab")


def test_an_answer_leads_to_the_compressor_and_the_last_round_before_it(
    adapted_workspace: Path,
) -> None:
    workspace = open_workspace(adapted_workspace)
    earlier = workspace.ask("Who is the mayor?").id
    assert earlier == workspace.ask("Who is the mayor?").id
    version = str(workspace.project.bank.version)
    (adapted_workspace / "dvc.lock").write_text("schema: '2.0'\n")
    ingest_more(adapted_workspace, month=3, doc_ids=["march"])
    march = open_workspace(adapted_workspace).update()
    # 1. The answer of before the round.
    found, round_ = lineage(open_workspace(adapted_workspace).project, earlier)
    assert (found.facts["compressor"], found.facts["bank version"]) == (march.compressor, version)
    assert (found.facts["last round before"], round_.name) == (FEBRUARY, f"round {FEBRUARY}")
    # 2. An answer of after it.
    workspace = open_workspace(adapted_workspace)
    found, round_ = lineage(workspace.project, workspace.ask("Who is the mayor?").id)
    assert found.facts["last round before"] == march.round_id
    assert round_.facts["slice digest"] == march.slice_digest
    # 3. The same answer once its round is rolled back.
    given = workspace.ask("Who is the mayor?").id
    open_workspace(adapted_workspace).rollback(march.round_id)
    _, round_ = lineage(open_workspace(adapted_workspace).project, given)
    assert (round_.name, round_.facts["state"]) == (f"round {march.round_id}", "rolled_back")
    # 4. The round, which records the lock of DVC.
    facts = read(adapted_workspace, "lineage", march.round_id)["lineage"][0]["facts"]
    assert facts["dvc.lock"] == sha256_file(adapted_workspace / "dvc.lock")
    assert march.slice_digest in run(adapted_workspace, "lineage", march.round_id).stdout
