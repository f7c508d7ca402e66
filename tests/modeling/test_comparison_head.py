"""The comparison head: where it is kept, and the states that it reads."""

from pathlib import Path

import pytest
import torch

from cmt.errors import ModelError
from cmt.modeling.comparison_head import COMPARISON, ComparisonHead

HEAD = ComparisonHead(torch.arange(8.0).view(2, 4), (0.5, -1.0), 0.25)


def test_a_folder_gives_back_the_head_that_it_got(tmp_path: Path) -> None:
    assert ComparisonHead.load(tmp_path, 4) is None
    HEAD.save(tmp_path)
    loaded = ComparisonHead.load(tmp_path, 4)
    assert loaded is not None
    assert torch.equal(loaded.directions, HEAD.directions)
    assert (loaded.features, loaded.constant) == (HEAD.features, HEAD.constant)


def test_a_damaged_head_and_one_of_another_model_are_refused_with_the_way_out(tmp_path: Path) -> None:
    HEAD.save(tmp_path)
    with pytest.raises(ModelError, match=r"shape \(2, 4\), not \(2, 5\)\): restore it, or delete it"):
        ComparisonHead.load(tmp_path, 5)
    (tmp_path / COMPARISON).write_bytes(b"nothing")
    with pytest.raises(ModelError, match=r"comparison\.safetensors is damaged"):
        ComparisonHead.load(tmp_path, 4)
