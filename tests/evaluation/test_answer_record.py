"""Recorded answers are read, as long as nothing changed that answers depend on."""

import json
import logging
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

import cmt
from cmt.answering.answer import Answer
from cmt.answering.answerer import Answerer
from cmt.evaluation.answer_record import AnswerRecord, RecordedAnswer
from cmt.lm.model import FrozenLM
from cmt.retrieval.indexer import compress_documents
from tests.helpers.facts import documents
from tests.helpers.untrained import MAYORS, PUBLISHED, small_params, untrained_answerer

TinyLm = Callable[[str], FrozenLM]
QUESTIONS = ["Who is the mayor of Port Ellery?", "What does the ferry to Saltby cost?", "Six?", "Who?", "Where is it?"]
DATES = [datetime(2031, 3, 1, tzinfo=UTC)] * len(QUESTIONS)
CRANE = [{"doc_id": "crane", "published_at": "2031-01-03T07:00:00Z", "text": "Who? The mayor is a blue crane, six."}]


class CountingAnswerer(Answerer):
    """An answerer that counts its questions."""

    count = 0

    def answer(self, questions: Sequence[str], **options: Any) -> list[Answer]:
        self.count += len(questions)
        return super().answer(questions, **options)


def counting(answerer: Answerer, **sections: dict[str, Any]) -> CountingAnswerer:
    """The same answerer with a count of 0, and with some parameters replaced."""
    params = small_params(**sections)
    return CountingAnswerer(model=answerer.model, lm=answerer.lm, bank=answerer.bank, params=params)


def unrecorded(answerer: Answerer, as_of: Sequence[datetime] = DATES) -> list[RecordedAnswer]:
    return [RecordedAnswer.of(answer) for answer in answerer.answer(QUESTIONS, as_of=as_of)]


def add(answerer: Answerer, rows: list[dict[str, Any]] = CRANE) -> None:
    """Bank more documents."""
    options: dict[str, Any] = {
        "slice_id": "2031-01/0002",
        "keep_text": True,
        "number_format": "int8",
        "batch_tokens": 256,
    }
    answerer.bank.upsert(compress_documents(answerer.model, documents(rows), **options))


@pytest.fixture
def answerer(tiny_lm: TinyLm, tmp_path: Path) -> CountingAnswerer:
    return counting(untrained_answerer(tiny_lm("llama"), tmp_path / "bank", MAYORS))


@pytest.fixture
def record(tmp_path: Path) -> AnswerRecord:
    return AnswerRecord(tmp_path / "state")


def test_recorded_answers_are_not_computed_again_for_any_batch_size(
    answerer: CountingAnswerer, record: AnswerRecord
) -> None:
    expected = unrecorded(answerer)
    for batch_size, count in ((3, 5), (1, 0), (32, 0)):
        repeated, heard = counting(answerer, answering={"batch_size": batch_size}), list[int]()
        assert record.answer(repeated, QUESTIONS, as_of=DATES, on_progress=heard.append) == expected
        assert (repeated.count, sum(heard)) == (count, 5)
    more = [*QUESTIONS, "Who is Moss?", QUESTIONS[0]]
    replies = record.answer(answerer, more, as_of=DATES[:1] * 7)
    assert (replies[:5], replies[6]) == (expected, expected[0])
    assert len({reply.text for reply in replies}) > 1


def test_a_duplicate_question_is_asked_once(answerer: CountingAnswerer, record: AnswerRecord) -> None:
    replies = record.answer(answerer, QUESTIONS[:1] * 3, as_of=DATES[:3])
    assert (len(replies), answerer.count) == (3, 1)


@pytest.mark.parametrize(
    "sections",
    [
        {"selection": {"top_k": 1}},
        {"selection": {"abstain_below": 0.99}},
        {"selection": {"full_text_weight": 0.0}},
        {"selection": {"best_windows": 1}},
        {"answering": {"max_new_tokens": 3}},
        {"answering": {"contrast": True}},
        {"bank": {"exact_below": 7}},
    ],
    ids=json.dumps,
)
def test_other_parameters_ask_again(answerer: CountingAnswerer, record: AnswerRecord, sections: dict[str, Any]) -> None:
    record.answer(answerer, QUESTIONS, as_of=DATES)
    other = counting(answerer, **sections)
    expected = unrecorded(counting(answerer, **sections))
    assert record.answer(other, QUESTIONS, as_of=DATES) == expected
    assert other.count == 5


def test_another_date_asks_again(answerer: CountingAnswerer, record: AnswerRecord) -> None:
    early = [datetime(2031, 1, 20, tzinfo=UTC)] * 5
    record.answer(answerer, QUESTIONS, as_of=DATES)
    assert record.answer(answerer, QUESTIONS, as_of=early) == unrecorded(answerer, as_of=early) != unrecorded(answerer)


@pytest.mark.parametrize(("part", "digest"), [("model", "digest"), ("lm", "files_digest")])
def test_another_lm_or_compressor_asks_again(
    answerer: CountingAnswerer, record: AnswerRecord, part: str, digest: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    record.answer(answerer, QUESTIONS, as_of=DATES)
    monkeypatch.setattr(getattr(answerer, part), digest, "another")
    record.answer(answerer, QUESTIONS, as_of=DATES)
    assert answerer.count == 10


def test_a_change_of_the_bank_discards_its_answers(
    answerer: CountingAnswerer, record: AnswerRecord, tmp_path: Path
) -> None:
    before = record.answer(answerer, QUESTIONS, as_of=DATES)
    version = answerer.bank.version
    changes: list[Callable[[], object]] = [
        lambda: add(answerer),
        lambda: answerer.bank.restore(version),
        lambda: answerer.bank.forget("vell"),
    ]
    for change in changes:
        change()
        expected = unrecorded(answerer)
        answerer.count = 0
        assert record.answer(answerer, QUESTIONS, as_of=DATES) == expected
        assert answerer.count == 5
        assert len(list((tmp_path / "state").iterdir())) == 1
    assert all("vell" in reply.doc_ids for reply in before)
    assert not any("vell" in reply.doc_ids for reply in expected)


def test_a_bank_with_the_same_name_and_version_but_other_rows_asks_again(
    tiny_lm: TinyLm, record: AnswerRecord, tmp_path: Path
) -> None:
    first, second = (
        counting(untrained_answerer(tiny_lm("llama"), tmp_path / name, rows))
        for name, rows in {"a": MAYORS, "b": [MAYORS[2], *CRANE]}.items()
    )
    assert (first.bank.name, first.bank.version) == (second.bank.name, second.bank.version)
    record.answer(first, QUESTIONS, as_of=DATES)
    assert record.answer(second, QUESTIONS, as_of=DATES) == unrecorded(second) != unrecorded(first)


def test_answers_during_a_change_of_the_bank_are_not_recorded(
    answerer: CountingAnswerer, record: AnswerRecord, caplog: pytest.LogCaptureFixture
) -> None:
    single = counting(answerer, answering={"batch_size": 1})
    changes = iter([None, None, add])

    def change(_: int) -> None:
        if work := next(changes, None):
            work(answerer)

    record.answer(single, QUESTIONS, as_of=DATES, on_progress=change)
    assert "the bank changed while it was asked" in caplog.text
    expected = unrecorded(single)
    single.count = 0
    assert record.answer(single, QUESTIONS, as_of=DATES) == expected
    assert single.count == 5


def test_a_damaged_record_is_discarded_with_a_warning(
    answerer: CountingAnswerer, record: AnswerRecord, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    expected = record.answer(answerer, QUESTIONS, as_of=DATES)
    (file,) = (tmp_path / "state").iterdir()
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    with caplog.at_level(logging.WARNING):
        assert record.answer(answerer, QUESTIONS, as_of=DATES) == expected
    assert "is damaged" in caplog.text
    caplog.clear()
    assert record.answer(answerer, QUESTIONS, as_of=DATES) == expected
    assert answerer.count == 10
    assert not caplog.records


def test_answers_of_the_published_architecture_are_recorded(
    tiny_lm: TinyLm, record: AnswerRecord, tmp_path: Path
) -> None:
    answerer = untrained_answerer(tiny_lm("llama"), tmp_path / "bank", MAYORS, params=small_params(**PUBLISHED))
    assert (
        record.answer(answerer, QUESTIONS, as_of=DATES)
        == unrecorded(answerer)
        == record.answer(answerer, QUESTIONS, as_of=DATES)
    )


SPARE = 60
"""Questions beyond those of the tiny project: after the first of them are recorded, a kill has seconds to arrive."""


@pytest.fixture
def project(tiny_workspace: Path) -> Path:
    """A project after two rounds, with enough questions for some seconds."""
    start = datetime(2031, 3, 1, tzinfo=UTC)
    rows = [
        {"doc_id": "ferry", "question": f"What does ferry {n} cost?", "answers": ["six"], "asked_at": start}
        for n in range(SPARE)
    ]
    lines = [json.dumps(row | {"asked_at": (start + timedelta(minutes=1)).isoformat()}) + "\n" for row in rows]
    with (tiny_workspace / "news/questions.jsonl").open("a") as file:
        file.writelines(lines)
    text = (tiny_workspace / "params.yaml").read_text()
    text = text.replace("max_new_tokens: 4", "max_new_tokens: 4\n  batch_size: 2")
    (tiny_workspace / "params.yaml").write_text(text + "\nevaluation: {earlier_questions: 2, baselines: false}\n")
    workspace = cmt.open(params=tiny_workspace / "params.yaml")
    workspace.ingest()
    while workspace.pending():
        workspace.update()
    return tiny_workspace


def recorded(project: Path) -> int:
    """Number of answers on disk."""
    count = 0
    for file in (project / "data/state").glob("answers-*.sqlite"):
        database = sqlite3.connect(file, timeout=30)
        tables = database.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
        count += database.execute("SELECT count(*) FROM answers").fetchone()[0] if tables else 0
        database.close()
    return count


def test_a_killed_evaluation_resumes(project: Path) -> None:
    command = [sys.executable, "-m", "cmt", "--params", str(project / "params.yaml"), "evaluate", "--json"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    deadline = time.monotonic() + 120
    while recorded(project) < 8 and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    done = recorded(project)
    assert 8 <= done < SPARE + 4

    def evaluate(name: str) -> tuple[Any, list[int]]:
        heard: list[int] = []
        workspace = cmt.open(params=project / "params.yaml")
        if name:
            workspace.answer_record = AnswerRecord(project / name)
        return workspace.evaluate(on_progress=heard.append), heard

    resumed, heard = evaluate("")
    assert (heard[0], sum(heard)) == (done, SPARE + 4)
    again, heard = evaluate("")
    assert heard == [SPARE + 4]
    undisturbed, heard = evaluate("elsewhere")
    assert (heard[0], sum(heard)) == (0, SPARE + 4)
    assert resumed.systems[0].scores == again.systems[0].scores == undisturbed.systems[0].scores
    assert resumed.records.drop_columns("confidence") == undisturbed.records.drop_columns("confidence")
    assert again.records == resumed.records
    assert again.systems[0].seconds < undisturbed.systems[0].seconds


def test_a_rollback_and_a_forgotten_document_ask_everything_again(adapted_workspace: Path) -> None:
    workspace = cmt.open(params=adapted_workspace / "params.yaml", overrides={"evaluation.baselines": False})

    def recorded_count() -> int:
        heard: list[int] = []
        workspace.evaluate(on_progress=heard.append)
        return heard[0]

    assert [recorded_count(), recorded_count()] == [0, 4]
    workspace.rollback(workspace.rounds()[-1].round_id)
    assert [recorded_count(), recorded_count()] == [0, 4]
    workspace.update()
    assert [recorded_count(), recorded_count()] == [0, 4]
    workspace.forget("ferry")
    assert [recorded_count(), recorded_count()] == [0, 3]  # the question about it is not asked
