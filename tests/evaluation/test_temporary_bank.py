"""What is measured beside the bank has the memories that the bank has."""

import shutil
from pathlib import Path

import cmt
from cmt.evaluation.temporary_bank import TemporaryBank
from cmt.workspace import Workspace


def scratch(workspace: Workspace, folder: Path) -> TemporaryBank:
    documents = workspace.store.documents(workspace.store.slices()[0])
    return TemporaryBank.of(folder, lm=workspace.lm, documents=documents, params=workspace.params)


def test_the_compressor_in_use_has_the_windows_in_use_and_another_its_own(tiny_workspace: Path, tmp_path: Path) -> None:
    workspace = cmt.open(params=tiny_workspace / "params.yaml", overrides={"compressor.window": 8})
    workspace.ingest()
    folder = workspace.params.compressor.path
    assert scratch(workspace, folder).model.digest == workspace.model.digest
    other = scratch(workspace, Path(shutil.copytree(folder, tmp_path / "other")))
    assert other.model.window == 4
    assert other.model.digest != workspace.model.digest
