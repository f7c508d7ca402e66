"""Attacks of six kinds are stopped and honest slices taken, by the real LM and the shipped compressor."""

import pytest

from tests.helpers.scripts import load_script

KINDS = ("CONTRADICTS", "SCORED", "FLOOD", "SUPERSEDES", "CORRECTS", "CLAIMS")
SEED = 104  # of a world in which the reader believes the first three, so that the gate has to stop them


@pytest.mark.timeout(600)
def test_attacks_are_stopped_and_honest_slices_taken() -> None:
    poison = load_script("poison")
    world = poison.play(SEED, [poison.Kind[name] for name in KINDS], poison.SMALL)
    ends = {kind.name: end for kind, end in world.attacks}
    assert tuple(ends) == KINDS
    assert set(ends.values()) == {"refused"}, ends
    assert (world.honest, len(world.held_back) <= 1) == (10, True), world.held_back
