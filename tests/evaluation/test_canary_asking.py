"""Which canaries a round answers again, and which keep their outcome."""

import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import yaml

import cmt
from cmt.answering.confidence import Basis
from cmt.config import GateParams, load_params
from cmt.evaluation import canary_asking, canary_choice
from cmt.evaluation.canary import Canary, Outcome
from cmt.evaluation.canary_harm import NewDocument, NewSlice
from cmt.evaluation.evaluate import Evaluation, evaluate
from cmt.lm.model import FrozenLM
from cmt.stream.authority import Authority
from tests.helpers.fact_reader import DATE, FactReader, Facts

ROOT = Path(__file__).parents[2]
FARE, MAYOR = "What is the fare to Saltby?", "Who is the mayor?"
KNOWN: dict[str, Facts] = {"ferry": {FARE: ("6 crowns", 0.8)}, "mayor": {MAYOR: ("Ines Vell", 0.8)}}
FIXED = Canary("fare", "ferry", FARE, ("6 crowns",), source="Courier", published_at=DATE, fixed=True)
NEAR = Canary("mayor", "mayor", MAYOR, ("Ines Vell",), source="Courier", published_at=DATE)


def ask(canaries: Sequence[Canary], **documents: Facts) -> tuple[dict[str, Canary], list[str]]:
    """Ask after a slice with these documents; returns the canaries and the questions that were answered."""
    reader = FactReader.of(KNOWN | documents, {})
    later = DATE + timedelta(days=30)
    new = NewSlice(
        reader.bank.documents(documents),
        {name: NewDocument(name, "Courier", later) for name in documents},
        Authority(),
        lambda _sources: {},
    )
    asked = canary_asking.ask(reader, canaries, new, gate=GateParams(), leave_out=lambda _doc_ids: None)
    return {canary.question_id: canary for canary in asked}, reader.asked


def test_without_a_document_of_the_slice_only_the_fixed_sample_gets_its_first_answer() -> None:
    first, asked = ask([FIXED, NEAR], lamp={"When?": ("at nine", 0.9)})
    assert (asked, first["fare"].now.answer, first["mayor"]) == ([FARE], "6 crowns", NEAR)
    again, asked = ask([first["fare"]], oil={"How dear?": ("dear", 0.9)})
    assert (asked, again["fare"]) == ([], first["fare"])


@pytest.mark.parametrize("canary", [FIXED, NEAR])
def test_a_canary_that_selects_a_document_of_the_slice_is_asked(canary: Canary) -> None:
    question = canary.question
    before = Outcome("earlier", 0.0, False, None)
    for now in (None, before):
        given = replace(canary, best=now, now=now)
        [answered], asked = (list(part) for part in ask([given], note={question: (canary.references[0], 0.1)}))
        assert (asked, answered) == ([question], canary.question_id)


def test_an_outcome_of_another_selection_is_asked_for_again() -> None:
    right = Outcome("6 crowns", 1.0, True, "ferry")
    for basis in (None, Basis("another", 0.0, 0.8)):
        _, asked = ask([replace(FIXED, best=right, now=right, basis=basis)])
        assert asked == [FARE]


def test_on_the_newspaper_the_outcomes_are_those_of_asking_all(
    real_lm: FrozenLM, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = _newspaper(tmp_path, real_lm, months=3, documents=4)
    real = canary_asking._asked
    pairs: list[tuple[Canary, Canary, Canary]] = []

    def both(answerer: Any, canaries: Sequence[Canary], new: NewSlice, on_progress: Any) -> list[Canary]:
        found = real(answerer, canaries, new, on_progress)
        with monkeypatch.context() as patch:
            patch.setattr(canary_asking, "_to_ask", lambda *_: True)
            pairs.extend(zip(canaries, found, real(answerer, canaries, new, None), strict=True))
        return found

    def evaluated(answerer: Any, questions: pa.Table, *, earlier: pa.Table, **options: Any) -> Evaluation:
        count: list[int] = []
        found = evaluate(answerer, questions, earlier=earlier, **options | {"on_progress": count.append})
        kept.append(count[0])
        full = evaluate(answerer, questions, **options).records
        for name in ("cmt", "sources", "recalled"):
            assert found.records[name].to_pylist() == full[name].to_pylist()
        for name in ("confidence", "uncalibrated"):
            assert found.records[name].to_pylist() == pytest.approx(full[name].to_pylist())
        return found

    kept: list[int] = []
    monkeypatch.setattr(canary_asking, "_asked", both)
    monkeypatch.setattr(canary_choice, "STANDING", 2)
    monkeypatch.setattr("cmt.evaluation.evaluate.evaluate", evaluated)
    for slice_ in workspace.store.slices():
        workspace.update(slice_id=slice_.slice_id)
    assert kept[0] == 0 and sum(kept) >= 2
    skipped = [asked for asked, found, _ in pairs if found == asked]
    assert len(pairs) == 8 and skipped
    for _, found, full in pairs:
        if found.now:
            assert found.now == full.now
        # nothing is harmed, updated or doubted that asking all would not, and the other way round
        for name in ("harmed_by", "updated_by", "without", "references", "set_aside"):
            assert getattr(found, name) == getattr(full, name)


def _newspaper(folder: Path, lm: FrozenLM, *, months: int, documents: int) -> cmt.Workspace:
    """A workspace whose stream has the first `documents` articles of each of the first months and their questions."""
    courier = ROOT / "data/courier"
    kept: list[dict[str, Any]] = []
    articles, questions = (
        [json.loads(line) for line in (courier / name).read_text().splitlines()]
        for name in ("documents.jsonl", "questions.jsonl")
    )
    for month in range(1, months + 1):
        kept += [row for row in articles if row["published_at"].startswith(f"2031-{month:02}")][:documents]
    doc_ids = {row["doc_id"] for row in kept}
    kept += [row for row in questions if row["doc_id"] in doc_ids]
    (folder / "news.jsonl").write_text("".join(json.dumps(row) + "\n" for row in kept))
    shipped = load_params(ROOT / "params.yaml")
    params = {
        "lm": {"source": shipped.lm.source, "path": str(shipped.lm.path)},
        "compressor": {"path": str(shipped.compressor.path)},
        "stream": {"source": "news.jsonl", "clock": "2031-12-31T00:00:00Z"},
        "evaluation": {"questions": 2, "earlier_questions": 2},
        "gate": {"canaries": 4},
        "tracking": {"enabled": False},
    }
    (folder / "params.yaml").write_text(yaml.safe_dump(params))
    workspace = cmt.open(params=folder / "params.yaml")
    workspace._lm = lm
    workspace.ingest()
    return workspace
