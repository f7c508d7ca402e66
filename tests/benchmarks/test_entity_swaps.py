"""Swaps of a name in a question."""

from tests.helpers.scripts import load_script

SCRIPT = load_script("entity_swaps")
TEXTS = ["The mayor of Port Ellery, Marguerite Osei, opened the ferry to Saltby in 1987."]
NAMES = [
    "Who is the mayor of Fennick Cross?",
    "How far is it to Quarlton?",
    "Who met Marguerite Blom?",
]


def test_a_swap_has_a_name_that_no_text_has() -> None:
    rows = [
        {"question": question}
        for question in ("Who?", "Who runs the ferry to Saltby?", "What opened in 1987?")
    ]
    rows += [{"question": f"Who met the mayor of Port Ellery {n} times?"} for n in range(20)]
    swapped = SCRIPT.swaps(rows, TEXTS, NAMES, seed=0)
    assert swapped == SCRIPT.swaps(rows, TEXTS, NAMES, seed=0)
    assert (swapped[0].kind, swapped[0].question) == ("name", "Who runs the ferry to Quarlton?")
    assert swapped[1].kind == "year" and "1987" not in swapped[1].question
    assert {
        swap.kind: swap.question.partition(" of ")[2].rsplit(" ", 2)[0] for swap in swapped[2:]
    } == {
        "name": "Fennick Cross",
        "part": "Quarlton Ellery",
    }
