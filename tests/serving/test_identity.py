"""The identity of a project, by which `cmt ask` recognises its server."""

from pathlib import Path

import pytest

from cmt.config import load_params
from cmt.serving.identity import answering_digest, project_digest


def digest(folder: Path, **overrides: object) -> str:
    """The digest with overrides; `selection__top_k` is the key `selection.top_k`."""
    (folder / "params.yaml").touch()
    return answering_digest(
        load_params(folder / "params.yaml", {k.replace("__", "."): v for k, v in overrides.items()})
    )


def test_a_project_is_its_folder(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "project")
    (tmp_path / "project").mkdir()
    assert project_digest(tmp_path / "link") == project_digest(tmp_path / "project")
    assert project_digest(tmp_path) != project_digest(tmp_path / "project")


@pytest.mark.parametrize(
    "changed",
    [
        {"selection__top_k": 3},
        {"answering__max_new_tokens": 4},
        {"compressor__window": 8},
        {"bank__uri": "other/bank"},
        {"lm__dtype": "float32"},
    ],
    ids=str,
)
def test_a_parameter_that_shapes_answers_changes_the_digest(tmp_path: Path, changed: dict[str, object]) -> None:
    assert digest(tmp_path, **changed) != digest(tmp_path)


def test_other_parameters_do_not_change_the_digest(tmp_path: Path) -> None:
    assert digest(tmp_path, seed=7, gate__min_f1=50.0, train__questions=8) == digest(tmp_path)
