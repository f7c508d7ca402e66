"""A slice of `make soak`: it can find faults, and it finds none in `cmt`."""

import json
import random
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from cmt.modeling.champion import read_champion
from tests.soak.chaos import chaos
from tests.soak.damage import every_flip
from tests.soak.faults import FAULTS
from tests.soak.findings import difference
from tests.soak.injection import one_fault
from tests.soak.points import check, every_point, measure
from tests.soak.processes import run
from tests.soak.project import MONTHS, build, content, opened, problems, with_champion

MOMENTS = 2
"""Of hundreds; `make soak` has a fault at every moment of the other operations."""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("soak") / "project")


def test_each_kind_of_fault_ends_the_command_as_it_should(project: Path, tmp_path: Path) -> None:
    for fault, status, message in (
        ("kill", -9, ""),
        ("torn write", -9, ""),
        ("full disk", 1, "No space left on device"),
    ):
        copy = shutil.copytree(project, tmp_path / fault.replace(" ", "-"))
        outcome = run(copy, "ingest", "more", fault=fault, place=1, below=copy / "stream")
        assert (outcome.status, bool(outcome.hit)) == (status, True)
        assert message in outcome.errors
    # the data file that Lance writes
    copy = shutil.copytree(project, tmp_path / "copy")
    [memories] = (copy / "bank").glob("memories_*.lance")
    outcome = run(copy, "update", "--all", fault="I/O error", place=1, below=memories / "data")
    assert outcome.hit and outcome.hit.call == "write"
    assert outcome.status == 1 and "Input/output error" in outcome.errors
    assert content(copy) == content(project)


def test_a_clock_can_be_moved(project: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(project, tmp_path / "copy")
    run(copy, "update", "--all", clock=40 * 24 * 3600)
    rounds = json.loads(run(copy, "rounds", "--json").output)["rounds"]
    assert rounds[-1]["slice_id"] == MONTHS[2]
    assert rounds[-1]["started_at"][:7] > rounds[0]["started_at"][:7]


def test_lost_and_doubled_content_and_damage_are_told_apart(project: Path, tmp_path: Path) -> None:
    whole = content(project)
    assert difference(replace(whole, rounds=whole.rounds[:1]), [whole]) == "lost"
    assert difference(replace(whole, slices=whole.slices * 2), [whole]) == "doubled"
    assert difference(replace(whole, answering="another"), [whole]) == "wrong"
    copy = shutil.copytree(project, tmp_path / "copy")
    [memories] = (copy / "bank").glob("memories_*.lance")
    newest = min(
        (memories / "_versions").glob("*.manifest")
    )  # Lance numbers its manifests downwards
    newest.unlink()
    assert problems(copy)


@pytest.mark.timeout(600)
def test_nothing_is_lost_doubled_silent_or_wrong(project: Path, tmp_path: Path) -> None:
    def ignore(done: int, total: int) -> None:
        pass

    findings = every_point(
        project, tmp_path, workers=1, every=150, names=("round", "purge"), on_point=ignore
    )
    findings.merge(chaos(tmp_path, rounds=1, seed=7, workers=1, on_round=ignore))
    findings.merge(every_flip(project, tmp_path, count=6, seed=7, workers=1, on_flip=ignore))
    assert not findings.sentences
    assert findings.checked["fault_points"] >= 3 and findings.checked["flips"] == 6


@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("arguments", "filled"),
    [(("recompress",), False), (("registry", "rollback"), True)],
    ids=["recompress", "back"],
)
def test_a_fault_leaves_a_whole_table_answering_and_the_next_start_finishes(
    project: Path, tmp_path: Path, arguments: tuple[str, ...], filled: bool
) -> None:
    """SIGKILL, a full disk or a torn write at seeded moments of a recompression and of the rollback
    of a promotion.
    """
    template = with_champion(project, tmp_path / "template", filled=filled)
    operation = measure(arguments[-1], arguments, template, tmp_path, steps=True)
    named = read_champion(opened(template).project.state)
    assert named
    # the champion answers at the end, after a rollback the compressor before it
    assert (operation.before.answering, operation.after.answering) == (
        f"memories_{(named.champion if filled else named.previous).bank}",
        f"memories_{(named.previous if filled else named.champion).bank}",
    )
    source = random.Random(0)
    moments = source.sample(
        [(fault, place) for fault in FAULTS for place in range(1, operation.calls + 1)], MOMENTS
    )
    for fault, place in moments:
        findings = one_fault(tmp_path, check, operation, fault, place)
        assert findings.sentences == []
