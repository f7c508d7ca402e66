"""Attacks of six kinds are stopped and honest slices taken, by the real LM and the shipped compressor."""

import pytest

from tests.helpers.scripts import load_script


@pytest.mark.timeout(600)
def test_attacks_are_stopped_and_honest_slices_taken() -> None:
    poison = load_script("poison")
    kinds = [poison.Kind[name] for name in ("SUPERSEDES", "CORRECTS", "CLAIMS", "CONTRADICTS", "FLOOD", "SCORED")]
    world = poison.play(100, kinds, poison.SMALL)
    assert [kind for kind, _ in world.attacks] == kinds
    assert [(kind, end) for kind, end in world.attacks if end == "harm"] == []
    # those that claim another document are refused at ingest
    ends = dict(world.attacks)
    assert {ends[kind] for kind in kinds[:3]} == {"refused"}
    assert (world.honest, len(world.held_back) <= 1) == (10, True), world.held_back
