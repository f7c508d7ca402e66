from pathlib import Path

import pytest

from cmt.stream.columns import Record
from cmt.stream.readers.detection import records


def read(path: Path, text: str | bytes) -> list[Record]:
    """The records of a file with this content."""
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return list(records(path))


def test_the_first_heading_is_the_title_and_tables_are_lines(tmp_path: Path) -> None:
    [post] = read(
        tmp_path / "post.md", "# Bus #\n\n| Line | Delay |\n|---|---|\n| 7 | 9 min |\n\nEnd\n"
    )
    assert post.fields == {"title": "Bus", "text": "7: Delay 9 min\n\nEnd"}


def test_the_marks_of_markdown_and_html_in_it_are_removed_and_code_stays(tmp_path: Path) -> None:
    logo = '<h1 align="center">\n  <img src="logo.png">\n  Ferry &amp; Co\n</h1>\n<!-- badges -->\n'
    text = (
        "[Docs](https://a.example)\n\n## Start\n\n- Run `<ferry> <b>`\n  - or"
        " wait\n\n```html\n<p>\n  7\n</p>\n```"
    )
    [post] = read(tmp_path / "README.md", f'{logo}\n<div align="center">\n\n{text}\n\n</div>\n')
    plain = "Docs\n\nStart\n\nRun <ferry> <b>\n  or wait\n\n```html\n<p>\n  7\n</p>\n```"
    assert post.fields == {"title": "Ferry & Co", "text": plain}


def test_a_release_ends_at_a_heading_of_its_level_or_at_another_release(tmp_path: Path) -> None:
    text = (
        "# 2.0.0 (2026-03-05)\n\n## Added\n- A ferry\n\n## 1.9.1 (2026-02-06)\n- A tram\n\n##"
        " Notes\nOld.\n\n"
    )
    read_ = read(
        tmp_path / "CHANGELOG.md", text + "# 1.9.0 (2026-02-05)\n- A bus\n\n# Licence\nMIT\n"
    )
    assert [(one.fields["published_at"], one.fields["text"]) for one in read_] == [
        ("2026-03-05", "2.0.0 (2026-03-05)\n\nAdded\nA ferry"),
        ("2026-02-06", "1.9.1 (2026-02-06)\nA tram"),
        ("2026-02-05", "1.9.0 (2026-02-05)\nA bus"),
    ]
    assert [one.left_out for one in read_] == [("the section Notes", "the section Licence"), (), ()]


def test_a_text_with_dates_in_its_headings_is_no_changelog_unless_its_name_says_so(
    tmp_path: Path,
) -> None:
    text = (
        "# Plan\nNews.\n\n## Phase 1: until 2026-03-05\nA.\n\n## Budget\nB.\n\n## Phase 2: until"
        " 2026-04-05\nC."
    )
    plain = text.removeprefix("# Plan\n").replace("## ", "")
    assert [one.fields for one in read(tmp_path / "plan.md", text)] == [
        {"title": "Plan", "text": plain}
    ]
    first, second = read(tmp_path / "release-notes.md", text)
    assert first.fields["text"] == "Phase 1: until 2026-03-05\nA."
    assert second.fields["published_at"] == "2026-04-05"
    assert first.left_out == ("the section Plan", "the section Budget")


@pytest.mark.parametrize(
    ("front", "key", "expected"),
    [
        ("id: plan2", "id", "plan2"),
        ("permalink: https://a.example/log/?utm_id=7", "doc_id", "https://a.example/log"),
        ("url: /log", "doc_id", "/log"),
    ],
)
def test_each_release_has_an_id_of_its_own(
    tmp_path: Path, front: str, key: str, expected: str
) -> None:
    text = f"---\n{front}\n---\n## [1.1] - 2026-03-05\nA.\n## 1.0 - 2026-02-05\nB.\n"
    doc_ids = [one.fields[key] for one in read(tmp_path / "post.md", text)]
    assert doc_ids == [f"{expected}#[1.1] - 2026-03-05", f"{expected}#1.0 - 2026-02-05"]


@pytest.mark.parametrize(
    ("text", "taken"),
    [
        ("---\nThe toll.\n---\nMore.", "The toll.\nMore."),
        ("---\n# None yet\n---\nMore.", "More."),
    ],
)
def test_a_text_between_two_lines_is_no_front_matter(tmp_path: Path, text: str, taken: str) -> None:
    assert [one.fields["text"] for one in read(tmp_path / "post.md", text)] == [taken]


@pytest.mark.parametrize(
    ("front", "reason"),
    [
        ("title: Vell: the mayor", "mapping values are not allowed here, line 1); correct it"),
        ("a: &a [b]\nc: *a", ""),
        ("a: [open", ""),
        ("a: !!python/object/apply:os.system ['touch x']", ""),
        ("a: " + "[" * 5_000, ""),
    ],
)
def test_broken_or_hostile_front_matter_is_an_error_that_quotes_nothing(
    tmp_path: Path, front: str, reason: str
) -> None:
    [post] = read(tmp_path / "post.md", f"---\n{front}\n---\nText.\n")
    assert post.error and post.error.startswith(
        f"post.md: its front matter cannot be read ({reason}"
    )


@pytest.mark.parametrize(
    ("front", "taken"),
    [
        ("---\ndraft: true\n---", False),
        ("---\npublished: false\n---", False),
        ("+++\ndraft = true\n+++", False),
        ("---\nstatus: draft\n---", False),
        ("---\ndraft: false\npublished: 2026-03-05\n---", True),
    ],
)
def test_a_draft_is_left_out(tmp_path: Path, front: str, taken: bool) -> None:
    [post] = read(tmp_path / "2026-03-05-post.md", f"{front}\nText.\n")
    assert post.error is None
    assert (post.fields.get("text"), post.left_out) == (
        ("Text.", ()) if taken else (None, ("the draft 2026-03-05-post.md",))
    )


def test_a_page_with_front_matter_is_a_post_without_its_tags_also_in_a_folder(
    tmp_path: Path,
) -> None:
    [post] = read(
        tmp_path / "2026-03-06-road.html",
        "---\ntitle: Road\n---\n<p>It is <b>open</b>.</p>\n<p>Daily.</p>\n",
    )
    assert post.fields == {
        "title": "Road",
        "text": "It is open.\n\nDaily.",
        "published_at": "2026-03-06",
    }
    (tmp_path / "part.html").write_text("Home {{ title }}\n")
    assert [one.fields.get("text") for one in records(tmp_path)] == [post.fields["text"], None]


def test_each_release_of_a_history_in_restructuredtext_is_a_document(tmp_path: Path) -> None:
    text = "History\n-------\n\n3.2.0 (2026-10-01)\n+++++++\n\n- Needs **3.12**.\n\n"
    text += "3.1.0 (2026-06-20)\n+++++++\n\n- Needs 3.10.\n"
    read_ = read(tmp_path / "HISTORY.rst", text)
    assert [(one.fields["published_at"], one.fields["text"]) for one in read_] == [
        ("2026-10-01", "3.2.0 (2026-10-01)\n\nNeeds 3.12."),
        ("2026-06-20", "3.1.0 (2026-06-20)\n\nNeeds 3.10."),
    ]


def test_a_list_of_results_is_told_in_sentences(tmp_path: Path) -> None:
    text = (
        "= Northern League 2026/27\n\nMatchday 10\n[Sat Oct 31]\n"
        "  Harle Town       2-1 (1-0)  Dunmore Athletic\n  Skipton Rovers   0-0   Wexley City\n"
        "  15.30 Tarn United 3-4 (2-2)  1. FC Ossett\n"
    )
    (league,) = read(tmp_path / "2026-10-31-league.txt", text)
    assert league.fields["text"].splitlines()[4:] == [
        "Harle Town won 2-1 against Dunmore Athletic (1-0 at half-time).",
        "Skipton Rovers drew 0-0 against Wexley City.",
        "Tarn United lost 3-4 against 1. FC Ossett (2-2 at half-time).",
    ]
    (other,) = read(tmp_path / "2026-11-01-votes.txt", "Ayes 2-1 Noes\nIt was so.\n")
    assert other.fields["text"] == "Ayes 2-1 Noes\nIt was so."
