"""Questions of the source first, then made ones."""

from unittest.mock import Mock

from cmt.questions.readable import readable_questions
from tests.helpers.rows import make_document, make_question, validated


def test_questions_of_the_source_come_before_made_ones() -> None:
    documents, questions = validated(
        *map(make_document, "ab"), make_question("q1", "a"), make_question("q2", "b")
    )
    knowledge = Mock()
    taken = readable_questions(
        documents.table, questions.table, limit=2, seed=0, knowledge=knowledge
    )
    assert [(question.doc_id, question.answer) for question in taken] == [
        ("a", "noon"),
        ("b", "noon"),
    ]
    assert not knowledge.mock_calls
    [first] = readable_questions(
        documents.table, questions.table, limit=1, seed=0, knowledge=knowledge
    )
    assert first == taken[0]
