"""The git commit that a result was computed with."""

import subprocess
from pathlib import Path


def git_commit(root: Path) -> str:
    """Hash of the commit checked out in `root`, with a `+` if tracked files have changed; "" outside git."""
    head = _git(root, "rev-parse", "HEAD")
    changed = head and _git(root, "status", "--porcelain", "--untracked-files=no")
    return f"{head}+" if changed else head


def _git(root: Path, *arguments: str) -> str:
    """Output of a git command in `root`; "" if it fails or git is not installed."""
    try:
        result = subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True, check=False)  # noqa: S603, S607 - fixed arguments
    except OSError:
        return ""
    return result.stdout.strip() if result.returncode == 0 else ""
