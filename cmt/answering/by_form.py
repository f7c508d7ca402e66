"""Questions of another form than "plain": over time, from the history of a fact, or what changed
(docs/concepts.md#questions-over-time); for reasons, yes or no, and lists, from sentences
(docs/concepts.md#reasons-and-summaries).
"""

from datetime import UTC, datetime, time

from cmt.answering._before import answer_before
from cmt.answering._changed import answer_changed
from cmt.answering._comparison import answer_comparison
from cmt.answering._lists import answer_list
from cmt.answering._since import answer_since
from cmt.answering._why import answer_why
from cmt.answering._yes_no import answer_yes_no
from cmt.answering.answer import NOT_IN_MEMORY, Answer, identified
from cmt.answering.answerer import Answerer
from cmt.answering.fact_history import fact_history
from cmt.questions.forms import AskedForm, form_of


def answer_by_form(answerer: Answerer, question: str, *, as_of: datetime | None) -> Answer | None:
    """The answer to a question of another form than "plain".

    None for a plain question, and if the history of its fact has no such answer: these are answered
    as plain ones.
    """
    asked = form_of(question, (as_of or answerer.params.stream.now()).date())
    views = {
        "at": _answer_at,
        "since": answer_since,
        "before": answer_before,
        "changed": answer_changed,
        "why": answer_why,
        "yesno": answer_yes_no,
        "compare": answer_comparison,
        "list": answer_list,
        "none": _no_answer,
    }
    view = views.get(asked.form)
    if view is None:
        return None
    bank_version = answerer.bank.version
    answer = view(answerer, question, asked, as_of=as_of)
    if answer is None:
        return None
    digest = answerer.model.digest
    return identified(answer, as_of=as_of, compressor=digest, bank_version=bank_version)


def _answer_at(
    answerer: Answerer, question: str, asked: AskedForm, *, as_of: datetime | None
) -> Answer | None:
    """The value in force at the end of the asked time; None if the fact had only one value, or none
    at that time.
    """
    assert asked.time  # noqa: S101 - narrows the type
    history = fact_history(answerer, asked.fact, as_of=as_of)
    value = history.at(datetime.combine(asked.time.last, time.max, UTC))
    if value is None or len(history.values) < 2:
        return None
    return value.answer(question, asked.form)


def _no_answer(
    _answerer: Answerer,
    question: str,
    asked: AskedForm,
    *,
    as_of: datetime | None,  # noqa: ARG001
) -> Answer:
    """No memory is read for what no document can answer."""
    return Answer(
        question,
        NOT_IN_MEMORY,
        "not_in_memory",
        0.0,
        (),
        uncalibrated=0.0,
        form=asked.form,
        reason=asked.reason,
    )
