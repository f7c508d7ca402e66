"""The engine `ray` without Ray; with it: `make test-scale`."""

import sys
from pathlib import Path

import pytest

from cmt.errors import ConfigError
from cmt.retrieval.ray_engine import RayEncoder

ENCODER = RayEncoder(
    lm=Path("lm"), dtype="float32", compressor=Path("compressor"), window=4, workers=2
)


def test_without_ray_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:6379")
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(
        ConfigError, match=r"compress.engine is 'ray'.*pip install 'cmt-memory\[ray\]'"
    ):
        list(ENCODER([[[1, 2]]], with_content=False))


def test_nothing_to_compress_starts_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    assert list(ENCODER([], with_content=False)) == []
