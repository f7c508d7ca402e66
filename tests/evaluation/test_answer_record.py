"""What the memory answered once is looked up, as long as nothing changed that answers depend on."""

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
BESIDE = [{"doc_id": "crane", "published_at": "2031-01-03T07:00:00Z", "text": "Who? The mayor is a blue crane, six."}]


class Asked(Answerer):
    """Counts what it is asked."""

    count = 0

    def answer(self, questions: Sequence[str], **how: Any) -> list[Answer]:
        self.count += len(questions)
        return super().answer(questions, **how)


def asked(one: Answerer, **sections: dict[str, Any]) -> Asked:
    return Asked(model=one.model, lm=one.lm, bank=one.bank, params=small_params(**sections))


def plain(
    one: Answerer, questions: Sequence[str] = QUESTIONS, as_of: Sequence[datetime] = DATES
) -> list[RecordedAnswer]:
    return [RecordedAnswer.of(answer) for answer in one.answer(questions, as_of=as_of)]


def add(one: Answerer, made: Sequence[dict[str, Any]] = BESIDE) -> None:
    how = {"slice_id": "2031-01/0002", "keep_text": True, "number_format": "int8", "batch_tokens": 256}
    one.bank.upsert(compress_documents(one.model, documents(made), **how))


@pytest.fixture
def one(tiny_lm: TinyLm, tmp_path: Path) -> Asked:
    return asked(untrained_answerer(tiny_lm("llama"), tmp_path / "bank", MAYORS))


@pytest.fixture
def record(tmp_path: Path) -> AnswerRecord:
    return AnswerRecord(tmp_path / "state")


def test_an_answer_is_asked_for_once(one: Asked, record: AnswerRecord) -> None:
    expected = plain(one)
    for batch_size, count in ((3, 5), (1, 0), (32, 0)):
        again, heard = asked(one, answering={"batch_size": batch_size}), list[int]()
        assert record.answer(again, QUESTIONS, as_of=DATES, on_progress=heard.append) == expected
        assert (again.count, sum(heard)) == (count, 5)
    more = [*QUESTIONS, "Who is Moss?", QUESTIONS[0]]
    replies = record.answer(one, more, as_of=DATES[:1] * 7)
    assert (replies[:5], replies[6]) == (expected, expected[0])
    assert len({reply.text for reply in replies}) > 1


def test_a_question_that_comes_twice_is_asked_once(one: Asked, record: AnswerRecord) -> None:
    replies = record.answer(one, QUESTIONS[:1] * 3, as_of=DATES[:3])
    assert (len(replies), one.count) == (3, 1)


@pytest.mark.parametrize(
    "sections",
    [
        {"selection": {"top_k": 1}},
        {"selection": {"threshold": 0.99}},
        {"selection": {"full_text_weight": 0.0}},
        {"selection": {"windows": 1}},
        {"answering": {"max_new_tokens": 3}},
        {"answering": {"contrast": True}},
        {"bank": {"exact_below": 7}},
    ],
    ids=json.dumps,
)
def test_other_parameters_are_other_answers(one: Asked, record: AnswerRecord, sections: dict[str, Any]) -> None:
    record.answer(one, QUESTIONS, as_of=DATES)
    other = asked(one, **sections)
    expected = plain(asked(one, **sections))
    assert record.answer(other, QUESTIONS, as_of=DATES) == expected
    assert other.count == 5


def test_another_date_is_another_answer(one: Asked, record: AnswerRecord) -> None:
    early = [datetime(2031, 1, 20, tzinfo=UTC)] * 5
    record.answer(one, QUESTIONS, as_of=DATES)
    assert record.answer(one, QUESTIONS, as_of=early) == plain(one, as_of=early) != plain(one)


@pytest.mark.parametrize("part", ["model", "lm"])
def test_another_lm_or_compressor_is_another_answer(
    one: Asked, record: AnswerRecord, part: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    record.answer(one, QUESTIONS, as_of=DATES)
    monkeypatch.setattr(getattr(one, part), "digest", "another")
    record.answer(one, QUESTIONS, as_of=DATES)
    assert one.count == 10


def test_no_answer_outlives_a_change_of_the_bank(one: Asked, record: AnswerRecord, tmp_path: Path) -> None:
    before = record.answer(one, QUESTIONS, as_of=DATES)
    version = one.bank.version
    changes: list[Callable[[], object]] = [
        lambda: add(one),
        lambda: one.bank.restore(version),
        lambda: one.bank.forget("vell"),
    ]
    for change in changes:
        change()
        expected = plain(one)
        one.count = 0
        assert record.answer(one, QUESTIONS, as_of=DATES) == expected
        assert one.count == 5
        assert len(list((tmp_path / "state").iterdir())) == 1
    assert all("vell" in reply.doc_ids for reply in before)
    assert not any("vell" in reply.doc_ids for reply in expected)


def test_a_bank_made_anew_is_another_bank(tiny_lm: TinyLm, record: AnswerRecord, tmp_path: Path) -> None:
    """Its versions have the same numbers."""
    first, second = (
        asked(untrained_answerer(tiny_lm("llama"), tmp_path / name, made))
        for name, made in {"a": MAYORS, "b": [MAYORS[2], *BESIDE]}.items()
    )
    assert (first.bank.name, first.bank.version) == (second.bank.name, second.bank.version)
    record.answer(first, QUESTIONS, as_of=DATES)
    assert record.answer(second, QUESTIONS, as_of=DATES) == plain(second) != plain(first)


def test_what_is_asked_while_the_bank_changes_is_not_recorded(one: Asked, record: AnswerRecord, caplog) -> None:
    single = asked(one, answering={"batch_size": 1})
    changes = iter([None, None, add])

    def change(_: int) -> None:
        if work := next(changes, None):
            work(one)

    record.answer(single, QUESTIONS, as_of=DATES, on_progress=change)
    assert "the bank changed while it was asked" in caplog.text
    expected = plain(single)
    single.count = 0
    assert record.answer(single, QUESTIONS, as_of=DATES) == expected
    assert single.count == 5


def test_a_damaged_record_is_thrown_away_with_a_warning(
    one: Asked, record: AnswerRecord, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    expected = record.answer(one, QUESTIONS, as_of=DATES)
    (file,) = (tmp_path / "state").iterdir()
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    with caplog.at_level(logging.WARNING):
        assert record.answer(one, QUESTIONS, as_of=DATES) == expected
    assert "is damaged" in caplog.text
    caplog.clear()
    assert record.answer(one, QUESTIONS, as_of=DATES) == expected
    assert one.count == 10
    assert not caplog.records


def test_the_published_parts_are_recorded_as_well(tiny_lm: TinyLm, record: AnswerRecord, tmp_path: Path) -> None:
    one = untrained_answerer(tiny_lm("llama"), tmp_path / "bank", MAYORS, params=small_params(**PUBLISHED))
    assert record.answer(one, QUESTIONS, as_of=DATES) == plain(one) == record.answer(one, QUESTIONS, as_of=DATES)


@pytest.fixture
def project(tiny_workspace: Path) -> Path:
    """Two rounds, and questions enough for some seconds."""
    start = datetime(2031, 3, 1, tzinfo=UTC)
    rows = [
        {"doc_id": "ferry", "question": f"What does ferry {n} cost?", "answers": ["six"], "asked_at": start}
        for n in range(300)
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
    """Answers on disk."""
    count = 0
    for file in (project / "data/state").glob("answers-*.sqlite"):
        database = sqlite3.connect(file, timeout=30)
        tables = database.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
        count += database.execute("SELECT count(*) FROM answers").fetchone()[0] if tables else 0
        database.close()
    return count


def test_an_evaluation_that_was_killed_goes_on_where_it_was(project: Path) -> None:
    command = [sys.executable, "-m", "cmt", "--params", str(project / "params.yaml"), "evaluate", "--json"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    deadline = time.monotonic() + 120
    while recorded(project) < 20 and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    done = recorded(project)
    assert 20 <= done < 304

    def evaluate(name: str) -> tuple[Any, list[int]]:
        heard: list[int] = []
        workspace = cmt.open(params=project / "params.yaml")
        if name:
            workspace.answer_record = AnswerRecord(project / name)
        return workspace.evaluate(on_progress=heard.append), heard

    resumed, heard = evaluate("")
    assert (heard[0], sum(heard)) == (done, 304)
    again, heard = evaluate("")
    assert heard == [304]
    undisturbed, heard = evaluate("elsewhere")
    assert (heard[0], sum(heard)) == (0, 304)
    assert resumed.systems[0].scores == again.systems[0].scores == undisturbed.systems[0].scores
    assert resumed.records.drop_columns("confidence") == undisturbed.records.drop_columns("confidence")
    assert again.records == resumed.records
    assert again.systems[0].seconds < undisturbed.systems[0].seconds


def test_after_a_rollback_or_a_forgotten_document_everything_is_asked_again(tiny_workspace: Path) -> None:
    workspace = cmt.open(params=tiny_workspace / "params.yaml", overrides={"evaluation.baselines": False})
    workspace.ingest()
    while workspace.pending():
        workspace.update()

    def found_at_once() -> int:
        heard: list[int] = []
        workspace.evaluate(on_progress=heard.append)
        return heard[0]

    assert [found_at_once(), found_at_once()] == [0, 4]
    workspace.rollback(workspace.rounds()[-1].round_id)
    assert [found_at_once(), found_at_once()] == [0, 4]
    workspace.update()
    assert [found_at_once(), found_at_once()] == [0, 4]
    workspace.forget("ferry")
    assert [found_at_once(), found_at_once()] == [0, 4]
