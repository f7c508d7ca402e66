"""A price that changes without `supersedes`, reported by its own source and by an unauthorised one;
the trained reader reads both.
"""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from cmt import project as projects
from cmt.bank.rounds import Round
from cmt.config import load_params
from cmt.lm.model import FrozenLM
from cmt.modeling.model import MemoryModel
from cmt.workspace import Workspace

ROOT = Path(__file__).parents[2]
FARE, SMITHY = "What does a day pass for the Orlo funicular cost?", "Who opened a smithy in Tessin?"
SUMMER: list[dict[str, Any]] = [
    {
        "doc_id": "fare",
        "published_at": "2031-05-02",
        "title": "Orlo funicular",
        "text": "A day pass for the Orlo funicular costs 12 florins this season, the operator "
        "said. Dogs ride free.",
    },
    {
        "doc_id": "bridge",
        "published_at": "2031-05-03",
        "text": "The stone bridge of Tessin is 240 metres long.",
    },
    {"question": FARE, "doc_id": "fare", "answers": ["12 florins"], "asked_at": "2031-05-20"},
]
RAISED: dict[str, Any] = {
    "doc_id": "raised",
    "published_at": "2031-07-01",
    "title": "Orlo funicular dearer",
    "text": "From today a day pass for the Orlo funicular costs 15 florins. "
    "The operator blames the price of power.",
}
OPENED: dict[str, Any] = {
    "doc_id": "smithy",
    "published_at": "2031-07-09",
    "text": "Runa Felt opened a smithy in Tessin with two forges.",
}
BOARD, BLOG = {"source": "Valley Board"}, {"source": "Mallory's blog"}


class Project:
    """A project with the shipped compressor, opened anew for each command."""

    def __init__(self, folder: Path, lm: FrozenLM, **stream: Any) -> None:
        self.folder, self.lm, self.stream = folder, lm, stream
        self.model: MemoryModel | None = None

    def open(self) -> Workspace:
        shipped = load_params(ROOT / "params.yaml")
        params = {
            "lm": {"source": shipped.lm.source, "path": str(shipped.lm.path)},
            "compressor": {"path": str(shipped.compressor.path)},
            "stream": {"source": "news", "trust_source": True, "clock": "2031-12-31T00:00:00Z"}
            | self.stream,
            "tracking": {"enabled": False},
        }
        (self.folder / "params.yaml").write_text(yaml.safe_dump(params))
        opened = load_params(self.folder / "params.yaml")
        workspace = Workspace(projects.Project(opened, self.folder, lm=self.lm, model=self.model))
        self.model = workspace.project.model
        return workspace

    def take(self, *rows: dict[str, Any]) -> Round:
        (self.folder / "news.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        self.open().ingest(source=self.folder / "news.jsonl")
        return self.open().update()

    def ask(self, question: str) -> str:
        return self.open().ask(question).text


@pytest.fixture(scope="module")
def summer(tmp_path_factory: pytest.TempPathFactory, real_lm: FrozenLM) -> Project:
    project = Project(tmp_path_factory.mktemp("summer"), real_lm)
    assert project.take(*(row | BOARD for row in SUMMER)).state == "committed"
    return project


@pytest.fixture
def project(summer: Project, tmp_path: Path) -> Project:
    """A copy of the project after its first round, with the loaded models."""
    copy = Project(Path(shutil.copytree(summer.folder, tmp_path / "project")), summer.lm)
    copy.model = summer.model
    return copy


def test_a_source_changes_its_own_fact_without_a_declaration(project: Project) -> None:
    round_ = project.take(RAISED | BOARD)
    assert (round_.state, round_.set_aside, round_.notes[-1]) == (
        "committed",
        (),
        "1 canary follows an update",
    )
    assert project.ask(FARE).startswith("15 florins")


def test_of_a_stranger_the_document_alone_is_held_back_and_the_way_out_is_harmless(
    project: Project,
) -> None:
    round_ = project.take(RAISED | BLOG, OPENED | BLOG)
    assert (round_.state, round_.set_aside) == ("committed", ("raised",))
    assert project.ask(FARE).startswith("12 florins")
    assert project.ask(SMITHY) == "Runa Felt"
    # the advice
    [row] = map(
        json.loads,
        (project.folder / "data/quarantine/round-2031-07-0001.jsonl").read_text().splitlines(),
    )
    for part in (
        f'add {{"{BLOG["source"]}": ["Valley Board"]}} to stream.authority',
        'add "supersedes": "fare"',
    ):
        assert part in row["reason"]
    assert "forget" not in row["reason"]
    # following it
    project.stream["authority"] = {BLOG["source"]: ["Valley Board"]}
    round_ = project.take(RAISED | BLOG | {"supersedes": "fare"})
    assert (round_.state, round_.set_aside, round_.documents) == ("committed", (), 1)
    assert project.ask(FARE).startswith("15 florins")
    assert [
        report.problems for report in project.open().verify() if report.part.startswith("bank")
    ] == [()]
