"""Entity swaps: which names are exchanged, and what they leave alone."""

import pyarrow as pa
import pytest

from cmt.stream.schema import QUESTION_SCHEMA
from cmt.training.entity_swaps import entity_swaps

ELLERY = "Ines Calloway is the mayor of Port Ellery since 1998."
ANTWERP = "The mayor of Old Antwerp opened the bridge in 1974."


def swaps(*pairs: tuple[str, str], answers: bool = True) -> list[tuple[str, str]]:
    """(document, question) of the swaps of `pairs` of a document and a question."""
    documents = pa.table({"doc_id": ["a", "b"], "title": ["A", "B"], "text": [ELLERY, ANTWERP]})
    rows = [
        {
            "question_id": str(n),
            "doc_id": doc,
            "question": question,
            "answers": ["x"] if answers else [],
        }
        for n, (doc, question) in enumerate(pairs)
    ]
    table = entity_swaps(documents, pa.Table.from_pylist(rows, schema=QUESTION_SCHEMA), seed=0)
    assert table.schema == QUESTION_SCHEMA
    assert not any(table["answers"].to_pylist())
    return list(zip(table["doc_id"].to_pylist(), table["question"].to_pylist(), strict=True))


@pytest.mark.parametrize(
    ("on_ellery", "on_antwerp", "swapped"),
    [
        (
            "Who is the mayor of Port Ellery?",
            "Who opened what in Old Antwerp?",
            ["Who is the mayor of Old Antwerp?", "Who opened what in Port Ellery?"],
        ),
        (
            "Who governs since 1998?",
            "What opened in 1974?",
            ["Who governs since 1974?", "What opened in 1998?"],
        ),
        # a name that the document does not have
        (
            "Who is the mayor of New York?",
            "Who opened what in Old Antwerp?",
            ["Who opened what in New York?"],
        ),
        # the first word of a question is no name
        ("Ines is the mayor of what?", "Antwerp has what?", []),
    ],
)
def test_a_name_or_year_of_the_document_is_exchanged_for_one_of_another_article(
    on_ellery: str, on_antwerp: str, swapped: list[str]
) -> None:
    pairs = ("a", on_ellery), ("b", on_antwerp)
    assert [question for _, question in swaps(*pairs)] == swapped
    assert not swaps(*pairs, answers=False)
