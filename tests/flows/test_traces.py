"""What Prefect, MLflow and the ledger keep of rounds has no text of documents, questions or
answers.
"""

import shutil
import time
from pathlib import Path

import pytest
from prefect.events.worker import EventsWorker
from prefect.logging.handlers import APILogWorker

from cmt.errors import RoundError, StreamError
from cmt.workspace import Workspace
from flows import tasks
from flows.online_update import online_update
from tests.helpers.projects import change_params, open_workspace
from tests.helpers.rows import write_lines
from tests.helpers.traces import traces
from tests.helpers.word_reader import read_words

PURGED = ("mayor-1", "mayor-2", "handbill")
PHRASES = ("Moss", "Vell", "Grubb", "Who is the mayor of Port Ellery", "the mayor of Port Ellery")
"""Every answer to and question about them, and what their texts have in common."""


def await_trace(home: Path, phrase: str) -> None:
    """Wait until `phrase` is in Prefect's database."""
    for _ in range(300):
        if traces(home, (), phrases=[phrase]):
            return
        time.sleep(0.1)
    raise AssertionError(f"{phrase!r} is not there")


@pytest.mark.timeout(600)
def test_a_purge_leaves_no_answer_and_no_question_in_prefect_mlflow_and_project(
    project: Path, workspace: Workspace, mlflow_database: Path, prefect_databases: Path
) -> None:
    folder, home, params = project.parent, prefect_databases / "home", str(project)
    shutil.copy(mlflow_database, folder / "mlflow.db")
    gate, evaluation = {"max_set_aside": 0, "canaries": 40}, {"questions": 2}
    change_params(folder, tracking={"enabled": True}, gate=gate, evaluation=evaluation)
    tasks.workspace.cache_clear()
    read_words(tasks.workspace(params))
    # 1. Two rounds, and one that is refused because it makes the answer wrong.
    assert online_update(params=params) == ["committed", "committed"]
    false = {
        "doc_id": "handbill",
        "published_at": "2031-03-10T07:00:00Z",
        "text": "Grubb is the mayor of Port Ellery.",
    }
    handbill = write_lines(folder / "handbill.jsonl", [false])
    with pytest.raises(RoundError, match="because of handbill"):
        online_update(source=handbill.name, publisher="Mallory", params=params)
    # 2. Rows that quote a document where a value belongs, some or all of a source.
    bad = {
        "doc_id": "mayor-2",
        "published_at": "Vell is the mayor of Port Ellery now.",
        "text": "A text.",
    }
    good = {"published_at": "2031-03-11T07:00:00Z", "text": "Lamps are lit at nine."}
    write_lines(folder / "bad.jsonl", [bad])
    write_lines(folder / "mixed.jsonl", [bad, bad | {"doc_id": "mayor-1"}, good])
    (folder / "bare.csv").write_text("Vell is the mayor of Port Ellery now.,2031-03-12\n" * 2)
    for source in ("bad.jsonl", "mixed.jsonl", "bare.csv"):
        with pytest.raises(StreamError):
            online_update(source=source, params=params)
    # 3. The purge.
    tasks.workspace.cache_clear()
    open_workspace(folder).forget_all(PURGED, purge=True)
    # 4. No trace of them, while there are traces of the rounds.
    for worker in (APILogWorker, EventsWorker):
        worker.drain_all(timeout=10)
    await_trace(home, "cmt round refused")  # the server writes events later
    given = [
        folder / name for name in ("news", "handbill.jsonl", "bad.jsonl", "mixed.jsonl", "bare.csv")
    ]
    assert traces(home, (), phrases=["because of handbill"])
    assert traces(home, (), phrases=PHRASES) == []
    assert traces(folder, (), phrases=PHRASES, outside=given) == []
