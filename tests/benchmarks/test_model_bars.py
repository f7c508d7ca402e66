"""The bars of the language model and the compressor, on the tiny project: each is a ratio of what
was measured.
"""

import shutil
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from cmt.modeling.codebook import CENTROIDS, Codebook
from tests.helpers.projects import open_workspace
from tests.helpers.scripts import load_script


@pytest.fixture
def bars(adapted_project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    module = load_script("model_bars")
    opened = open_workspace(adapted_project)
    # a copy of the compressor with a codebook, whose values are no matter for sizes
    folder = Path(shutil.copytree(opened.params.compressor.path, tmp_path / "compressor"))
    Codebook(np.zeros((8, CENTROIDS, opened.project.lm.hidden_size // 8), np.float16)).save(
        folder, module.WIDEST
    )
    opened = open_workspace(adapted_project, compressor__path=str(folder))
    monkeypatch.setattr(module, "workspace", lambda: opened)
    monkeypatch.setattr(module, "NEWSPAPER", adapted_project / "news")
    monkeypatch.setattr(module, "TRAINED_RAG", folder)
    for name in ("FIRST_TOKENS", "CLIENTS", "ASKED_BY_CLIENT"):
        monkeypatch.setattr(module, name, 2)
    return module


def test_every_bar_is_measured_with_its_limit(bars: ModuleType) -> None:
    measured = {number: list(bar()) for number, bar in bars.MODEL_BARS.items()}
    assert {number: [bar.limit for bar in found] for number, found in measured.items()} == {
        3: [4.5, 3.5, 12.5],
        5: [0.7],
        6: [1.0, 0.5, 0.25, 0.5],
        7: [1.3, 3],
    }
    assert all(bar.value > 0 and bar.detail for found in measured.values() for bar in found)
    # the bytes of a bank are those of its files
    rows = bars.compressed().rows
    assert bars.stored_bytes(rows) > rows.get_total_buffer_size() / 2
    assert bars.stored_bytes(rows) > bars.stored_bytes(rows.slice(0, 1))
