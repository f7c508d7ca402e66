import subprocess
from pathlib import Path

import pytest

from cmt.common.provenance import git_commit


def git(folder: Path, *arguments: str) -> str:
    """Output of a git command in `folder`."""
    identity = ["-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false"]
    command = ["git", "-C", str(folder), *identity, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository with one commit of one file."""
    git(tmp_path, "init", "-q")
    (tmp_path / "file").write_text("a")
    git(tmp_path, "add", "file")
    git(tmp_path, "commit", "-qm", "first")
    return tmp_path


def test_a_folder_has_the_commit_of_its_repository(repository: Path) -> None:
    (repository / "untracked").write_text("b")
    (repository / "below").mkdir()
    assert (
        git_commit(repository)
        == git_commit(repository / "below")
        == git(repository, "rev-parse", "HEAD")
    )


def test_changed_files_are_marked_with_a_plus(repository: Path) -> None:
    (repository / "file").write_text("b")
    assert git_commit(repository) == git(repository, "rev-parse", "HEAD") + "+"


def test_outside_git_or_without_git_the_commit_is_empty(
    repository: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert git_commit(tmp_path_factory.mktemp("outside")) == ""
    monkeypatch.setenv("PATH", "")
    assert git_commit(repository) == ""
