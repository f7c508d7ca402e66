import time

import pytest

from cmt.stream.readers._text import chapters, decode, plain_text, table_lines, without_markup


@pytest.mark.parametrize(
    ("text", "written", "found"),
    [
        ("Größe", "utf-8", "utf-8"),
        ("Größe und Käse", "utf-16-be", "utf-16-be"),
        ("Größe und Käse", "utf-32", "utf-32"),
        ("l'été à Noël", "latin-1", "cp1252"),
        ("Zażółć gęślą jaźń w Łodzi dziś", "cp1250", "cp1250"),
        ("Příliš žluťoučký kůň úpěl ďábelské ódy v děravé stodole", "cp1250", "cp1250"),
        ("Привет, мир. Москва сегодня.", "cp1251", "cp1251"),
        ("Привет, мир. Москва сегодня.", "koi8_r", "koi8_r"),
    ],
)
def test_the_encoding_of_a_text_is_found(text: str, written: str, found: str) -> None:
    assert decode(text.encode(written)) == (text, found)


@pytest.mark.parametrize("end", ["\n", ""])
@pytest.mark.parametrize("start", ["", "a"])
def test_the_encoding_of_a_long_text_is_found(start: str, end: str) -> None:
    text = start + f"今天大桥的通行费变为三欧元。市长昨天宣布了这一消息。{end}" * 4_000
    assert decode(text.encode("gb18030")) == (text, "gb18030")


def test_other_bytes_in_a_text_that_is_mostly_utf8_become_surrogates() -> None:
    assert decode("Café à Noël\n".encode() + b"caf\xe9") == ("Café à Noël\ncaf\udce9", "utf-8")


@pytest.mark.parametrize(
    ("markup", "text"),
    [
        ("<p>One &amp;\n two</p><p>Three</p>", "One & two\n\nThree"),
        ("One<br>two<br/>three", "One\ntwo\nthree"),
        ("<ul><li>a</li><li>b</li></ul>", "a\n\nb"),
        ("<p>a<script>x()</script><style>p{}</style>b</p><nav><p>c</p></nav><!-- d -->", "ab"),
        ("One <b>two</b>\n\nthree", "One two\n\nthree"),
        ("<pre>a\n  b</pre>", "a\nb"),
        ("<p>a <b>b", "a b"),
        ("<nav>a<nav>b</nav>c</nav>d", "d"),
        ("<script>'<script>'</script>a", "a"),
        (
            "<table><tr><th>T</th><th>Price</th></tr><tr><td>Adult</td><td>14</td></tr></table>",
            "Adult: Price 14",
        ),
        ("<table><tr><td>a<table><tr><td>b</td></tr></table></td></tr>", "a b"),
        ("<tr><td>a</td></tr></table>b", "ab"),
    ],
)
def test_html_becomes_plain_text(markup: str, text: str) -> None:
    assert plain_text(markup) == text


def test_html_of_any_depth_is_read() -> None:
    assert plain_text("<div>" * 50_000 + "a") == "a"
    assert plain_text("<table><tr><td>" * 5_000 + "a") == "a"


def test_many_tags_without_an_end_are_a_text_that_is_read_once() -> None:
    assert (
        plain_text("<p>a</p>" + "<a" * 200_000) == "a\n" + "<a" * 200_000
    )  # not within the time limit, if each reads on


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("a < b and b > c", "a < b and b > c"),
        ("R&D &amp; more", "R&D & more"),
        ("<p>Tea</p>", "Tea"),
        ("Use <unknown> here", "Use <unknown> here"),
        ("A List<Object> has 3 items.", "A List<Object> has 3 items."),
        ("<html><head><title>News</title><body><p>The bus is late.", "The bus is late."),
        ("Put it in the <head>, not in the <body>.", "Put it in the <head>, not in the\n\n."),
        ("<p>Put the <style> in the <head>. Pay 3.", "Put the <style> in the <head>. Pay 3."),
        ("A <nav> bar <nav>Home</nav>. Pay 3.<svg/>", "A <nav> bar . Pay 3."),
        ("https://a.example/?a=1&copy;=2", "https://a.example/?a=1&copy;=2"),
        (
            "# Set\n\n- `PORT=<port>`\n- `Map<K, V>` <img src=a>",
            "# Set\n\n- `PORT=<port>`\n- `Map<K, V>`",
        ),
        (
            "Ask <a@b.example>, <https://b.example/>, <your-name>.<br>",
            "Ask <a@b.example>, <https://b.example/>, <your-name>.",
        ),
        ("<x-box id='1'>Tea</x-box> <o:p></o:p><X-Icon/><b>now</b>", "Tea now"),
        ("| A | B |\n|---|---|\n| 1 | 5<br>euros |\n", "| A | B |\n|---|---|\n| 1 | 5 euros |"),
        ("One<br />\ntwo\nthree", "One\ntwo\nthree"),
        ("<p>a</p>\n\n```\n<b>b</b>\n  c\n```", "a\n\n```\n<b>b</b>\n  c\n```"),
        ("<p>a\nb</p><pre># c\n- d</pre><!--\n- e\n-->", "a b\n\n# c\n- d"),
    ],
)
def test_markup_is_removed_from_values_that_have_it(value: str, text: str) -> None:
    assert without_markup(value) == text


def test_a_table_is_a_line_a_row_with_the_names_of_its_columns() -> None:
    rows = [["", "Price", "Hours"], ["Adult", "14", "2"], ["Child", "6", ""]]
    assert list(table_lines(rows)) == ["Adult: Price 14, Hours 2", "Child: Price 6"]
    assert list(table_lines([["a", "b"], ["c"]])) == ["a, b", "c"]
    assert list(table_lines([["Long", "x" * 300], ["a", "b"]])) == [f"Long, {'x' * 300}", "a, b"]


def test_a_table_with_spans_is_a_line_a_row_with_both_names_of_a_column() -> None:
    markup = (
        '<table><tr><th rowspan="2">Grade</th><th colspan="2">Day</th><th colspan="2">Night</th>'
        "</tr><tr><th>Starter</th><th>Trained</th><th>Starter</th><th>Trained</th></tr>"
        '<tr><td rowspan="2">Weaver</td><td>15</td><td>17</td><td>18</td><td>21</td></tr>'
        "<tr><td>16</td><td>18</td><td>19</td><td>22</td></tr></table>"
    )
    lines = [
        f"Weaver: Day Starter {a}, Day Trained {b}, Night Starter {c}, Night Trained {d}"
        for a, b, c, d in ((15, 17, 18, 21), (16, 18, 19, 22))
    ]
    assert plain_text(markup).splitlines() == lines
    # as trafilatura writes the same table
    rows = [["Grade", "Day", "", "Night", ""], ["", "Starter", "Trained", "Starter", "Trained"]]
    rows += [["Weaver", "15", "17", "18", "21"], ["", "16", "18", "19", "22"]]
    assert list(table_lines(rows)) == lines


def test_rows_wider_or_shorter_than_the_header_keep_the_names_of_the_others() -> None:
    rows = [
        ["Line", "Fare"],
        ["Tram", "3"],
        ["Bus", "2", "children free"],
        ["Trips"],
        ["Boat", "9"],
    ]
    assert list(table_lines(rows)) == [
        "Tram: Fare 3",
        "Bus: Fare 2, children free",
        "Trips",
        "Boat: Fare 9",
    ]


def test_a_table_of_wide_cells_is_read_in_linear_time() -> None:
    started = time.process_time()
    plain_text("<table><tr>" + '<td colspan="9999" rowspan="9999">' * 3_000 + "a")
    assert time.process_time() - started < 1


@pytest.mark.parametrize(
    "text", ["", "a" * 25, "One. Two. Three. Four.", "a\n\nb\nChapter 2\nmore text", "\n" * 30]
)
def test_chapters_hold_the_whole_text_in_parts_of_limited_length(text: str) -> None:
    for limit in (1, 2, 7, 10, 100):
        parts = list(chapters(text, limit))
        assert "".join(parts) == text
        assert max(map(len, parts)) <= limit
    assert list(chapters("通行费变为三欧元。市长昨天宣布。完", 15)) == [
        "通行费变为三欧元。",
        "市长昨天宣布。完",
    ]
    assert list(chapters("a b c d\nChapter 2\nmore", 15)) == ["a b c d\n", "Chapter 2\nmore"]
