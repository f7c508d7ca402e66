"""The findings of a soak: counts for `metrics/soak.json`, and a sentence for each defect of
`cmt`.
"""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from tests.soak.project import Content

_VARIES = re.compile(
    r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|^[0-9][0-9a-f-]*|-?\b[0-9a-f]*[0-9][0-9a-f]{3,}"
)
Kind = Literal["lost", "doubled", "silent", "wrong"]
"""Content is missing; duplicated; silently damaged, interrupted or failed; or in a state that is
not allowed.
"""


@dataclass
class Findings:
    """The findings of one or several parts of a soak."""

    checked: Counter[str] = field(default_factory=Counter)  # fault points, rounds, flips
    kinds: Counter[str] = field(default_factory=Counter)  # number of findings of each Kind
    sentences: list[str] = field(default_factory=list)
    faults: Counter[tuple[str, str]] = field(default_factory=Counter)
    """How often a kind of file was hit at a system call: (file, call)."""
    flips: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Results of the flips in a kind of file: (file, result)."""

    def add(self, kind: Kind, sentence: str) -> None:
        """Add a defect of `cmt`."""
        self.kinds[kind] += 1
        self.sentences.append(f"{kind}: {sentence}")

    def merge(self, other: "Findings") -> None:
        """Add the findings of another part."""
        self.checked += other.checked
        self.kinds += other.kinds
        self.sentences += other.sentences
        self.faults += other.faults
        self.flips += other.flips


def difference(found: Content, allowed: Sequence[Content]) -> Kind:
    """How `found` differs from every allowed content: it lacks a part of them all, has a part
    twice, or another way.
    """
    for parts in ("slices", "rounds", "banks"):
        names = [entry[0] for entry in getattr(found, parts)]
        if any(
            entry[0] not in names
            for entry in getattr(allowed[0], parts)
            if all(entry in getattr(c, parts) for c in allowed)
        ):
            return "lost"
    ids = [slice_id for slice_id, _ in found.slices]
    rounds = [entry[:2] for entry in found.rounds]
    return "doubled" if len(set(ids)) < len(ids) or len(set(rounds)) < len(rounds) else "wrong"


def kind_of_file(path: Path) -> str:
    """A file's path without its variable parts: `bank/memories/data/*.lance`, `stream/*/*.json`."""
    return "/".join(_kind_of_name(part) for part in path.parts)


def _kind_of_name(name: str) -> str:
    if name.startswith("memories_"):
        return "memories"
    if ".tmp" in name:
        return f"{re.sub(_VARIES, '', name.split('.tmp')[0])}*.tmp"
    return re.sub(_VARIES, "*", name)
