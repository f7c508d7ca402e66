"""The git commit and the DVC lock that a result was computed with."""

import subprocess
from pathlib import Path

from cmt.common.digests import sha256_file


def git_commit(root: Path) -> str:
    """Hash of the commit checked out in `root`, with a `+` if tracked files have changed; ""
    without git.
    """
    command = [
        "git",
        "-C",
        str(root),
        "describe",
        "--always",
        "--exclude=*",
        "--abbrev=40",
        "--dirty=+",
    ]
    try:
        result = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - fixed arguments
    except OSError:
        return ""
    return result.stdout.strip() if result.returncode == 0 else ""


def dvc_lock(root: Path) -> str:
    """SHA-256 of dvc.lock in `root`; "" if there is none."""
    path = root / "dvc.lock"
    return sha256_file(path) if path.is_file() else ""
