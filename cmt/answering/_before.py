"""The value before another one, from the history of a fact
(docs/concepts.md#questions-over-time).
"""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from itertools import pairwise

from cmt.answering.answer import Answer
from cmt.answering.answerer import Answerer
from cmt.answering.dated_values import DatedValue
from cmt.answering.fact_history import fact_history
from cmt.questions.forms import AskedForm
from cmt.text.answers import same_value, words_of
from cmt.text.words import is_function_word


def answer_before(
    answerer: Answerer, question: str, asked: AskedForm, *, as_of: datetime | None
) -> Answer:
    """The value before the one that the question names, or before the one in force; for "latest"
    and "next" the value in force, and the first one that is announced.

    1. A likely answer of the reader stays if it is neither of both.
    2. Otherwise the history gives the value, if it is known that another one replaced it.
    3. Without such a value the answer of the reader stays; if it is the value in force, it is
       unsure, unless the latest one is asked for.
    """
    [plain] = answerer.answer([question], as_of=[as_of])
    plain = replace(plain, form=asked.form)
    history = fact_history(answerer, asked.fact, as_of=as_of)
    date = as_of or answerer.params.stream.now()
    values = [value for value in history.values if value.since <= date]
    if asked.neighbour != "before":
        nearest = [*values[-1:]] if asked.neighbour == "latest" else history.values[len(values) :]
        return (
            nearest[0].answer(question, asked.form)
            if len(history.values) > 1 and nearest
            else plain
        )
    in_force = bool(values) and same_value(values[-1].text, plain.text)
    named = {word for word in words_of(asked.before) if not is_function_word(word)}
    likely = plain.verdict == "likely"
    if likely and not in_force and named and not named & words_of(plain.text):
        return plain
    value = _replaced(values, named)
    if value is None:
        return replace(plain, verdict="unsure") if likely and in_force else plain
    return value.answer(question, asked.form)


def _replaced(values: Sequence[DatedValue], named: set[str]) -> DatedValue | None:
    """The value before the first one that has the words `named`, itself or in its documents;
    without words, before the last one.

    That texts were compared connects two values only if the later one is likely.
    """
    pairs = [*pairwise(values)]
    for earlier, later in pairs if named else pairs[-1:]:
        found = named <= _words(later) and not (named and named <= _words(earlier))
        if found and (later.known != "compared" or later.verdict == "likely"):
            return earlier
    return None


def _words(value: DatedValue) -> set[str]:
    texts = (source.text for source in value.sources if source.text)
    return words_of(" ".join((value.text, *texts)))
