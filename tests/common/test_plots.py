from pathlib import Path
from typing import Any

import matplotlib.image
import numpy as np

from cmt.common.plots import round_curve, score_bars


def scores(f1: float, recall: float | None) -> dict[str, float | None]:
    """The scores of one system."""
    return {
        "f1": f1,
        "f1_low": f1 - 4,
        "f1_high": f1 + 4,
        "recall": recall,
        "em": 0.0,
        "em_prefix": 0.0,
    }


ROUNDS = [
    (
        "2031-01/0001",
        {"cmt": scores(40.0, 1.0), "closed": scores(3.0, None), "rag": scores(20.0, 0.8)},
    ),
    (
        "2031-02/0001",
        {"cmt": scores(44.0, 0.9), "closed": scores(2.0, None), "rag": scores(18.0, 0.7)},
    ),
    ("2031-03/0001", {"cmt": scores(42.0, 0.9)}),
]


def count_colours(path: Path) -> int:
    """Number of colours in the picture `path`."""
    pixels = matplotlib.image.imread(path).reshape(-1, 4)
    return len(np.unique((pixels * 255).astype(np.uint8).view(np.uint32)))


def test_the_curve_shows_every_system(tmp_path: Path) -> None:
    pictures: list[list[Any]] = [ROUNDS, ROUNDS[2:], [("2031-01/0001", {})], []]
    for number, rounds in enumerate(pictures):
        round_curve(rounds=rounds, path=tmp_path / f"plots/{number}.png")
    all_systems, one_system, no_scores, no_rounds = (
        count_colours(tmp_path / f"plots/{n}.png") for n in range(4)
    )
    assert all_systems > one_system > no_scores >= no_rounds > 1
    assert matplotlib.image.imread(tmp_path / "plots/0.png").shape == (720, 960, 4)


def test_the_labels_of_a_long_stream_do_not_overlap(tmp_path: Path) -> None:
    rounds = [(f"2031-01-{day:02d}/0001", ROUNDS[2][1]) for day in range(200)]
    round_curve(rounds=rounds, path=tmp_path / "long.png")
    picture = matplotlib.image.imread(tmp_path / "long.png")
    labels = picture[-40:-20, 100:-20, :3].min(
        axis=(0, 2)
    )  # a strip through the labels, dark where there is text
    assert (labels > 0.9).mean() > 0.3


def test_equal_scores_give_equal_bytes_in_the_bars_of_an_evaluation(tmp_path: Path) -> None:
    for name in ("one.png", "two.png"):
        score_bars(scores=ROUNDS[0][1], path=tmp_path / name)
    score_bars(scores={}, path=tmp_path / "none.png")
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()
    assert count_colours(tmp_path / "one.png") > count_colours(tmp_path / "none.png")
