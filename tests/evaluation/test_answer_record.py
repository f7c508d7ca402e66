"""Recorded answers are read, as long as nothing changed that answers depend on."""

import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow as pa
import pytest

import cmt
from cmt.answering.answer import Answer
from cmt.answering.answerer import Answerer
from cmt.bank.changes import Change, ValueSpan
from cmt.evaluation._answer_record import RecordedAnswer, recorded_answers
from cmt.retrieval.indexer import compress_documents
from tests.helpers.facts import documents
from tests.helpers.lms import TinyLm
from tests.helpers.untrained import MAYORS, small_params, untrained_answerer

QUESTIONS = [
    "Who is the mayor of Port Ellery?",
    "What does the ferry to Saltby cost?",
    "Six?",
    "Who?",
    "Where is it?",
]
DATES = [datetime(2031, 3, 1, tzinfo=UTC)] * len(QUESTIONS)
CRANE = [
    {
        "doc_id": "crane",
        "published_at": "2031-01-03T07:00:00Z",
        "text": "Who? The mayor is a blue crane, six.",
    }
]


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
    new = compress_documents(
        answerer.model, documents(rows), slice_id="2031-01/0002", params=answerer.params
    )
    answerer.bank.upsert(new)


@pytest.fixture(scope="module")
def shared(tiny_lm: TinyLm, tmp_path_factory: pytest.TempPathFactory) -> Answerer:
    return untrained_answerer(tiny_lm("llama"), tmp_path_factory.mktemp("mayors"), MAYORS)


@pytest.fixture
def answerer(shared: Answerer) -> CountingAnswerer:
    """An answerer over a bank of MAYORS, which no test changes."""
    return counting(shared)


@pytest.fixture
def own_bank(tiny_lm: TinyLm, tmp_path: Path) -> CountingAnswerer:
    """The same over a bank that a test may change."""
    return counting(untrained_answerer(tiny_lm("llama"), tmp_path / "bank", MAYORS))


@pytest.fixture
def record(tmp_path: Path) -> Path:
    """The folder of the recorded answers."""
    return tmp_path / "state"


def test_recorded_answers_are_read_for_any_batch_size(
    answerer: CountingAnswerer, record: Path
) -> None:
    expected = unrecorded(answerer)
    for batch_size, count in ((3, 5), (1, 0), (32, 0)):
        repeated, heard = counting(answerer, answering={"batch_size": batch_size}), list[int]()
        assert (
            recorded_answers(record, repeated, QUESTIONS, as_of=DATES, on_progress=heard.append)
            == expected
        )
        assert (repeated.count, sum(heard)) == (count, 5)
    more = [*QUESTIONS, "Who is Moss?", "Who is Moss?", QUESTIONS[0]]
    again = counting(answerer)
    replies = recorded_answers(record, again, more, as_of=DATES[:1] * 8)
    assert (replies[:5], replies[5], replies[7], again.count) == (
        expected,
        replies[6],
        expected[0],
        1,
    )
    # another date asks again
    early = [datetime(2031, 1, 20, tzinfo=UTC)] * 5
    assert (
        recorded_answers(record, answerer, QUESTIONS, as_of=early)
        == unrecorded(answerer, as_of=early)
        != expected
    )
    assert len({reply.text for reply in replies}) > 1


def test_other_parameters_models_and_changes_ask_again(
    answerer: CountingAnswerer, record: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    span = ValueSpan(
        "a", datetime(2031, 1, 1, tzinfo=UTC), chunk=0, first=0, last=1, digest="0" * 16
    )
    changes = [
        Change(span, replace(span, doc_id="b"), holds_from=span.published_at, confidence=0.9)
    ]

    def asked(**sections: dict[str, Any]) -> int:
        """How many questions are asked beside the record of `answerer`."""
        other = counting(answerer, **sections)
        other.changes_of = lambda doc_ids: [] if doc_ids else changes
        with TemporaryDirectory() as folder:
            shutil.copytree(record, folder, dirs_exist_ok=True)
            recorded_answers(Path(folder), other, QUESTIONS, as_of=DATES)
        return other.count

    answerer.changes_of = lambda doc_ids: [] if doc_ids else changes
    recorded_answers(record, answerer, QUESTIONS, as_of=DATES)
    assert asked() == 0
    assert asked(selection={"abstain_below": 0.99}) == 5
    assert asked(answering={"max_new_tokens": 3}) == 5
    assert asked(bank={"exact_below": 7}) == 5
    assert asked(stream={"authority": {"Courier": ["Herald"]}}) == 5
    for part, digest in ((answerer.model, "digest"), (answerer.lm, "files_digest")):
        with monkeypatch.context() as patch:
            patch.setattr(part, digest, "another")
            assert asked() == 5, digest
    changes[0] = replace(changes[0], state="rejected")
    assert asked() == 5


def test_a_changed_bank_discards_its_answers(own_bank: CountingAnswerer, record: Path) -> None:
    answerer = own_bank
    before = recorded_answers(record, answerer, QUESTIONS, as_of=DATES)
    version = answerer.bank.version
    changes: list[Callable[[], object]] = [
        lambda: add(answerer),
        lambda: answerer.bank.restore(version),
        lambda: answerer.bank.remove({"vell"}),
    ]
    for change in changes:
        change()
        expected = unrecorded(answerer)
        answerer.count = 0
        assert recorded_answers(record, answerer, QUESTIONS, as_of=DATES) == expected
        assert answerer.count == 5
        assert len(list(record.iterdir())) == 1
    assert all("vell" in reply.doc_ids for reply in before)
    assert not any("vell" in reply.doc_ids for reply in expected)


def test_a_bank_with_the_same_name_and_version_but_other_rows_asks_again(
    tiny_lm: TinyLm, record: Path, tmp_path: Path
) -> None:
    first, second = (
        counting(untrained_answerer(tiny_lm("llama"), tmp_path / name, rows))
        for name, rows in {"a": MAYORS, "b": [MAYORS[2], *CRANE]}.items()
    )
    assert (first.bank.name, first.bank.version) == (second.bank.name, second.bank.version)
    recorded_answers(record, first, QUESTIONS, as_of=DATES)
    assert (
        recorded_answers(record, second, QUESTIONS, as_of=DATES)
        == unrecorded(second)
        != unrecorded(first)
    )


def test_answers_during_a_change_of_the_bank_are_not_recorded(
    own_bank: CountingAnswerer, record: Path, caplog: pytest.LogCaptureFixture
) -> None:
    single = counting(own_bank, answering={"batch_size": 1})
    changes = iter([None, None, add])

    def change(_: int) -> None:
        if work := next(changes, None):
            work(own_bank)

    recorded_answers(record, single, QUESTIONS, as_of=DATES, on_progress=change)
    assert "the bank changed during the evaluation" in caplog.text
    expected = unrecorded(single)
    single.count = 0
    assert recorded_answers(record, single, QUESTIONS, as_of=DATES) == expected
    assert single.count == 5


def test_an_interrupted_evaluation_resumes(answerer: CountingAnswerer, record: Path) -> None:
    expected = unrecorded(answerer)
    single = counting(answerer, answering={"batch_size": 1})
    heard = list[int]()

    def interrupt(count: int) -> None:
        heard.append(count)
        if sum(heard) == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        recorded_answers(record, single, QUESTIONS, as_of=DATES, on_progress=interrupt)
    resumed, heard = counting(answerer), list[int]()
    again = recorded_answers(record, resumed, QUESTIONS, as_of=DATES, on_progress=heard.append)
    assert (resumed.count, heard) == (1, [4, 1])
    assert [(reply.text, reply.doc_ids) for reply in again] == [
        (reply.text, reply.doc_ids) for reply in expected
    ]


def test_a_project_evaluates_again_only_what_changed(adapted_workspace: Path) -> None:
    def evaluate() -> tuple[pa.Table, int]:
        heard: list[int] = []
        workspace = cmt.open(
            params=adapted_workspace / "params.yaml", overrides={"evaluation.baselines": False}
        )
        return workspace.evaluate(on_progress=heard.append).records, heard[0]

    (first, computed), (again, recorded) = evaluate(), evaluate()
    assert (first, computed, recorded) == (again, 0, 4)
    cmt.open(params=adapted_workspace / "params.yaml").forget("ferry")
    assert [evaluate()[1], evaluate()[1]] == [0, 3]  # the question about it is not asked
