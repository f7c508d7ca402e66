"""The parts of a project: opened, refused, and never created by reading."""

from pathlib import Path

import lancedb
import pytest

import cmt
from cmt.bank.tables import LEASE
from cmt.lm.model import FrozenLM
from tests.helpers.projects import FEBRUARY, JANUARY, open_workspace
from tests.helpers.tiny import tiny_model, tiny_tokenizer


@pytest.fixture
def project(tiny_workspace: Path) -> Path:
    """A project folder with two pending slices."""
    open_workspace(tiny_workspace).ingest()
    return tiny_workspace


def test_reading_a_project_without_a_bank_creates_none(project: Path) -> None:
    workspace = open_workspace(project)
    assert (workspace.rounds(), workspace.pending()) == ([], [JANUARY, FEBRUARY])
    with pytest.raises(cmt.BankError, match="run `cmt update` first"):
        workspace.ask("Who?")
    assert not (project / "data/bank").exists()


def test_another_row_format_makes_all_slices_pending(project: Path) -> None:
    workspace = open_workspace(project)
    workspace.update()
    assert (workspace.project.row_format, workspace.pending()) == ("int8-text", [FEBRUARY])
    other = open_workspace(
        project, bank__codes="int4", bank__keep_text=False, bank__uri=str(project / "other")
    )
    assert (other.project.row_format, other.pending()) == ("int4-vectors", [JANUARY, FEBRUARY])
    assert other.project.state == project / "state"


def test_a_compressor_of_another_lm_is_refused(project: Path, tmp_path: Path) -> None:
    other = tiny_model()
    other.model.norm.weight.data += 1
    other.save_pretrained(tmp_path / "other")
    tiny_tokenizer().save_pretrained(tmp_path / "other")
    workspace = open_workspace(
        project, lm__source=f"path:{tmp_path / 'other'}", lm__path=str(tmp_path / "pulled")
    )
    workspace.pull()
    assert isinstance(workspace.project.lm, FrozenLM)
    with pytest.raises(
        cmt.ModelError, match="was trained for the LM .*set lm.source back, or run `cmt train`"
    ):
        workspace.update()
    assert lancedb.connect(workspace.params.bank.uri).list_tables().tables == [LEASE]
