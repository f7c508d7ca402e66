"""Data sets of undeclared changes, and what counts as an answer."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.scripts import load_script

SCRIPT = load_script("undeclared_changes")
ROOT = Path(__file__).parents[2]


def write(folder: Path, **files: list[dict[str, Any]]) -> Path:
    folder.mkdir(exist_ok=True)
    for name, rows in files.items():
        lines = [json.dumps(row, ensure_ascii=False) for row in rows]
        (folder / f"{name}.jsonl").write_text("\n".join(lines), encoding="utf-8")
    return folder


DOCUMENTS = [
    {"doc_id": f"{story}-{n}", "published_at": f"2030-0{n + 1}-01", "text": f"Text {n} of {story}."}
    for story in ("a", "b")
    for n in range(3)
]


def question(doc_id: str, **columns: object) -> dict[str, Any]:
    return {"question": "Who?", "answers": ["Ann"], "doc_id": doc_id, **columns}


def test_a_story_changes_with_each_document_or_as_it_declares(tmp_path: Path) -> None:
    links: list[dict[str, Any]] = [
        {"story": "a", "kind": "change:team", "documents": ["a-0", "a-1", "a-2"]},
        {"story": "b", "kind": "trap:plan", "documents": ["b-0", "b-1"], "update_of": {}},
    ]
    questions = [question("a-1"), question("a-2"), question("b-0"), question("b-2")]
    folder = write(tmp_path, documents=DOCUMENTS, questions=questions, links=links)

    data = SCRIPT.DataSet.read(folder)

    assert data.declared == {("a-0", "a-1"), ("a-1", "a-2")}
    assert data.right == {("a-0", "a-1"), ("a-1", "a-2"), ("a-0", "a-2")}
    assert [row["kind"] for row in data.questions] == ["between", "end", "trap"]
    assert "b-2" not in data.documents["doc_id"].to_pylist()


@pytest.mark.parametrize(
    ("text", "outcome"),
    [
        ("the Chicago White Sox", (True, False)),
        ("White Sox", (True, False)),
        ("Boston Red Sox", (False, True)),
        ("Sox", (False, False)),  # both values alike
        ("baseball", (False, False)),
        ("", (False, False)),
    ],
)
def test_telling_words_decide_which_value_an_answer_gives(
    text: str, outcome: tuple[bool, bool]
) -> None:
    tell = [["chicago", "white", "sox"], ["boston", "red", "sox"]]
    assert SCRIPT.given(text, {"tell": tell, "right": 0}) == outcome


def test_an_answer_may_give_a_wrong_value() -> None:
    row = {"answers": ["five minutes"], "wrong": ["ten minutes"]}
    assert SCRIPT.given("five minutes", row) == (True, False)
    assert SCRIPT.given("ten minutes", row) == (False, True)
    assert SCRIPT.given("an hour", row) == (False, False)


def test_the_company_is_complete() -> None:
    data = SCRIPT.DataSet.read(ROOT / "data/company")

    ids = set(data.documents["doc_id"].to_pylist())
    assert len(ids) == 156
    assert len(data.declared) == 33
    assert all(ids.issuperset(pair) for pair in data.declared)
    kinds = [row["kind"] for row in data.questions]
    assert {kind: kinds.count(kind) for kind in kinds} == {"plain": 102, "changed": 28, "trap": 32}
