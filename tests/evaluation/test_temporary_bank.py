"""Temporary banks hold the same memories as the project's bank."""

import shutil
from pathlib import Path

import cmt
from cmt.evaluation.temporary_bank import TemporaryBank


def compressed(workspace: cmt.Workspace, folder: Path) -> TemporaryBank:
    documents = workspace.project.store.documents(workspace.project.store.slices()[0])
    return TemporaryBank.of(
        folder,
        lm=workspace.project.lm,
        documents=documents,
        params=workspace.params,
        state=workspace.project.state,
    )


def test_another_compressor_has_a_window_of_its_own(tiny_workspace: Path, tmp_path: Path) -> None:
    workspace = cmt.open(params=tiny_workspace / "params.yaml", overrides={"compressor.window": 8})
    workspace.ingest()
    folder = workspace.params.compressor.path
    assert compressed(workspace, folder).model.digest == workspace.project.model.digest
    other = compressed(workspace, Path(shutil.copytree(folder, tmp_path / "other")))
    assert other.model.window == 4
    assert other.model.digest != workspace.project.model.digest


def test_a_bank_of_some_documents_holds_these_alone_and_is_deleted(adapted: cmt.Workspace) -> None:
    temporary = compressed(adapted, adapted.params.compressor.path)
    with temporary.answerer() as everything, temporary.answerer({"ferry", "elsewhere"}) as some:
        assert everything.bank.count_rows() == temporary.rows.num_rows == 3
        assert some.bank.count_rows() == 1
        folder = Path(some.bank.connection.uri)
        assert folder.is_dir()
        assert (
            folder.parent == adapted.project.state / "scratch"
        )  # where a purge and the next command find it after a kill
    assert not folder.exists()


def test_the_next_command_deletes_what_a_killed_comparison_left(tiny_workspace: Path) -> None:
    left = cmt.open(params=tiny_workspace / "params.yaml").project.state / "scratch/dead"
    left.mkdir(parents=True)
    (left / "rows").write_text("text")
    cmt.open(params=tiny_workspace / "params.yaml")
    assert not left.exists()
