"""Swaps of a name in a question, and the counted shares of missing names."""

import json
from pathlib import Path

from tests.helpers.scripts import load_script, run_main

SCRIPT = load_script("entity_swaps")
TEXTS = ["The mayor of Port Ellery, Marguerite Osei, opened the ferry to Saltby in 1987."]
NAMES = ["Who is the mayor of Fennick Cross?", "How far is it to Quarlton?", "Who met Marguerite Blom?"]


def test_a_swap_has_a_name_that_no_text_has() -> None:
    rows = [{"question": question} for question in ("Who?", "Who runs the ferry to Saltby?", "What opened in 1987?")]
    rows += [{"question": f"Who met the mayor of Port Ellery {n} times?"} for n in range(20)]
    swapped = SCRIPT.swaps(rows, TEXTS, NAMES, seed=0)
    assert swapped == SCRIPT.swaps(rows, TEXTS, NAMES, seed=0)
    assert (swapped[0].kind, swapped[0].question) == ("name", "Who runs the ferry to Quarlton?")
    assert swapped[1].kind == "year" and "1987" not in swapped[1].question
    assert {swap.kind: swap.question.partition(" of ")[2].rsplit(" ", 2)[0] for swap in swapped[2:]} == {
        "name": "Fennick Cross",
        "part": "Quarlton Ellery",
    }


def test_missing_names_are_counted_in_a_file(tmp_path: Path) -> None:
    document = {"doc_id": "d", "published_at": "2031-01-06", "text": TEXTS[0]}
    asked = [
        "Who is the mayor of Port Ellery?",
        "Who is the mayor of Paris?",
        "Who is the mayor?",
        "Who met Osei in 1999?",
    ]
    (tmp_path / "documents.jsonl").write_text(json.dumps(document))
    lines = [{"doc_id": "d", "asked_at": "2031-02-01", "question": q, "answers": ["Marguerite Osei"]} for q in asked]
    (tmp_path / "questions.jsonl").write_text("\n".join(map(json.dumps, lines)))
    assert SCRIPT.missing_shares(tmp_path)[1:] == ["4", "25.00", "25.00", "0.00"]
    status, stdout, stderr = run_main("entity_swaps", "--questions", "0", "--data", str(tmp_path))
    assert status == 0, stderr
    assert "25.00" in stdout
