"""The git commit and the DVC lock that a result was computed with."""

import subprocess
from pathlib import Path

from cmt.common.digests import sha256_file


def git_commit(root: Path) -> str:
    """Hash of the commit checked out in `root`, with a `+` if tracked files have changed; "" outside git."""
    head = _git(root, "rev-parse", "HEAD")
    changed = head and _git(root, "status", "--porcelain", "--untracked-files=no")
    return f"{head}+" if changed else head


def dvc_lock(root: Path) -> str:
    """SHA-256 of dvc.lock in `root`; "" if there is none."""
    path = root / "dvc.lock"
    return sha256_file(path) if path.is_file() else ""


def _git(root: Path, *arguments: str) -> str:
    """Output of a git command in `root`; "" if it fails or git is not installed."""
    try:
        result = subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True, check=False)  # noqa: S603, S607 - fixed arguments
    except OSError:
        return ""
    return result.stdout.strip() if result.returncode == 0 else ""
