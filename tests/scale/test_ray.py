"""Compression on a Ray cluster of this machine gives the memories of one process (`make
test-scale`).
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from cmt.config import Params, load_params
from cmt.retrieval.indexer import compress_documents
from cmt.workspace import open
from tests.flows.conftest import prefect_databases, prefect_server, project  # noqa: F401 - fixtures
from tests.helpers.facts import documents
from tests.helpers.projects import JANUARY, adapt, open_workspace

pytestmark = pytest.mark.filterwarnings("ignore::Warning")  # Ray's own
FARES = [
    {
        "doc_id": f"fare-{number}",
        "text": f"The ferry to quay {number} costs {number + 2} crowns. " * (1 + number % 5),
    }
    for number in range(40)
]


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    """One cluster for all tests; the first of them starts it."""
    yield
    import ray

    ray.shutdown()


@pytest.mark.parametrize("keep_text", [True, False])
def test_a_cluster_gives_the_memories_of_one_process(tiny_workspace: Path, keep_text: bool) -> None:
    open_workspace(tiny_workspace).pull()
    workspace = open_workspace(tiny_workspace, compress__engine="ray", compress__workers=2)
    resources = workspace
    params = Params().with_values(
        bank={"keep_text": keep_text, "codes": "int8"}, compressor={"batch_tokens": 256}
    )
    progress = list[int]()
    here, spread = (
        compress_documents(
            resources.project.model,
            documents(FARES),
            slice_id="2031-01/0001",
            params=params,
            encode_batches=encode,
            on_progress=lambda documents, _tokens: progress.append(documents),
        )
        for encode in (None, resources.project.encode_batches)
    )
    assert spread.equals(here)
    assert sum(progress) == 2 * len(FARES)
    assert len(progress) > 8  # several batches


def test_a_project_has_the_same_bank(tiny_workspace: Path, adapted_project: Path) -> None:
    raw = (tiny_workspace / "params.yaml").read_text()
    (tiny_workspace / "params.yaml").write_text(f"{raw}\ncompress: {{engine: ray, workers: 2}}\n")
    adapt(tiny_workspace)
    import ray  # after the engine has set what Ray reads at its import

    assert len({node["NodeID"] for node in ray.nodes()}) == 1
    assert all(node["NodeManagerAddress"] == "127.0.0.1" for node in ray.nodes())
    assert (
        open_workspace(tiny_workspace).project.bank.digest()
        == open_workspace(adapted_project).project.bank.digest()
    )


def test_a_flow_compresses_on_ray(project: Path, adapted_project: Path) -> None:  # noqa: F811
    from flows.online_update import online_update

    project.write_text(f"{project.read_text()}\ncompress: {{engine: ray, workers: 2}}\n")
    online_update(params=str(project))
    assert load_params(project).compress.engine == "ray"
    assert JANUARY in [round_.round_id for round_ in open(params=project).rounds()]
    assert (
        open(params=project).project.bank.digest()
        == open_workspace(adapted_project).project.bank.digest()
    )
