"""A compressor's card: what it was trained on and how, what it scores, and its curve."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cmt.config import Params

CURVES = {"answer": "answer NLL", "span": "span loss", "matching": "self-matching", "begin_found": "begin found"}


def write_card(
    folder: Path, *, params: Params, digest: str, documents: int, scores: Mapping[str, Any], note: str = ""
) -> None:
    """`card.md` and `curve.png` in `folder`, beside the weights and the `log.json` of their training.

    `documents`: paragraphs trained on; `scores`: the row `cmt` on the held-out articles; `note`: what else to know.
    """
    history = [entry for entry in json.loads((folder / "log.json").read_text()) if "answer" in entry]
    _draw(history, folder / "curve.png")
    train, objective = params.train, params.objective
    low, high = scores["ci"]
    (folder / "card.md").write_text(
        f"""# Compressor {digest[:12]}

| | |
|---|---|
| base LM | `{params.lm.source}` |
| trained on | SQuAD 1.1 train, {documents:,} paragraphs; {train.validation_articles} articles held out |
| question-answer pairs seen | about {train.questions:,}, {train.answered:.0%} of them through the LM |
| steps | {history[-1]["step"] if history else 0}, seed {params.seed}, AdamW, rate {train.learning_rate:g}, cosine |
| objective | α {objective.alpha:g}, β {objective.beta:g}, λ {objective.spread:g}, γ {objective.gamma:g} |
| command | `cmt train` |

Held-out articles, all in one bank, {scores["n"]} questions: **EM {scores["em"]:.1f}, F1 {scores["f1"]:.1f}**
(95 % {low:.1f} – {high:.1f}), prefix EM {scores["em_prefix"]:.1f},
recall@{params.selection.top_k} {scores["recall"]:.3f}.
{note}
![training curve](curve.png)

It belongs to the base LM above and is refused with any other.
Licence: Apache-2.0; SQuAD is CC BY-SA 4.0 and not contained.
"""
    )


def _draw(history: Sequence[Mapping[str, Any]], path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.subplots(2, 2)
    for axis, (name, title) in zip(axes.flat, CURVES.items(), strict=True):
        points = [(entry["step"], float(entry[name])) for entry in history if name in entry]
        axis.plot([step for step, _ in points], _smooth([value for _, value in points]))
        axis.set(title=title, xlabel="step")
        axis.grid(alpha=0.3)
    figure.savefig(path, dpi=110, metadata={"Software": None})


def _smooth(values: Sequence[float], span: int = 9) -> list[float]:
    """Running mean, so that the trend shows through the noise of single steps."""
    half = span // 2
    parts = [values[max(0, i - half) : i + half + 1] for i in range(len(values))]
    return [sum(part) / len(part) for part in parts]
