"""The synthetic stream: what a seed determines, that its rows are valid, and that its answers are
true.
"""

import json
from collections import Counter, defaultdict
from datetime import datetime
from pathlib import Path

import pytest

from tests.helpers.rows import NOW, validated
from tests.helpers.scripts import load_script, run_main

SCRIPT = load_script("chronicle")
chronicle = SCRIPT.chronicle
ERA = SCRIPT.ENTITIES * SCRIPT.DOCUMENTS_PER_ENTITY
ROWS = list(chronicle(documents=3000, seed=7))
DOCUMENTS = {row["doc_id"]: row for row in ROWS if "text" in row}
QUESTIONS = [row for row in ROWS if "question" in row]


def test_the_stream_depends_on_the_seed_alone() -> None:
    assert list(chronicle(documents=500, seed=7)) == list(chronicle(documents=500, seed=7))
    texts = {row["text"] for row in chronicle(documents=500, seed=8) if "text" in row}
    assert not texts & {row["text"] for row in DOCUMENTS.values()}


@pytest.mark.parametrize("documents", [1, 999, ERA, ERA + 1])
def test_a_longer_stream_begins_with_the_shorter_one(documents: int) -> None:
    short = list(chronicle(documents=documents, seed=7))
    assert sum("text" in row for row in short) == documents
    assert short == ROWS[: len(short)]


def test_every_row_is_valid_and_in_the_order_of_its_date() -> None:
    dates = [row.get("published_at") or row["asked_at"] for row in ROWS]
    assert list(map(datetime.fromisoformat, dates)) == sorted(map(datetime.fromisoformat, dates))
    documents, questions = validated(*DOCUMENTS.values(), *QUESTIONS)
    assert (documents.table.num_rows, questions.table.num_rows) == (3000, len(QUESTIONS))
    assert documents.rejected == questions.rejected == []


def test_an_answer_is_in_its_document_and_changes_with_a_fact_alone() -> None:
    instant = datetime.fromisoformat
    superseded = {
        row["supersedes"]: instant(row["published_at"])
        for row in DOCUMENTS.values()
        if row["supersedes"]
    }
    by_document = {row["doc_id"]: row for row in QUESTIONS}
    changes = Counter[bool]()
    for row in QUESTIONS:
        document, asked_at = DOCUMENTS[row["doc_id"]], instant(row["asked_at"])
        assert row["answers"][0] in document["text"]
        assert instant(document["published_at"]) < asked_at < superseded.get(row["doc_id"], NOW)
        if earlier := by_document.get(document["supersedes"]):
            changed = document["kind"] == "fact"
            changes[changed] += 1
            assert row["question"] == earlier["question"]
            assert (row["answers"] != earlier["answers"]) == changed
    assert changes[True] > 500 and changes[False] > 100


def test_rumours_and_duplicates_supersede_nothing_and_paraphrases_use_another_sentence() -> None:
    texts = Counter(row["text"] for row in DOCUMENTS.values() if row["kind"] != "duplicate")
    assert set(texts.values()) == {1}
    for row in DOCUMENTS.values():
        if row["kind"] in ("contradiction", "duplicate", "noise"):
            assert row["supersedes"] is None
        assert row["kind"] != "duplicate" or row["text"] in texts
        if row["kind"] == "paraphrase":
            assert row["text"].split(".")[0] not in DOCUMENTS[row["supersedes"]]["text"]


def test_a_rumour_is_never_true() -> None:
    answers: dict[str, set[str]] = defaultdict(set)
    for row in QUESTIONS:
        answers[DOCUMENTS[row["doc_id"]]["title"]].update(row["answers"])
    rumours = [row for row in DOCUMENTS.values() if row["kind"] == "contradiction"]
    assert len(rumours) > 50
    for row in rumours:
        statement = row["text"].partition(": ")[2].partition(". ")[0]
        assert not any(f" {answer}" in f" {statement} " for answer in answers[row["title"]])


def test_without_rumours_facts_take_their_share() -> None:
    for rumours, share in ((True, 0.05), (False, 0.0)):
        counts = Counter(
            row["kind"]
            for row in chronicle(documents=4000, seed=1, rumours=rumours)
            if "text" in row
        )
        assert counts["noise"] / 4000 == pytest.approx(0.2, abs=0.02)
        assert counts["contradiction"] / 4000 == pytest.approx(share, abs=0.015)
        assert counts["fact"] > 2400


def test_the_script_writes_json_lines(tmp_path: Path) -> None:
    out = tmp_path / "chronicle.jsonl"
    status, stdout, _ = run_main("chronicle", "--documents", "50", "--seed", "7", "--out", str(out))
    lines = out.read_text(encoding="utf-8").splitlines()
    assert (status, list(map(json.loads, lines))) == (0, ROWS[: len(lines)])
    assert f"50 documents and {len(lines) - 50} questions" in stdout
