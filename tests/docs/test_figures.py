"""Limits that the pages name are those of the code."""

from pathlib import Path

import pytest

from cmt.config import MAX_PARAMS_BYTES
from cmt.lm._loading import MAX_LAYERS
from cmt.serving._middleware import MAX_BODY_BYTES
from cmt.serving.protocol import MAX_CONNECTIONS, TimedProtocol
from cmt.sources import _sql, web
from cmt.text.shingles import SKETCH_HASHES

ROOT = Path(__file__).parents[2]
FIGURES = {
    "SECURITY.md": [
        f"with more than {MAX_LAYERS:,} layers",
        f"bodies above {MAX_BODY_BYTES:,} bytes",
        f"headers take more than {TimedProtocol.header_seconds:g} s",
        f"body takes more than {TimedProtocol.body_seconds:g} s",
        f"reads nothing of its answer for {TimedProtocol.unread_seconds:g} s",
        f"Above {MAX_CONNECTIONS:,} connections",
        f"`params.yaml` may have {MAX_PARAMS_BYTES:,} bytes",
        f"at most {SKETCH_HASHES} salted hashes",
    ],
    "docs/sources.md": [
        f"takes at most {web.LONGEST:g} seconds",
        f"A query may take {_sql.LONGEST:g} seconds",
    ],
}


@pytest.mark.parametrize("page", FIGURES)
def test_the_figures_of_a_page_are_those_of_the_code(page: str) -> None:
    text = " ".join((ROOT / page).read_text(encoding="utf-8").split())
    assert [figure for figure in FIGURES[page] if figure not in text] == []
