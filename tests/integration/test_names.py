"""Questions about another place or year, through the real LM and articles of the bundled
newspaper.
"""

import json
from pathlib import Path
from typing import Any

import pytest

from cmt.lm.model import FrozenLM
from tests.helpers.shipped import shipped_bank

ROOT = Path(__file__).parents[2]
TOWNS = ["Port Ellery", "Dunmarrow", "Saltby"]


def rows(name: str) -> list[dict[str, Any]]:
    return [
        json.loads(line) for line in (ROOT / f"data/courier/{name}.jsonl").read_text().splitlines()
    ]


@pytest.mark.timeout(900)  # minutes on a CPU without fast bfloat16
def test_nothing_is_told_of_a_town_that_no_article_names(real_lm: FrozenLM) -> None:
    # 1. articles with the mayor of Port Ellery among them, and questions that name one town and
    #    nothing else
    articles = [row for row in rows("documents") if "mayor" in row["text"].lower()]
    asked = [
        row["question"].replace(town, "Antwerp")
        for row in rows("questions")
        for town in TOWNS
        if row["doc_id"] in {article["doc_id"] for article in articles}
        and town in row["question"]
        and sum(word[0].isupper() for word in row["question"].split()[1:]) == len(town.split())
    ][:4]
    assert len(asked) == 4
    # 2. ask
    bank = shipped_bank(real_lm, articles)
    of_town, of_paris = "Who is the mayor of Port Ellery?", "Who is the mayor of Paris?"
    lower, of_year = "who is the mayor of port ellery?", "Who was the mayor of Port Ellery in 1987?"
    with bank.answerer() as answerer:
        questions = [of_town, lower, of_paris, of_year, *asked]
        known, in_lower, paris, year, *others = answerer.answer(
            questions, as_of=[None] * len(questions)
        )
    assert "Osei" in known.text and "Osei" in in_lower.text
    assert not known.missing
    assert (paris.known, paris.missing) == (False, ("Paris",))
    assert year.verdict != "likely" and year.missing == ("1987",)
    assert not any(answer.known for answer in others)
