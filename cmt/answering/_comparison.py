"""Which of two things has more of something, or less: both numbers are asked for and compared
(docs/concepts.md#comparisons).
"""

from datetime import datetime

from cmt.answering.answer import Answer, Quoted
from cmt.answering.answerer import Answerer
from cmt.questions.forms import AskedForm
from cmt.text.numbers import amount_of, unit_of


def answer_comparison(
    answerer: Answerer, question: str, asked: AskedForm, *, as_of: datetime | None
) -> Answer | None:
    """The option with the larger or smaller number, and both numbers with their documents.

    1. Ask for the number of each option.
    2. Compare them if both have one unit; other units are shown, and nothing is compared.
    3. The answer is likely if both numbers are; its confidence is the product of theirs.

    None if a number is missing, or both are equal: such a question is answered as a plain one.
    """
    assert asked.comparison  # noqa: S101 - narrows the type
    options, questions, largest = asked.comparison
    given = answerer.answer(list(questions), as_of=[as_of] * 2)
    amounts = [amount_of(one.text) if one.known else None for one in given]
    if None in amounts or amounts[0] == amounts[1]:
        return None
    units = [unit_of(one.text) for one in given]
    items, sources = [], {}
    for option, one in zip(options, given, strict=True):
        source = next((each for each in one.sources if each.quote), one.sources[0])
        items.append(Quoted(f"{option}: {one.text}", source.doc_id, source.published_at))
        sources[source.doc_id] = source
    text = "; ".join(item.text for item in items)
    comparable = units[0] == units[1] or "" in units
    if comparable:
        text = options[amounts.index((max if largest else min)(amounts))]  # type: ignore[type-var]
    sure = comparable and all(one.verdict == "likely" for one in given)
    return Answer(
        question,
        text,
        "likely" if sure else "unsure",
        round(given[0].confidence * given[1].confidence, 4),
        tuple(sources.values()),
        uncalibrated=given[0].uncalibrated * given[1].uncalibrated,
        form=asked.form,
        items=tuple(items),
    )
