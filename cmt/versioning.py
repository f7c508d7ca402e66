"""What pins a state of the project for git and DVC: the commit, and a small file for the bank.

A Lance folder has other bytes each time it is written, so DVC does not hold it: the pin's digest over the sorted rows
says whether two banks are the same.
"""

import json
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cmt.stream.storage import write_bytes

if TYPE_CHECKING:
    from cmt.bank import Bank


def git_commit(root: Path) -> str:
    """The commit checked out in `root`, "" outside git; `+` at the end: tracked files are changed."""
    head = _git(root, "rev-parse", "HEAD")
    changed = head and _git(root, "status", "--porcelain", "--untracked-files=no")
    return f"{head}+" if changed else head


def pin(bank: "Bank", path: Path) -> None:
    """Write table, rows and digest of `bank` to `path`: equal files mean equal banks."""
    record = {"table": bank.name, "rows": bank.count_rows(), "digest": bank.digest()}
    write_json(path, record)


def write_json(path: Path, content: Any) -> None:
    """Write `content` as JSON, whole or not at all."""
    write_bytes(path, json.dumps(content, indent=2).encode() + b"\n")


def _git(root: Path, *arguments: str) -> str:
    try:
        done = subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True, check=False)  # noqa: S603, S607 - fixed arguments
    except OSError:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
