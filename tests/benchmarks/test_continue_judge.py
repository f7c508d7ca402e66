"""The pairs that continue the training of the judge."""

import json
import lzma
import random
from datetime import UTC, date, datetime
from itertools import islice
from pathlib import Path
from types import ModuleType

import pyarrow as pa
import pytest

from cmt.answering.judge import Statement
from tests.helpers.scripts import load_script

PARAGRAPHS = [
    ("2003-05-01", "Saltbian President Ada Moss opens the harbour."),
    ("2004-05-01", "Saltbian President Ada Moss visits Tarn."),
    ("2009-05-01", "Saltbian President Iven Osei closes the harbour."),
    ("2010-05-01", "A Saltbian ship sinks near Tarn."),
    ("2011-05-01", "Former Saltbian President Ada Moss dies."),
]


@pytest.fixture
def script() -> ModuleType:
    return load_script("continue_judge")


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    path = tmp_path / "plain.jsonl.xz"
    with lzma.open(path, "wt") as lines:
        for day, text in PARAGRAPHS:
            lines.write(json.dumps({"published_at": day, "text": text}) + "\n")
    return path


def statement(text: str, answer: str, month: int) -> Statement:
    first = text.index(answer)
    date = datetime(2031, month, 1, tzinfo=UTC)
    return Statement(text, first, first + len(answer), 0.0, date)


def test_an_office_with_another_holder_has_changed(script: ModuleType, plain: Path) -> None:
    pairs = list(islice(script.dated_pairs(plain, random.Random(1)), 60))
    for pair in pairs:
        assert pair.earlier.published < pair.later.published
        changed = "Moss" in pair.earlier.text and "Osei" in pair.later.text
        assert (pair.holds, pair.changed) == ((1.0, 1.0) if changed else (0.0, 0.0))
    assert {pair.changed for pair in pairs} == {0.0, 1.0}


def test_sentences_of_two_values_change_and_those_of_none_do_not(
    script: ModuleType, tmp_path: Path
) -> None:
    path = tmp_path / "many.jsonl.xz"
    with lzma.open(path, "wt") as lines:
        row = {"published_at": "2031-01-01", "text": "The harbour of Saltby had ships on Monday."}
        lines.write(f"{json.dumps(row)}\n" * 8_000)
    pairs = list(islice(script.told_pairs(path, random.Random(1)), 300))
    labels = {(pair.holds, pair.changed) for pair in pairs}
    assert labels == {(1.0, 1.0), (0.0, 0.0), (1.0, 0.0)}
    assert all(pair.earlier.published < pair.later.published for pair in pairs)
    assert "{" not in "".join(pair.question + pair.later.text for pair in pairs)


def test_the_right_document_labels_a_pair(script: ModuleType) -> None:
    old, new = statement("The fare is 8 crowns.", "8", 3), statement("It is 11 now.", "11", 7)
    other = statement("Moss has 30 cows.", "30", 5)
    questions = [
        {"question": "What is the fare?", "doc_id": "new", "answers": ["11"], "kind": "changed"}
    ]
    changes = {("old", "new")}
    data = script.DataSet(pa.table({}), questions, changes, changes)
    ids = {old.text: "old", new.text: "new", other.text: "other"}
    labels = script.Labels(data, ids)
    question = questions[0]["question"]
    assert labels.natural(question, old, new) == (1.0, 1.0)
    assert labels.natural(question, other, new) == (1.0, 0.0)
    assert labels.made("The fare is how many crowns?", old, new) == (1.0, 1.0)
    holds, changed = labels.made("Moss has how many cows?", old, other)
    assert holds != holds and changed == 0.0


def test_a_pair_is_read_as_it_was_written(script: ModuleType) -> None:
    texts = (script.DatedText("a", date(2031, 1, 2)), script.DatedText("b", date(2031, 3, 4)))
    pair = script.Pair("Who?", *texts, 1.0, 0.0)
    assert script.read_pair(json.dumps(pair, default=str)) == pair
