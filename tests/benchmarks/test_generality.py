"""The line of figures of each text, on a tiny LM: a dated stream, and paragraphs with and without answers."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from cmt.config import load_params
from tests.helpers.facts import FACTS
from tests.helpers.scripts import run_main

UNANSWERABLE = 3


def squad(*, answered: int) -> str:
    """Some of FACTS in SQuAD's layout: `answered` with their answer, UNANSWERABLE without."""
    paragraphs = []
    for place, fact in enumerate(FACTS[: answered + UNANSWERABLE]):
        answers = [{"text": fact["answer"]}] if place < answered else []
        qa = {"id": fact["doc_id"], "question": fact["question"], "answers": answers}
        paragraphs.append({"context": fact["text"], "qas": [qa]})
    return json.dumps({"version": "v2.0", "data": [{"title": "Facts", "paragraphs": paragraphs}]})


@pytest.fixture(scope="module")
def project(tiny_project: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = Path(shutil.copytree(tiny_project, tmp_path_factory.mktemp("generality") / "project"))
    (folder / "facts.json").write_text(squad(answered=6), encoding="utf-8")
    (folder / "unanswerable.json").write_text(squad(answered=0), encoding="utf-8")
    return folder


def arguments(project: Path, *names: str) -> list[str]:
    data = [argument for name in names for argument in ("--data", str(project / name))]
    return [*data, "--params", str(project / "params.yaml")]


@pytest.fixture(scope="module")
def texts(project: Path) -> dict[str, dict[str, Any]]:
    """File name → figures."""
    compressor = str(load_params(project / "params.yaml").compressor.path)
    options = ["--questions", "4", "--rag-trained", compressor, "--json"]
    names = ("news", "facts.json", "unanswerable.json")
    status, stdout, stderr = run_main("generality", *arguments(project, *names), *options)
    assert status == 0, stderr
    assert "facts.json: cmt: 6 of 6" in stderr
    return {Path(text["data"]).name: text for text in json.loads(stdout)["texts"]}


def test_every_system_is_asked_the_same_questions(texts: dict[str, dict[str, Any]]) -> None:
    rows = {row["row"]: row for row in texts["facts.json"]["rows"]}
    assert list(rows) == [
        "cmt",
        "cmt, right document given",
        *(f"rag-{search}-{top_k}" for search in ("bm25", "dense", "hybrid") for top_k in (1, 3)),
        "rag_trained, BM25 top-1",
        "rag_trained, BM25 top-3",
    ]
    assert {row["n"] for row in rows.values()} == {4}
    assert rows["cmt, right document given"]["recall"] == 1.0
    best = max((row for name, row in rows.items() if name.startswith("rag-")), key=lambda row: row["f1"])
    assert rows[texts["facts.json"]["best_rag"]]["f1"] == best["f1"]
    assert texts["facts.json"]["best_rag_trained"].startswith("rag_trained, ")


def test_without_rag_the_figures_of_the_memory_are_the_same(project: Path, texts: dict[str, dict[str, Any]]) -> None:
    options = ["--questions", "4", "--no-rag", "--json"]
    status, stdout, stderr = run_main("generality", *arguments(project, "facts.json"), *options)
    assert status == 0, stderr
    (text,) = json.loads(stdout)["texts"]
    assert text["rows"] == texts["facts.json"]["rows"][:2]
    assert (text["best_rag"], text["best_rag_trained"], text["ratio"]) == (None, None, None)
    assert text["bins"] == texts["facts.json"]["bins"]


def test_each_question_is_asked_as_of_its_own_date(texts: dict[str, dict[str, Any]]) -> None:
    rows = {row["row"]: row for row in texts["news"]["rows"]}
    assert rows["rag-bm25-1"]["recall"] == 1.0  # the first mayor is superseded later
    assert texts["news"]["unanswerable"] == 0
    assert texts["news"]["refused"]["unanswerable"] is None


def test_as_large_a_share_of_the_unanswerable_questions_is_asked(texts: dict[str, dict[str, Any]]) -> None:
    text = texts["facts.json"]
    assert (text["documents"], text["questions"], text["unanswerable"]) == (9, 4, 2)
    assert sum(bin_["count"] for bin_ in text["bins"]) == 6
    assert 0 <= text["calibration_error"] <= 1
    assert text["refused"]["unanswerable"] in (0.0, 0.5, 1.0)
    assert text["refused"]["answerable"] is not None
    assert 0 <= text["likely"]["likely"] <= 1 - text["refused"]["answerable"]


def test_a_text_without_an_answerable_question_has_no_scores(texts: dict[str, dict[str, Any]]) -> None:
    text = texts["unanswerable.json"]
    assert (text["questions"], text["unanswerable"], text["rows"]) == (0, UNANSWERABLE, [])
    assert text["best_rag"] is text["best_rag_trained"] is text["ratio"] is text["likely"] is None
    assert text["refused"]["answerable"] is None
    assert text["refused"]["unanswerable"] is not None


def test_the_table_has_a_line_a_text_and_no_trained_prefix_is_said(project: Path) -> None:
    options = ["--rag-trained", str(project / "nowhere"), "--questions", "2"]
    status, stdout, stderr = run_main("generality", *arguments(project, "unanswerable.json", "facts.json"), *options)
    assert status == 0, stderr
    assert "RAG with a trained prefix is left out: no compressor in" in stderr
    lines = [line.split() for line in stdout.splitlines() if ".json" in line]
    assert [line[:2] for line in lines] == [["unanswerable.json", "0"], ["facts.json", "2"]]
    assert lines[0][-3:] == ["%", "of", "2"]


@pytest.mark.parametrize(
    ("name", "content", "status", "message"),
    [
        ("none.json", None, 1, "none.json not found; name a file"),
        ("rows.csv", "", 2, "the format of"),
        ("empty.json", json.dumps({"data": [{"paragraphs": [{"context": "A.", "qas": []}]}]}), 1, "has no question on"),
    ],
)
def test_a_file_that_cannot_be_asked_about_is_refused_before_anything_is_measured(
    project: Path, name: str, content: str | None, status: int, message: str
) -> None:
    if content is not None:
        (project / name).write_text(content, encoding="utf-8")
    returned, stdout, stderr = run_main("generality", *arguments(project, "facts.json", name))
    assert (returned, stdout) == (status, "")
    assert message in stderr
    assert "compress" not in stderr
