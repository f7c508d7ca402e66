"""The model card: what it says about data, parameters and scores, and its curve."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from cmt.config import Params
from cmt.modeling.checkpoint import seen_slices
from cmt.training.model_card import CURVES, describe_source, write_card
from tests.helpers.damage import file_size_limit

SCORES: dict[str, Any] = {
    "n": 500,
    "em": 46.6,
    "f1": 63.3,
    "ci": [59.5, 66.8],
    "em_prefix": 53.0,
    "recall": 0.968,
}


def write(folder: Path, *, slices: Sequence[str] = (), drawn: bool = False, **train: Any) -> str:
    """The card in `folder`; its curve is drawn on request only, as that takes longer than all
    else.
    """
    history = [{"step": step} | dict.fromkeys(CURVES, 4.0 / step) for step in range(5, 50, 5)]
    (folder / "log.json").write_text(json.dumps([*history, {"step": 45, "train_runtime": 1.0}]))
    params = Params.model_validate({"seed": 3, "train": train})
    with pytest.MonkeyPatch.context() as patch:
        if not drawn:
            patch.setitem(sys.modules, "matplotlib.figure", None)
        write_card(
            folder, params=params, digest="ab" * 32, documents=18_048, scores=SCORES, slices=slices
        )
    return (folder / "card.md").read_text()


@pytest.mark.parametrize(
    "source",
    [
        "path:data/squad/train-v1.1.json.xz",
        "path:train-v1.1.json",
        "hub:rajpurkar/squad",
        "hub:rajpurkar/squad@main",
    ],
)
def test_every_source_of_squad_has_its_name_and_licence(source: str) -> None:
    assert describe_source(source) == ("SQuAD 1.1 train", "SQuAD is CC BY-SA 4.0")


def test_another_source_is_named_as_it_is(tmp_path: Path) -> None:
    card = write(tmp_path, source="path:/somewhere/house-rules.json.xz")
    assert "| trained on | house-rules, 18,048 paragraphs; 20 articles held out |" in card
    assert "SQuAD" not in card and "somewhere" not in card
    assert "No training curve was drawn." in card
    assert describe_source("hub:org/pairs@v2") == ("org/pairs", "org/pairs has its own licence")


def test_every_source_of_a_mix_has_its_share_and_licence(tmp_path: Path) -> None:
    card = write(tmp_path, mix={"path:a/train-v1.1.json.xz": 3, "hub:org/pairs": 1}, decay_steps=9)
    assert (
        "| SQuAD 1.1 train (75.0%), org/pairs (25.0%), 18,048 paragraphs; 20 articles of each held"
        " out |" in card
    )
    assert "rate 0.001, constant, the last 9 steps down to 0 |" in card
    assert card.endswith(
        "The terms of the base LM apply; SQuAD is CC BY-SA 4.0, org/pairs has its own licence; "
        "no source is contained.\n"
    )


def test_the_card_has_parameters_scores_and_curve(tmp_path: Path) -> None:
    card = write(tmp_path, drawn=True, questions=14_000, answer_fraction=0.5)
    assert card.startswith("# Compressor abababababab\n")
    assert card.endswith(
        "The terms of the base LM apply; SQuAD is CC BY-SA 4.0 and not contained.\n"
    )
    assert "| question-answer pairs seen | about 14,000, 50% of them through the LM |" in card
    assert "| steps | 45, seed 3, AdamW, rate 0.001, cosine |" in card
    assert (
        "500 questions: **EM 46.6, F1 63.3**\n(95 % 59.5 – 66.8), prefix EM 53.0,\nrecall@8 0.968."
        in card
    )
    assert "![training curve](curve.png)" in card
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")


def test_a_card_that_cannot_be_written_leaves_the_one_before(tmp_path: Path) -> None:
    card = write(tmp_path, drawn=True, source="stream", slices=["2031-01/0001"])
    with file_size_limit(400), pytest.raises(OSError, match="File too large"):
        write_card(tmp_path, params=Params(), digest="cd" * 32, documents=4, scores=SCORES)
    assert (tmp_path / "card.md").read_text() == card
    assert (tmp_path / "curve.png").read_bytes().endswith(b"IEND\xaeB`\x82")


def test_the_card_names_every_slice_that_was_seen_also_before_its_start(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    for folder in (first, second):
        folder.mkdir()
    assert seen_slices(first) == []
    card = write(first, source="stream", slices=["2031-02/0001", "2031-01/0001"])
    assert "| slices of the stream | 2031-01/0001, 2031-02/0001 |\n" in card
    assert (
        "| trained on | documents of the stream (50.0%), SQuAD 1.1 train (50.0%), 18,048"
        " paragraphs;" in card
    )
    write(second, start=first, slices=["2031-03/0001"])
    assert seen_slices(second) == ["2031-01/0001", "2031-02/0001", "2031-03/0001"]
    assert "slices of the stream" not in write(first)
