"""SIGKILL, a full disk or a torn write at seeded moments of a recompression and of the rollback of a promotion."""

import random
from pathlib import Path

import pytest

from cmt.modeling.champion import read_champion
from tests.soak.faults import FAULTS
from tests.soak.points import measure, one_point
from tests.soak.project import build, opened, with_champion

MOMENTS = 4
"""Of hundreds; `make soak` has a fault at every moment of the other operations."""


@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("arguments", "filled"), [(("recompress",), False), (("registry", "rollback"), True)], ids=["recompress", "back"]
)
def test_a_fault_leaves_a_whole_table_answering_and_the_next_start_finishes(
    tmp_path: Path, arguments: tuple[str, ...], filled: bool
) -> None:
    template = with_champion(build(tmp_path / "plain"), tmp_path / "template", filled=filled)
    operation = measure(arguments[-1], arguments, template, tmp_path, steps=True)
    named = read_champion(opened(template).state)
    assert named
    # the champion answers at the end, after a rollback the compressor before it
    assert (operation.before.answering, operation.after.answering) == (
        f"memories_{(named.champion if filled else named.previous).bank}",
        f"memories_{(named.previous if filled else named.champion).bank}",
    )
    source = random.Random(0)
    moments = source.sample([(fault, place) for fault in FAULTS for place in range(1, operation.calls + 1)], MOMENTS)
    for fault, place in moments:
        findings = one_point(tmp_path, operation, fault, place)
        assert findings.sentences == []
