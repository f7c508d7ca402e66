"""Questions over time: the value that was in force at the time that a question names, from the
history of its fact (docs/concepts.md#questions-over-time).
"""

from datetime import UTC, datetime, time

from cmt.answering.answer import Answer, identified
from cmt.answering.answerer import Answerer
from cmt.answering.fact_history import fact_history
from cmt.questions.forms import form_of


def answer_over_time(answerer: Answerer, question: str, *, as_of: datetime | None) -> Answer | None:
    """The value in force at the end of the time that `question` names.

    None for a plain question, and if the history of its fact has no other value, or none at that
    time: such a question is answered as a plain one.
    """
    bank_version = answerer.bank.version
    asked = form_of(question, (as_of or answerer.params.stream.now()).date())
    if asked.time is None:
        return None
    history = fact_history(answerer, asked.fact, as_of=as_of)
    value = history.at(datetime.combine(asked.time.last, time.max, UTC))
    if value is None or len(history.values) < 2:
        return None
    answer = Answer(
        question,
        value.text,
        value.verdict,
        value.confidence,
        value.sources,
        uncalibrated=max(source.weight for source in value.sources),
        form=asked.form,
    )
    digest = answerer.model.digest
    return identified(answer, as_of=as_of, compressor=digest, bank_version=bank_version)
