"""The example of `cmt init`, answered by the real LM and the shipped compressor."""

import json
from datetime import timedelta

import httpx
import pytest

import cmt
from cmt.answering.answer import NOT_IN_MEMORY
from cmt.cli._new_project import write_project
from cmt.common.dates import parse_end
from cmt.lm.model import FrozenLM
from cmt.project import Project
from cmt.serving.app import create_app
from tests.helpers.servers import running

TOLL = "What is the toll on the Alder Bridge?"


@pytest.fixture(scope="module")
def memory(real_lm: FrozenLM, tmp_path_factory: pytest.TempPathFactory) -> cmt.Workspace:
    """The example after its rounds, with the LM that is loaded once for all tests."""
    folder = tmp_path_factory.mktemp("example") / "project"
    write_project(folder)
    params = cmt.load_params(folder / "params.yaml", {"evaluation.baselines": False})
    workspace = cmt.Workspace(Project(params, folder, lm=real_lm))
    workspace.ingest()
    for slice_id in workspace.pending():
        assert workspace.update(slice_id=slice_id).state == "committed"
    return workspace


def test_every_question_of_the_example_is_answered(memory: cmt.Workspace) -> None:
    lines = (memory.project.root / "news.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    documents = [row for row in rows if "question" not in row]
    questions = [row for row in rows if "question" in row]
    # each question as of its date
    for row in questions:
        answer = memory.ask(row["question"], as_of=parse_end(row["asked_at"]))
        assert (answer.text in row["answers"], answer.known, answer.sources[0].doc_id) == (
            True,
            True,
            row["doc_id"],
        )
    # the updated fact before and after the update, and something that no document says
    update = next(document for document in documents if "supersedes" in document)
    published_at = parse_end(update["published_at"])
    assert memory.ask(TOLL).text == "three euros"
    assert memory.ask(TOLL, as_of=published_at - timedelta(days=1)).text == "two euros"
    assert memory.ask("Who was the first person on the moon?").text == NOT_IN_MEMORY


def test_a_chat_continues_with_follow_ups(memory: cmt.Workspace) -> None:
    messages = [
        *({"role": "user", "content": TOLL}, {"role": "assistant", "content": "three euros"}),
        {"role": "user", "content": "And in August?"},
    ]
    with running(create_app(memory.project)) as url, httpx.Client(base_url=url) as client:
        body = {"model": "cmt", "messages": messages, "as_of": "2026-10-10"}
        completion = client.post("/v1/chat/completions", json=body, timeout=60).json()
        refused = client.post("/v1/chat/completions", json=body | {"messages": messages[2:]})
    assert completion["question"] == "What was the toll on the Alder Bridge in August?"
    assert completion["choices"][0]["message"]["content"] == "two euros"
    assert refused.status_code == 400
    assert "ask it in full" in refused.json()["error"]["message"]
