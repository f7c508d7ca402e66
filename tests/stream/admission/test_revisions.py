"""A text that was changed in place holds from the date of its change."""

import json
from pathlib import Path

import pytest

from cmt.stream.admission.ingest import Options, ingest
from cmt.stream.store import SliceStore
from tests.helpers.rows import NOW

PAGE = """<html><head><title>Wages</title><link rel="canonical" href="https://post.example/wages">
<meta property="article:published_time" content="2021-01-03T08:00:00Z">{modified}</head>
<body><main><h1>Wages</h1><p>The mill and its union agreed on a rise of {rise} percent for all of
its workers, the union said on Monday in the town hall.</p></main></body></html>"""
MODIFIED = (
    '<meta content="2021-01-06T10:00:00Z" property="article:modified_time">',
    '<script type="application/ld+json">{"dateModified": "2021-01-06T10:00:00Z"}</script>',
)


def versions(store: SliceStore) -> list[tuple[str, str]]:
    """Day and text of each stored version, in order."""
    rows = sorted(store.all_documents().to_pylist(), key=lambda row: row["published_at"])
    return [(row["published_at"].date().isoformat(), row["text"]) for row in rows]


@pytest.mark.parametrize("modified", MODIFIED)
def test_a_page_that_was_corrected_in_place(
    modified: str, store: SliceStore, tmp_path: Path
) -> None:
    before, after = tmp_path / "a/wages.html", tmp_path / "b/wages.html"
    for path, date, rise in ((before, "", "3"), (after, modified, "4")):
        path.parent.mkdir()
        path.write_text(PAGE.replace("{modified}", date).replace("{rise}", rise))
    for path in (before, after, after, before):
        ingest(store, path, options=Options(now=NOW, publisher="Post"))
    found = versions(store)
    assert [day for day, _ in found] == ["2021-01-03", "2021-01-06"]
    assert "3 percent" in found[0][1] and "4 percent" in found[1][1]


def test_a_row_with_the_date_of_its_update(store: SliceStore, tmp_path: Path) -> None:
    for number, (text, updated) in enumerate(
        [
            ("The fee is 3 crowns.", "2031-01-03"),
            ("The fee is 4 crowns.", "2031-01-06"),
            ("The fee is 3 crowns.", "2031-01-09"),
            ("The fee is 9 crowns.", "2999-01-01"),  # ahead of the clock: a correction
        ]
    ):
        path = tmp_path / f"{number}.jsonl"
        row = {"id": "fee", "body": text, "created_at": "2031-01-03", "updated_at": updated}
        path.write_text(json.dumps(row))
        ingest(store, path, options=Options(now=NOW, publisher="Post"))
    assert [(day, text[11]) for day, text in versions(store)] == [
        ("2031-01-03", "3"),
        ("2031-01-03", "9"),
        ("2031-01-06", "4"),
        ("2031-01-09", "3"),
    ]
