"""Questions on some documents that a person can read: those of the source, or made ones."""

import pyarrow as pa

from cmt.questions.generation import generate_questions
from cmt.questions.plain import PlainQuestion, plain_questions
from cmt.questions.word_knowledge import WordKnowledge


def readable_questions(
    documents: pa.Table, questions: pa.Table, *, limit: int, seed: int, knowledge: WordKnowledge
) -> list[PlainQuestion]:
    """At most `limit` questions on `documents`, each with its answer.

    1. Take the `questions` of the source that have an answer; without any, make plain ones.
    2. Fill up with one generated question for each of the first documents.
    """
    readable = _with_answers(questions) or plain_questions(documents, knowledge)
    readable = readable[:limit]
    if len(readable) < limit:
        first = documents.slice(0, limit - len(readable))
        numbers = dict.fromkeys(first["doc_id"].to_pylist(), 1)
        generated = generate_questions(first, numbers=numbers, seed=seed, knowledge=knowledge)
        readable += _with_answers(generated)
    return readable


def _with_answers(questions: pa.Table) -> list[PlainQuestion]:
    answered = list[PlainQuestion]()
    for row in questions.to_pylist():
        if row["answers"]:
            answered.append(PlainQuestion(row["doc_id"], row["question"], row["answers"][0]))
    return answered
