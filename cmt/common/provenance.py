"""The git commit that a result comes from."""

import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    pass


def git_commit(root: Path) -> str:
    """The commit checked out in `root`, "" outside git; `+` at the end: tracked files are changed."""
    head = _git(root, "rev-parse", "HEAD")
    changed = head and _git(root, "status", "--porcelain", "--untracked-files=no")
    return f"{head}+" if changed else head


def _git(root: Path, *arguments: str) -> str:
    try:
        done = subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True, check=False)  # noqa: S603, S607 - fixed arguments
    except OSError:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
