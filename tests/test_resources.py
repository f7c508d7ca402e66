"""The resources of a project: opened, refused, and never created by reading."""

from collections.abc import Callable
from pathlib import Path

import lancedb
import pytest

import cmt
from cmt.bank.bank import open_banks
from cmt.bank.tables import LEASE
from cmt.lm.model import FrozenLM
from cmt.workspace import Workspace
from tests.helpers.projects import FEBRUARY, JANUARY, open_workspace, save_other_compressor
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
    assert (workspace.row_format, workspace.pending()) == ("int8-text", [FEBRUARY])
    other = open_workspace(project, bank__codes="int4", bank__keep_text=False, bank__uri=str(project / "other"))
    assert (other.row_format, other.pending()) == ("int4-vectors", [JANUARY, FEBRUARY])
    assert other.state == project / "state"


def test_the_prompt_cache_can_be_placed_elsewhere(project: Path) -> None:
    workspace = open_workspace(project)
    workspace.state.mkdir(parents=True, exist_ok=True)
    workspace.use_prompt_cache(project / "cache.sqlite")
    workspace.prompt_cache.complete(["Text: a"], max_new_tokens=1, batch_size=1)
    assert (project / "cache.sqlite").exists()
    assert not (workspace.state / "prompts.sqlite").exists()


def test_a_compressor_does_not_answer_before_its_bank_is_complete(project: Path) -> None:
    old = open_workspace(project)
    old.update(), old.update()
    path = str(save_other_compressor(old, project / "new"))
    tables = old.bank.connection.list_tables().tables
    with pytest.raises(cmt.BankError, match="run `cmt update --all` with it"):
        open_workspace(project, compressor__path=path).ask("Who?")
    assert old.bank.connection.list_tables().tables == tables
    open_workspace(project, compressor__path=path).update()
    with pytest.raises(cmt.BankError, match="run `cmt update --all` with it"):
        open_workspace(project, compressor__path=path).evaluate()
    open_workspace(project, compressor__path=path).update()
    new = open_workspace(project, compressor__path=path)
    assert new.ask("Who?").sources
    assert {bank.name for bank in open_banks(new.bank_location)} == {old.bank.name, new.bank.name}


def test_a_compressor_of_another_lm_is_refused(project: Path, tmp_path: Path) -> None:
    other = tiny_model()
    other.model.norm.weight.data += 1
    other.save_pretrained(tmp_path / "other")
    tiny_tokenizer().save_pretrained(tmp_path / "other")
    workspace = open_workspace(project, lm__source=f"path:{tmp_path / 'other'}", lm__path=str(tmp_path / "pulled"))
    workspace.pull()
    assert isinstance(workspace.lm, FrozenLM)
    with pytest.raises(cmt.ModelError, match=r"was trained for the LM .*cmt train"):
        workspace.update()
    assert lancedb.connect(workspace.params.bank.uri).list_tables().tables == [LEASE]


def test_a_bank_of_an_older_schema_is_refused_with_advice(project: Path) -> None:
    workspace = open_workspace(project)
    workspace.update()
    name = workspace.bank.name
    rows = workspace.bank.connection.open_table(name).to_arrow()
    older = rows.replace_schema_metadata({**rows.schema.metadata, b"schema_version": b"0"})
    lancedb.connect(workspace.params.bank.uri).create_table(name, older, mode="overwrite")
    uses: list[Callable[[Workspace], object]] = [
        Workspace.update,
        lambda workspace: workspace.ask("Who?"),
        lambda workspace: workspace.forget("ferry"),
    ]
    for use in uses:
        with pytest.raises(cmt.BankError, match=r"written with schema 0.*set bank\.uri to a new folder"):
            use(open_workspace(project))
