"""Entity swaps: a question becomes unanswerable when a name in it is exchanged for another name.

"Who is the mayor of Port Ellery?" becomes "Who is the mayor of Antwerp?". A reader that matches
only the relation answers both from the same sentence. Trained on the second question too, ψ learns
that the name has to match.
"""

import random
from collections import defaultdict

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
    texts = {
        row["doc_id"]: (
            row["title"] or row["doc_id"],
            f"{row['title'] or ''} {row['text']}".lower(),
        )
        for row in documents.select(["doc_id", "title", "text"]).to_pylist()
    }
    rows = [row for row in questions.to_pylist() if row["answers"] and row["doc_id"] in texts]
    # 1. all names by kind, each with its article
    names_by_kind: dict[str, dict[str, str]] = defaultdict(dict)
    for row in rows:
        for name in NAME_OR_YEAR.findall(row["question"]):
            names_by_kind[_kind(name)].setdefault(name, texts[row["doc_id"]][0])
    candidates = {kind: sorted(names.items()) for kind, names in names_by_kind.items()}
    # 2. exchange a name of each question
    swapped = []
    for row in rows:
        rng = random.Random(f"{seed} {row['question_id']}")
        article, text = texts[row["doc_id"]]
        names = [
            match for match in NAME_OR_YEAR.finditer(row["question"]) if match[0].lower() in text
        ]
        if not names:
            continue
        name = rng.choice(names)
        drawn = rng.choices(candidates[_kind(name[0])], k=DRAWS)
        fitting = (
            other
            for other, source in drawn
            if source != article and not any(w in text for w in other.lower().split())
        )
        if (other := next(fitting, None)) is None:
            continue
        question = row["question"][: name.start()] + other + row["question"][name.end() :]
        swapped.append(
            {
                **row,
                "question_id": f"{row['question_id']}~swap",
                "question": question,
                "answers": [],
            }
        )
    return pa.Table.from_pylist(swapped, schema=questions.schema)


def _kind(name: str) -> str:
    """The kind of a name: year, month, or its number of words. Names of one kind can be
    exchanged.
    """
    if name.isdigit():
        return "year"
    return "month" if name in MONTHS else str(len(name.split()))
