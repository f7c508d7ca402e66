"""Evaluations with a scripted LM, and the questions that a round asks."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pytest

from cmt.answering.cache import PromptCache
from cmt.bank.bank import Bank
from cmt.config import Params
from cmt.errors import StreamError
from cmt.evaluation.evaluate import RECORD_SCHEMA, Evaluation, evaluate, round_questions
from cmt.lm.model import FrozenLM
from cmt.stream.admission.ingest import Options, ingest
from cmt.stream.schema import QUESTION_SCHEMA
from cmt.stream.store import SliceStore
from tests.helpers.rows import NOW, make_document, make_question, write_lines

MONTHS = ("2031-01", "2031-02", "2031-03")


def question(
    name: str, doc_id: str, text: str, answers: list[str], asked: str
) -> dict[str, object]:
    moment = datetime.fromisoformat(asked).replace(tzinfo=UTC)
    return {
        "question_id": name,
        "doc_id": doc_id,
        "question": text,
        "answers": answers,
        "asked_at": moment,
    }


QUESTIONS = pa.Table.from_pylist(
    [
        question(
            "q1",
            "mayor-1",
            "Who is the mayor of Port Ellery, please?",
            ["Moss", "Mr Moss"],
            "2031-01-20",
        ),
        question("q2", "mayor-2", "Who is the mayor of Port Ellery?", ["Vell"], "2031-06-01"),
        question("q3", "ferry", "What does the Saltby ferry cost?", ["6 crowns"], "2031-06-01"),
        question(
            "q4", "mayor-1", "Who was the mayor?", ["Moss"], "2031-06-01"
        ),  # superseded by then
    ],
    schema=QUESTION_SCHEMA,
)


@dataclass
class Librarian:
    """In place of an Answerer: answers with the first word of the best article, and knows nothing
    of the ferry.
    """

    bank: Bank
    lm: object = None
    params: Params = field(default_factory=Params)
    searched: Bank | None = None
    confidence_is_probability: bool = True

    def answer(
        self, questions: Sequence[str], *, as_of: Sequence[datetime | None], on_progress: Any = None
    ) -> list[Any]:
        answers = []
        for text, moment in zip(questions, as_of, strict=True):
            found = (self.searched or self.bank).full_text(text=text, k=4, as_of=moment).to_pylist()
            sources = tuple(SimpleNamespace(doc_id=row["doc_id"]) for row in found)
            words = found[0]["text"].split()
            known = "ferry" not in text
            confidence = 0.1 * len(words)
            answers.append(
                SimpleNamespace(
                    text=words[0],
                    known=known,
                    confidence=confidence,
                    uncalibrated=confidence,
                    sources=sources,
                )
            )
        if on_progress:
            on_progress(len(questions))
        return answers


def run(
    lm: object,
    bank: Bank,
    questions: pa.Table = QUESTIONS,
    *,
    baselines: bool = True,
    params: Params | None = None,
    searched: Bank | None = None,
    **options: Any,
) -> Evaluation:
    """Evaluate a Librarian; `searched` is the bank that it reads, by default `bank`."""
    answerer: Any = Librarian(bank, lm, params or Params(), searched)
    return evaluate(
        answerer,
        questions,
        baselines=baselines,
        **{"complete": getattr(lm, "complete", None)} | options,
    )


def test_each_system_has_the_scores_of_its_answers(script: Any, bank: Bank) -> None:
    found = run(script, bank)
    assert [system.system for system in found.systems] == ["cmt", "closed", "rag"]
    memory, closed, retrieved = (system.scores for system in found.systems)
    assert (memory.em, memory.em_prefix, memory.f1, memory.n) == (50.0, 50.0, 50.0, 4)
    assert (closed.em, closed.f1, closed.recall) == (0.0, 0.0, None)
    assert (retrieved.em, retrieved.recall) == (50.0, 0.75)
    assert memory.recall == 0.75
    assert all(system.seconds > 0 for system in found.systems)


def test_recall_counts_the_first_k_sources(script: Any, bank: Bank) -> None:
    question_ = question(
        "q", "harbour", "Who is mayor of Port Ellery and its harbour?", ["Cranes"], "2031-06-01"
    )
    asked = pa.Table.from_pylist([question_], schema=QUESTION_SCHEMA)
    sources = run(script, bank, asked).records["sources"][0].as_py()
    place = sources.index("harbour") + 1
    assert place > 1
    for k, expected in ((place, 1.0), (place - 1, 0.0)):
        params = Params.model_validate({"selection": {"top_k": k}})
        assert run(script, bank, asked, params=params).systems[0].scores.recall == expected


def test_records_have_their_schema_and_the_order_of_the_questions(script: Any, bank: Bank) -> None:
    records = run(script, bank).records
    assert records.schema == RECORD_SCHEMA
    assert records["question_id"].to_pylist() == ["q1", "q2", "q3", "q4"]
    assert records["golds"].to_pylist() == QUESTIONS["answers"].to_pylist()
    assert records["asked_at"].to_pylist() == QUESTIONS["asked_at"].to_pylist()
    assert records["sources"].to_pylist()[1][0] == "mayor-2"
    assert records["recalled"].to_pylist() == [True, True, True, False]
    assert records["confidence"].to_pylist()[1] == 0.8
    # each is asked as of its own date, and an answer not in memory counts as empty
    assert records["cmt"].to_pylist() == ["Moss", "Vell", "", "Vell"]
    assert records["cmt_f1"].to_pylist()[2] == 0.0
    assert records["rag"].to_pylist() == ["Moss", "Vell", "Tickets", "Vell"]
    assert records["closed"].to_pylist() == ["nobody"] * 4


def test_scores_do_not_depend_on_the_order_of_the_questions(script: Any, bank: Bank) -> None:
    many = pa.concat_tables([QUESTIONS] * 5)
    forwards = run(script, bank, many)
    backwards = run(script, bank, many.take(list(range(len(many)))[::-1]))
    assert [system.scores for system in forwards.systems] == [
        system.scores for system in backwards.systems
    ]
    assert forwards.records.to_pylist() == backwards.records.to_pylist()[::-1]


def test_without_baselines_only_the_memory_answers(script: Any, bank: Bank) -> None:
    found = run(script, bank, baselines=False)
    assert [system.system for system in found.systems] == ["cmt"]
    assert not script.prompts
    assert found.records["rag"].null_count == found.records["closed_f1"].null_count == 4


def test_a_bank_without_texts_has_no_rag_and_counts_its_progress(
    script: Any, bank: Bank, textless_bank: Bank
) -> None:
    advances: list[int] = []
    found = run(script, textless_bank, searched=bank, on_progress=advances.append)
    assert [system.system for system in found.systems] == ["cmt", "closed"]
    assert sum(advances) == 12


def test_json_has_stable_keys_and_rounded_numbers(script: Any, bank: Bank) -> None:
    found = json.loads(json.dumps(run(script, bank).to_json()))
    keys = ["row", "em", "em_prefix", "f1", "ci", "recall", "n", "seconds"]
    assert list(found) == ["scores", "rows"]
    assert found["scores"] == {"em": 50.0, "em_prefix": 50.0, "f1": 50.0, "recall": 0.75}
    assert [list(row) for row in found["rows"]] == [
        [*keys, "calibration_error", "likely", "likely_right"],
        keys,
        keys,
    ]
    assert found["rows"][0] | {"ci": None, "seconds": None} == {
        "row": "cmt", "em": 50.0, "em_prefix": 50.0, "f1": 50.0, "ci": None, "recall": 0.75, "n": 4,
        "seconds": None, "calibration_error": 0.1, "likely": 0.5, "likely_right": 0.5,
    }  # fmt: skip
    assert 0 <= found["rows"][0]["ci"][0] <= 50 <= found["rows"][0]["ci"][1] <= 100


def test_scores_and_progress_are_the_same_with_and_without_a_cache(
    lm: FrozenLM, bank: Bank, tmp_path: Path
) -> None:
    plain = run(lm, bank)
    for _ in range(2):
        advances: list[int] = []
        cache = PromptCache(tmp_path / "answers.sqlite", lm)
        cached = run(lm, bank, complete=cache.complete, on_progress=advances.append)
        assert sum(advances) == 12  # each question of each system
        assert cached.records == plain.records
        assert [system.scores for system in cached.systems] == [
            system.scores for system in plain.systems
        ]


def test_an_evaluation_without_questions_has_no_scores(lm: FrozenLM, bank: Bank) -> None:
    found = run(lm, bank, QUESTIONS.slice(0, 0))
    assert [system.scores.n for system in found.systems] == [0, 0, 0]
    assert found.records.schema == RECORD_SCHEMA


def make_store(folder: Path, *, order: int = 1, months: Sequence[str] = MONTHS) -> SliceStore:
    """A store with one document and ten questions a month; with `order` -1 the rows of the source
    are reversed.
    """
    rows = [make_document(month, published_at=f"{month}-01") for month in months]
    for month in months:
        rows += [
            make_question(f"{month}-{n}", month, asked_at=f"{month}-{n + 10}") for n in range(10)
        ]
    folder.mkdir(exist_ok=True)
    store = SliceStore(path=folder / "stream", quarantine=folder / "quarantine")
    file = write_lines(folder / "rows.jsonl", rows[::order])
    ingest(store, file, file_format="jsonl", options=Options(now=NOW))
    return store


def asked_ids(
    store: SliceStore, place: int, *, earlier: int, own: int = 10, seed: int = 0
) -> list[str]:
    table = round_questions(
        store=store, slice_=store.slices()[place], own=own, earlier=earlier, seed=seed
    )
    assert table.schema == QUESTION_SCHEMA
    return table["question_id"].to_pylist()


def test_a_round_asks_samples_of_its_own_and_of_earlier_questions(tmp_path: Path) -> None:
    store = make_store(tmp_path)
    asked = asked_ids(store, 2, earlier=5)
    assert asked[:10] == [f"2031-03-{number}" for number in range(10)]
    assert len(set(asked)) == 15
    assert all(name < "2031-03" for name in asked[10:])
    assert asked[10:] == sorted(asked[10:])
    few = asked_ids(store, 2, own=4, earlier=2)
    assert len(few) == len(set(few)) == 6
    assert [name[:7] for name in few[:4]] == ["2031-03"] * 4
    assert few[:4] == sorted(few[:4]) != asked_ids(store, 2, own=4, earlier=2, seed=1)[:4]
    cases = (0, 10, 5), (1, 10, 50), (2, 10, 0), (2, 0, 0)
    sizes = [
        len(asked_ids(store, place, own=own, earlier=earlier)) for place, own, earlier in cases
    ]
    assert sizes == [10, 20, 10, 0]


def test_a_sample_depends_on_the_seed_and_on_neither_the_order_nor_later_slices(
    tmp_path: Path,
) -> None:
    store, backwards = make_store(tmp_path / "one"), make_store(tmp_path / "two", order=-1)
    two_months = make_store(tmp_path / "three", months=MONTHS[:2])
    assert asked_ids(store, 2, earlier=7) == asked_ids(backwards, 2, earlier=7)
    assert asked_ids(store, 2, earlier=7) != asked_ids(store, 2, earlier=7, seed=1)
    assert asked_ids(store, 1, earlier=4) == asked_ids(two_months, 1, earlier=4)
    with pytest.raises(StreamError, match="no slice '2031-03/0001'"):
        round_questions(store=two_months, slice_=store.slices()[2], own=1, earlier=1, seed=0)
