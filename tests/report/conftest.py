"""A project with two rounds for the tests of the report, with an attack in a document and a
question.
"""

import html
import json
import shutil
from pathlib import Path

import pytest

import cmt
from cmt.evaluation.baseline_data import ComparisonData
from cmt.evaluation.baselines import measure_systems
from cmt.report.baselines import store_baselines
from tests.helpers import scripted  # noqa: F401 # loads the profile of hypothesis
from tests.helpers.projects import adapt, change_params, open_workspace
from tests.helpers.reports import HOSTILE

ENCODED = html.escape(
    HOSTILE
)  # ingest removes tags, and decodes entities: the bank holds HOSTILE as text


@pytest.fixture(scope="session")
def adapted_folder(tiny_project: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project after its rounds, with three stored baselines; read-only."""
    folder = Path(shutil.copytree(tiny_project, tmp_path_factory.mktemp("report") / "project"))
    document = {
        "doc_id": "evil",
        "published_at": "2031-02-06T07:00:00Z",
        "title": ENCODED,
        "text": f"Eve wrote {ENCODED}",
    }
    question = {
        "doc_id": "evil",
        "asked_at": "2031-02-25T07:00:00Z",
        "question": f"Who wrote {ENCODED}?",
        "answers": ["Eve"],
    }
    for name, row in (("documents", document), ("questions", question)):
        with (folder / f"news/{name}.jsonl").open("a", encoding="utf-8") as out:
            out.write(json.dumps(row) + "\n")
    change_params(
        folder, selection={"max_logprob_gap": 1000.0}
    )  # every document is a source of some question
    workspace = open_workspace(adapt(folder))
    data = ComparisonData.of(workspace.project, limit=2)
    store_baselines(
        workspace.project, measure_systems(data, ["full", "rag-bm25-3", "cmt"]), data.lineage
    )
    return folder


@pytest.fixture
def adapted(adapted_folder: Path, tmp_path: Path) -> cmt.Workspace:
    """A copy of the project, whose baselines are current as well."""
    folder = Path(shutil.copytree(adapted_folder, tmp_path / "project"))
    workspaces = open_workspace(adapted_folder), open_workspace(folder)
    # the digest of the parameters includes the location of the bank
    before, after = (
        one.params.digest("seed", "selection", "answering", "bank") for one in workspaces
    )
    file = folder / "data/state/baselines.json"
    file.write_text(file.read_text().replace(before, after))
    return workspaces[1]
