"""The example of `cmt init`, answered by the real LM and the shipped compressor."""

import json
from datetime import timedelta
from pathlib import Path

import cmt
from cmt.answering.answer import NOT_IN_MEMORY
from cmt.cli._new_project import write_project
from cmt.common.dates import parse_end
from cmt.lm.model import FrozenLM
from cmt.project import Project


def test_every_question_of_the_example_is_answered(real_lm: FrozenLM, tmp_path: Path) -> None:
    write_project(tmp_path / "project")
    params = cmt.load_params(tmp_path / "project/params.yaml", {"evaluation.baselines": False})
    memory = cmt.Workspace(
        Project(params, tmp_path / "project", lm=real_lm)
    )  # loaded once for all tests
    rows = [json.loads(line) for line in (tmp_path / "project/news.jsonl").read_text().splitlines()]
    documents = [row for row in rows if "question" not in row]
    questions = [row for row in rows if "question" in row]
    assert memory.ingest().accepted == len(documents)
    for slice_id in memory.pending():
        assert memory.update(slice_id=slice_id).state == "committed"
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
    toll, published_at = "What is the toll on the Alder Bridge?", parse_end(update["published_at"])
    assert memory.ask(toll).text == "three euros"
    assert memory.ask(toll, as_of=published_at - timedelta(days=1)).text == "two euros"
    assert memory.ask("Who was the first person on the moon?").text == NOT_IN_MEMORY
