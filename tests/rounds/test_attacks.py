"""Attacks are stopped and honest slices taken, by the real LM and the shipped compressor; own
wordings are read.
"""

from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any

import pytest

from cmt.errors import ConfigError
from tests.helpers.scripts import load_script

KINDS = ("CONTRADICTS", "SCORED", "FLOOD", "SUPERSEDES", "CORRECTS", "CHANGES")
SEED = 104
AT = datetime(2031, 1, 1, tzinfo=UTC)


@pytest.mark.timeout(600)
def test_attacks_are_stopped_and_honest_slices_taken() -> None:
    poison = load_script("poison")
    world = poison.play(SEED, [poison.Kind[name] for name in KINDS], poison.SMALL)
    ends = {kind.name: end for kind, end in world.attacks}
    assert ends.keys() == {*KINDS}
    assert "harm" not in ends.values(), world.notes
    assert {ends[name] for name in ("SUPERSEDES", "CORRECTS", "FLOOD")} == {"refused"}, ends
    assert (len(world.honest), world.honest.count("held back") <= 1) == (3, True), world.notes
    assert (len(world.changes), world.lost) == (1, 0)


def test_every_kind_of_attack_is_written_from_a_seed() -> None:
    poison = load_script("poison")
    attacks: dict[StrEnum, list[list[list[dict[str, Any]]]]] = {}
    for kind in poison.Kind:
        for _ in range(2):
            author = poison.Author(SEED, poison.read_wordings(poison.WORDINGS))
            facts = [author.fact(number, "2030-01-01T00:00:00Z") for number in range(6)]
            attacks.setdefault(kind, []).append(author.attack(kind, facts, AT))
    assert all(first == second for first, second in attacks.values())
    rows = {
        kind.name: [row for file in files for row in file] for kind, (files, _) in attacks.items()
    }
    texts = [row["text"] for kind in rows for row in rows[kind] if "text" in row]
    assert not any(sign in text for text in texts for sign in "[]{}|")
    assert [len(rows[kind]) for kind in ("STUFFING", "REFUSALS", "DISPLACES", "CROWDS")] == [
        12,
        14,
        12,
        12 + 240 + 1,
    ]
    first, second = (row["text"].split() for row in rows["REWORDED"])
    assert first != second
    assert {row["source"] for row in rows["REWORDED"]} == {poison.STRANGER, poison.SECOND}


def test_wordings_in_another_form_are_an_error(tmp_path: Path) -> None:
    poison = load_script("poison")
    path = tmp_path / "own.yaml"
    path.write_text("matters: {price: {subject: x}}\n")
    with pytest.raises(ConfigError, match=r"own\.yaml does not have the form of .*poison\.yaml"):
        poison.read_wordings(path)
