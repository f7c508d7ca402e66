"""The synthetic stream: what a seed determines, that its rows are valid, and that its answers are true."""

import json
import tracemalloc
from collections import Counter, defaultdict
from datetime import datetime
from pathlib import Path

import pytest

from cmt.errors import ConfigError, StreamError
from cmt.stream.schema import validate_documents, validate_questions
from cmt.stream.synthetic import DOCUMENTS_PER_ENTITY, ENTITIES, Mix, Row, chronicle, write_chronicle
from tests.helpers.rows import NOW, Ingest

ERA = ENTITIES * DOCUMENTS_PER_ENTITY
ROWS = list(chronicle(documents=3000, seed=7))
DOCUMENTS = {row["doc_id"]: row for row in ROWS if "text" in row}
QUESTIONS = [row for row in ROWS if "question" in row]


def kind(row: Row) -> str:
    return str(row["kind"])


def instant(text: str) -> datetime:
    return datetime.fromisoformat(text)


def test_the_stream_depends_on_the_seed_alone() -> None:
    assert list(chronicle(documents=500, seed=7)) == list(chronicle(documents=500, seed=7))
    texts = {row["text"] for row in chronicle(documents=500, seed=8) if "text" in row}
    assert not texts & {row["text"] for row in DOCUMENTS.values()}


@pytest.mark.parametrize("documents", [1, 999, ERA, ERA + 1])
def test_a_longer_stream_begins_with_the_shorter_one(documents: int) -> None:
    short = list(chronicle(documents=documents, seed=7))
    assert sum("text" in row for row in short) == documents
    assert short == ROWS[: len(short)]


def test_rows_are_ordered_by_date() -> None:
    dates = [row.get("published_at") or row["asked_at"] for row in ROWS]
    assert list(map(instant, dates)) == sorted(map(instant, dates))


def test_every_row_is_valid() -> None:
    documents, rejected_documents = validate_documents(enumerate(DOCUMENTS.values()), file="chronicle", now=NOW)
    questions, rejected_questions = validate_questions(enumerate(QUESTIONS), file="chronicle", now=NOW)
    assert (documents.num_rows, questions.num_rows) == (3000, len(QUESTIONS))
    assert rejected_documents == rejected_questions == []


def test_all_documents_but_the_duplicates_are_ingested(ingest: Ingest, tmp_path: Path) -> None:
    n_questions = write_chronicle(tmp_path / "in" / "chronicle.jsonl", documents=3000, seed=7)
    report = ingest(tmp_path / "in" / "chronicle.jsonl", period=500)
    duplicates = sum(kind(row) == "duplicate" for row in DOCUMENTS.values())
    assert (report.accepted, report.duplicates) == (3000 - duplicates, duplicates)
    assert (report.questions, report.rejected) == (n_questions, ())
    assert n_questions == len(QUESTIONS) > 1500


def test_a_question_is_answered_by_the_statement_that_holds_when_it_is_asked() -> None:
    superseded = {row["supersedes"]: instant(row["published_at"]) for row in DOCUMENTS.values() if row["supersedes"]}
    for row in QUESTIONS:
        document, asked_at = DOCUMENTS[row["doc_id"]], instant(row["asked_at"])
        assert row["answers"][0] in document["text"]
        assert instant(document["published_at"]) < asked_at
        assert asked_at < superseded.get(row["doc_id"], NOW)


def test_an_answer_is_valid_from_its_first_statement_to_the_next_change() -> None:
    by_document = {row["doc_id"]: row for row in QUESTIONS}
    changes = Counter[str]()
    for row in QUESTIONS:
        earlier = by_document.get(DOCUMENTS[row["doc_id"]]["supersedes"])
        assert instant(row["valid_from"]) < instant(row["asked_at"])
        assert row["valid_to"] is None or instant(row["asked_at"]) < instant(row["valid_to"])
        if not earlier:
            continue
        changed = kind(DOCUMENTS[row["doc_id"]]) == "fact"
        changes[f"changed {changed}"] += 1
        assert row["question"] == earlier["question"]
        assert (row["answers"] != earlier["answers"]) == changed
        assert (row["valid_from"] == earlier["valid_to"]) == changed
        assert (row["valid_from"] == earlier["valid_from"]) == (not changed)
    assert changes["changed True"] > 500
    assert changes["changed False"] > 100


def test_a_paraphrase_uses_another_sentence() -> None:
    paraphrases = [row for row in DOCUMENTS.values() if kind(row) == "paraphrase"]
    assert paraphrases
    assert all(row["text"].split(".")[0] not in DOCUMENTS[row["supersedes"]]["text"] for row in paraphrases)


def test_rumours_and_duplicates_supersede_nothing() -> None:
    texts = Counter(row["text"] for row in DOCUMENTS.values() if kind(row) != "duplicate")
    assert set(texts.values()) == {1}
    for row in DOCUMENTS.values():
        if kind(row) in ("contradiction", "duplicate", "noise"):
            assert row["supersedes"] is None
        assert kind(row) != "duplicate" or row["text"] in texts


def test_a_rumour_is_never_true() -> None:
    answers: dict[str, set[str]] = defaultdict(set)
    for row in QUESTIONS:
        answers[DOCUMENTS[row["doc_id"]]["title"]].update(row["answers"])
    rumours = [row for row in DOCUMENTS.values() if kind(row) == "contradiction"]
    assert len(rumours) > 50
    for row in rumours:
        statement = row["text"].partition(": ")[2].partition(". ")[0]
        assert not any(f" {answer}" in f" {statement} " for answer in answers[row["title"]])


def test_the_shares_of_the_kinds_follow_the_mix() -> None:
    mix = Mix(paraphrase=0.3, duplicate=0.0, contradiction=0.2, noise=0.4)
    counts = Counter(kind(row) for row in chronicle(documents=20_000, seed=1, mix=mix) if "text" in row)
    assert counts["duplicate"] == 0
    assert counts["noise"] / 20_000 == pytest.approx(0.4, abs=0.02)
    # a fact must be stated before it can be paraphrased, so the share of facts is above its nominal 0.1
    assert 0.1 < counts["fact"] / 20_000 < 0.25
    assert counts["paraphrase"] / counts["contradiction"] == pytest.approx(1.5, abs=0.1)


def test_a_long_stream_needs_no_more_memory_than_a_short_one() -> None:
    def peak(documents: int) -> int:
        tracemalloc.start()
        for _ in chronicle(documents=documents, seed=0):
            pass
        used = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return used

    peak(10)  # objects that are made once
    assert peak(3 * ERA) < 1.2 * peak(ERA)


@pytest.mark.parametrize("shares", [{"noise": -0.1}, {"noise": 0.9}])
def test_shares_that_leave_no_room_for_facts_are_refused(shares: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match="sum is below 1"):
        Mix(**shares)


def test_a_stream_of_no_documents_is_refused() -> None:
    with pytest.raises(ConfigError, match="ask for 1 or more"):
        list(chronicle(documents=0, seed=0))


def test_a_file_is_written_as_a_whole_or_not_at_all(tmp_path: Path) -> None:
    progress: list[int] = []
    assert write_chronicle(tmp_path / "a.jsonl", documents=50, seed=7, on_progress=progress.append) >= 1
    assert sum(progress) == 50
    lines = (tmp_path / "a.jsonl").read_text(encoding="utf-8").splitlines()
    assert list(map(json.loads, lines)) == ROWS[: len(lines)]

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(StreamError, match="No space left"):
        write_chronicle(tmp_path / "b.jsonl", documents=50, seed=7, on_progress=full)
    with pytest.raises(StreamError, match="cannot write"):
        write_chronicle(tmp_path / "a.jsonl" / "c.jsonl", documents=50, seed=7)
    assert [path.name for path in tmp_path.iterdir()] == ["a.jsonl"]
