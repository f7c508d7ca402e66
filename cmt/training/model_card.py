"""The model card of a compressor: its training data, parameters, held-out scores and training
curve.
"""

import logging
from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

from cmt.common.imports import missing_extra
from cmt.common.storage import read_json, write_bytes
from cmt.config import STREAM, Params
from cmt.errors import ModelError
from cmt.modeling.checkpoint import SLICES_ROW, seen_slices

log = logging.getLogger(__name__)

CURVES = {
    "answer": "answer NLL",
    "span": "span loss",
    "matching": "self-matching",
    "begin_found": "begin found",
}
SQUAD = {"train-v1.1", "rajpurkar/squad"}  # names under which SQuAD's training set is published
SMOOTHED_STEPS = 9  # logged steps in a running mean


def write_card(
    folder: Path,
    *,
    params: Params,
    digest: str,
    documents: int,
    scores: Mapping[str, Any],
    slices: Sequence[str] = (),
) -> None:
    """Write `card.md` and `curve.png` to `folder`, which holds the weights and `log.json` of a
    training.

    `documents`: number of paragraphs trained on. `scores`: JSON of the system `cmt` on the held-out
    articles. `slices`: slices of the stream trained on; the card also names the slices of
    `train.start`. Raises ModelError if the log is missing or damaged.
    """
    path = folder / "log.json"
    try:
        history = [entry for entry in read_json(path, list[dict[str, Any]]) if "answer" in entry]
    except (OSError, ValueError) as error:
        raise ModelError(
            f"{path} is not the log of a training ({error}): run `cmt train` again"
        ) from None
    _plot(history, folder / "curve.png")
    train, objective = params.train, params.objective
    source, licence = _describe_sources(train.shares or {train.source: 1.0})
    seen = sorted({*slices, *(seen_slices(train.start) if train.start else ())})
    stream = f"| {SLICES_ROW} | {', '.join(seen)} |\n" if seen else ""
    held_out = f"{train.validation_articles} articles{' of each' if train.mix else ''} held out"
    schedule = (
        f"constant, the last {train.decay_steps} steps down to 0" if train.decay_steps else "cosine"
    )
    pairs_seen = f"about {train.questions:,}, {train.answer_fraction:.0%} of them through the LM"
    steps = history[-1]["step"] if history else 0
    weights = (
        f"α {objective.alpha:g}, β {objective.beta:g}, λ {objective.uniformity_weight:g}, "
        f"γ {objective.gamma:g}"
    )
    has_curve = (folder / "curve.png").exists()
    curve = "![training curve](curve.png)" if has_curve else "No training curve was drawn."
    em, f1, (low, high) = scores["em"], scores["f1"], scores["ci"]
    write_bytes(
        folder / "card.md",
        f"""# Compressor {digest[:12]}

| | |
|---|---|
| base LM | `{params.lm.source}` |
| trained on | {source}, {documents:,} paragraphs; {held_out} |
{stream}| question-answer pairs seen | {pairs_seen} |
| steps | {steps}, seed {params.seed}, AdamW, rate {train.learning_rate:g}, {schedule} |
| objective | {weights} |
| command | `cmt train` |

Held-out articles, all in one bank, {scores["n"]} questions: **EM {em:.1f}, F1 {f1:.1f}**
(95 % {low:.1f} – {high:.1f}), prefix EM {scores["em_prefix"]:.1f},
recall@{params.selection.top_k} {scores["recall"]:.3f}.

{curve}

It belongs to the base LM above and is refused with any other.
{licence}
""".encode(),
    )


def _describe_sources(sources: Mapping[str, float]) -> tuple[str, str]:
    """Names of the sources, with their shares if several, and a sentence on licences."""
    names, licences = zip(*map(describe_source, sources), strict=True)
    if len(names) == 1:
        return names[0], f"The terms of the base LM apply; {licences[0]} and not contained."
    total = sum(sources.values())
    shares = [
        f"{name} ({share / total:.1%})" for name, share in zip(names, sources.values(), strict=True)
    ]
    return ", ".join(
        shares
    ), f"The terms of the base LM apply; {', '.join(licences)}; no source is contained."


def describe_source(source: str) -> tuple[str, str]:
    """The name of a training source in plain words, and a clause on its licence."""
    if source == STREAM:
        return "documents of the stream", "the stream's documents have their own licences"
    scheme, _, location = source.partition(":")
    name = (
        location.partition("@")[0] if scheme == "hub" else Path(location).name.partition(".json")[0]
    )
    if name in SQUAD:
        return "SQuAD 1.1 train", "SQuAD is CC BY-SA 4.0"
    return name, f"{name} has its own licence"


def _plot(history: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Plot the parts of the loss against the step, each as a running mean; a warning where
    matplotlib is missing.
    """
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        log.warning("no %s: %s is missing (%s)", path.name, error.name, missing_extra(error))
        return
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.subplots(2, 2)
    for axis, (name, title) in zip(axes.flat, CURVES.items(), strict=True):
        logged = [entry for entry in history if name in entry]
        values, half = [float(entry[name]) for entry in logged], SMOOTHED_STEPS // 2
        parts = [values[max(0, index - half) : index + half + 1] for index in range(len(values))]
        axis.plot([entry["step"] for entry in logged], [sum(part) / len(part) for part in parts])
        axis.set(title=title, xlabel="step")
        axis.grid(alpha=0.3)
    picture = BytesIO()
    figure.savefig(picture, dpi=110, metadata={"Software": None})
    write_bytes(path, picture.getvalue())
