"""Training data of a tiny project: who keeps which lamp."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


def write_lamps(project: Path, people: Sequence[str]) -> Mapping[str, Any]:
    """Install an article a person as training data; returns the section `train` for it."""
    articles = []
    for place, name in enumerate(people):
        context = f"The keeper of lamp {place} is {name}."
        answers = [{"text": name, "answer_start": context.index(name)}]
        question = {"id": name, "question": f"Who keeps lamp {place}?", "answers": answers}
        articles.append(
            {"title": f"Lamp {place}", "paragraphs": [{"context": context, "qas": [question]}]}
        )
    data = project / "data/train"
    data.mkdir(parents=True)
    (data / "lamps.json").write_text(json.dumps({"version": "1.1", "data": articles}))
    sizes = {
        "questions": 8,
        "paragraphs": 2,
        "validation_articles": 2,
        "bf16": False,
        "save_steps": 1,
    }
    return {"source": "path:lamps.json", **sizes}
