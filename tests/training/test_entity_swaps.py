"""Entity swaps: which names are exchanged, and what they leave alone."""

import pyarrow as pa

from cmt.stream.schema import QUESTION_SCHEMA
from cmt.training.entity_swaps import entity_swaps

ELLERY = "Ines Calloway is the mayor of Port Ellery since 1998."
ANTWERP = "The mayor of Old Antwerp opened the bridge in 1974."


def swaps(*pairs: tuple[str, str], answers: bool = True) -> list[tuple[str, str]]:
    """(document, question) of the swaps of `pairs` of a document and a question."""
    documents = pa.table({"doc_id": ["a", "b"], "title": ["A", "B"], "text": [ELLERY, ANTWERP]})
    rows = [
        {"question_id": str(n), "doc_id": doc, "question": question, "answers": ["x"] if answers else []}
        for n, (doc, question) in enumerate(pairs)
    ]
    table = entity_swaps(documents, pa.Table.from_pylist(rows, schema=QUESTION_SCHEMA), seed=0)
    assert table.schema == QUESTION_SCHEMA
    assert not any(table["answers"].to_pylist())
    return list(zip(table["doc_id"].to_pylist(), table["question"].to_pylist(), strict=True))


def test_a_name_of_the_document_is_exchanged_for_one_of_another_article() -> None:
    found = swaps(("a", "Who is the mayor of Port Ellery?"), ("b", "Who opened what in Old Antwerp?"))
    assert found == [("a", "Who is the mayor of Old Antwerp?"), ("b", "Who opened what in Port Ellery?")]


def test_years_are_exchanged_for_years() -> None:
    assert swaps(("a", "Who governs since 1998?"), ("b", "What opened in 1974?")) == [
        ("a", "Who governs since 1974?"),
        ("b", "What opened in 1998?"),
    ]


def test_names_that_the_document_does_not_have_are_left_alone() -> None:
    assert swaps(("a", "Who is the mayor of New York?"), ("b", "Who opened what in Old Antwerp?")) == [
        ("b", "Who opened what in New York?")
    ]


def test_the_first_word_of_a_question_is_no_name() -> None:
    assert not swaps(("a", "Ines is the mayor of what?"), ("b", "Antwerp has what?"))


def test_unanswerable_questions_are_not_swapped() -> None:
    pairs = ("a", "Who is the mayor of Port Ellery?"), ("b", "Who opened what in Old Antwerp?")
    assert not swaps(*pairs, answers=False)
