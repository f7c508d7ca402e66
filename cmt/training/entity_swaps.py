"""Entity swaps: a question becomes unanswerable when a name in it is exchanged for another name.

"Who is the mayor of Port Ellery?" becomes "Who is the mayor of Antwerp?". A reader that matches
only the relation answers both from the same sentence. Trained on the second question too, ψ learns
that the name has to match.
"""

import random
from collections import defaultdict
from collections.abc import Sequence

import pyarrow as pa

from cmt.text.names import NAME_OR_YEAR
from cmt.text.numbers import MONTHS

DRAWS = 16  # names drawn in search of one that the document lacks


def entity_swaps(documents: pa.Table, questions: pa.Table, *, seed: int) -> pa.Table:
    """One unanswerable variant (QUESTION_SCHEMA, no `answers`) of each question with a name from
    its document.

    The replacement is a name of the same kind from the questions on another article, without a word
    of the document. A pure function of the tables and the seed.
    """
    articles, texts = {}, {}
    for row in documents.select(["doc_id", "title", "text"]).to_pylist():
        articles[row["doc_id"]] = row["title"] or row["doc_id"]
        texts[row["doc_id"]] = f"{row['title'] or ''} {row['text']}".lower()
    rows = [row for row in questions.to_pylist() if row["answers"] and row["doc_id"] in texts]
    # 1. all names by kind, each with its article
    names_by_kind: dict[str, dict[str, str]] = defaultdict(dict)
    for row in rows:
        for name in NAME_OR_YEAR.findall(row["question"]):
            names_by_kind[_kind(name)].setdefault(name, articles[row["doc_id"]])
    candidates = {kind: sorted(names.items()) for kind, names in names_by_kind.items()}
    # 2. exchange a name of each question
    swapped = []
    for row in rows:
        rng, question = random.Random(f"{seed} {row['question_id']}"), row["question"]
        article, text = articles[row["doc_id"]], texts[row["doc_id"]]
        names = [name for name in NAME_OR_YEAR.finditer(question) if name[0].lower() in text]
        if not names:
            continue
        name = rng.choice(names)
        drawn = rng.choices(candidates[_kind(name[0])], k=DRAWS)
        if (other := _foreign(drawn, article, text)) is None:
            continue
        question = question[: name.start()] + other + question[name.end() :]
        question_id = f"{row['question_id']}~swap"
        swapped.append({**row, "question_id": question_id, "question": question, "answers": []})
    return pa.Table.from_pylist(swapped, schema=questions.schema)


def _foreign(drawn: Sequence[tuple[str, str]], article: str, text: str) -> str | None:
    """The first name of another article without a word of `text`, or None."""
    for name, source in drawn:
        if source != article and not any(word in text for word in name.lower().split()):
            return name
    return None


def _kind(name: str) -> str:
    """The kind of a name: year, month, or its number of words. Names of one kind can be
    exchanged.
    """
    if name.isdigit():
        return "year"
    return "month" if name in MONTHS else str(len(name.split()))
