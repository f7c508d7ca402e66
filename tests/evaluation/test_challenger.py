"""A challenger and the compressor in use on the same questions, none of which they were trained
on.
"""

from pathlib import Path

import pytest

from cmt.errors import NotFoundError
from cmt.evaluation.challenger import _documents_up_to, deciding_slice, questions_of
from tests.helpers.projects import FEBRUARY, JANUARY, ingest_more, open_workspace


def card(folder: Path, *slices: str) -> Path:
    """A compressor's folder whose card names `slices`."""
    folder.mkdir()
    (folder / "card.md").write_text(
        f"| slices of the stream | {', '.join(slices)} |\n" if slices else "# Compressor\n"
    )
    return folder


def test_the_slice_that_decides_is_after_all_that_was_trained_on(
    adapted_project: Path, tmp_path: Path
) -> None:
    store = open_workspace(adapted_project).project.store
    base = card(tmp_path / "base")
    january = card(tmp_path / "january", JANUARY)
    february = card(tmp_path / "february", FEBRUARY)
    assert deciding_slice(store, (base, base)) == FEBRUARY
    assert deciding_slice(store, (base, base), wanted=JANUARY) == JANUARY
    assert deciding_slice(store, (january, base)) == FEBRUARY
    # neither the challenger nor the compressor in use may have seen it, or a later one
    for folders in ((january, base), (base, january)):
        with pytest.raises(
            NotFoundError, match=f"cannot decide: choose one with questions after {JANUARY}"
        ):
            deciding_slice(store, folders, wanted=JANUARY)
    with pytest.raises(NotFoundError, match=f"no slice with questions after {FEBRUARY}"):
        deciding_slice(store, (base, february))


def test_slices_without_questions_decide_nothing(adapted_workspace: Path, tmp_path: Path) -> None:
    ingest_more(adapted_workspace, month=3, doc_ids=["march"])
    assert (
        deciding_slice(open_workspace(adapted_workspace).project.store, (card(tmp_path / "base"),))
        == FEBRUARY
    )


def test_documents_of_later_slices_are_not_answered_from(adapted_workspace: Path) -> None:
    store = open_workspace(adapted_workspace).project.store
    january = store.documents(store.slice(JANUARY))["doc_id"].to_pylist()
    february = store.documents(store.slice(FEBRUARY))["doc_id"].to_pylist()
    assert _documents_up_to(store, JANUARY, limit=100)["doc_id"].to_pylist() == january
    both = _documents_up_to(store, FEBRUARY, limit=100)["doc_id"].to_pylist()
    assert both == [*(doc_id for doc_id in january if doc_id not in february), *february]
    assert _documents_up_to(store, FEBRUARY, limit=2)["doc_id"].to_pylist() == both[-2:]
    open_workspace(adapted_workspace).forget(february[0])
    assert february[0] not in _documents_up_to(store, FEBRUARY, limit=100)["doc_id"].to_pylist()


def test_the_questions_are_a_sample_that_stays(adapted_project: Path) -> None:
    workspace = open_workspace(adapted_project, promotion__questions=2)
    ids = questions_of(workspace.project, FEBRUARY)["question_id"].to_pylist()
    assert len(ids) == 2
    assert questions_of(workspace.project, FEBRUARY)["question_id"].to_pylist() == ids
