import sys
from pathlib import Path

import pytest

from cmt.stream.columns import Record
from cmt.stream.readers.detection import records, records_of


def test_a_page_without_text_is_an_error_and_without_the_extra_its_name_is_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bus.html").write_text("<html><body><script>a()</script></body></html>")
    [page] = records(tmp_path / "bus.html")
    assert page.error == "bus.html is a page without text"
    monkeypatch.setitem(sys.modules, "trafilatura", None)
    [page] = records(tmp_path / "bus.html")
    assert page.error and "pip install 'cmt-memory[formats]'" in page.error


def test_a_plain_text_in_a_web_archive_is_dated_by_its_capture(tmp_path: Path) -> None:
    http = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=utf-8\r\n\r\nPlain"
    head = (
        "WARC/1.0\r\nWARC-Type: response\r\nWARC-Target-URI: https://a.example/1\r\nWARC-Date:"
        " 2026-05-01T00:00:00Z\r\n"
    )
    head += (
        f"Content-Type: application/http; msgtype=response\r\nContent-Length: {len(http)}\r\n\r\n"
    )
    (tmp_path / "crawl.warc").write_bytes(head.encode() + http + b"\r\n\r\n")
    [plain] = records(tmp_path / "crawl.warc")
    assert plain.fields == {
        "published_at": "2026-05-01T00:00:00Z",
        "text": "Plain",
        "url": "https://a.example/1",
    }


@pytest.mark.parametrize(
    ("declared", "read"),
    [
        ("03/04/2026", "03/04/2026"),  # whether the day is first, the row tells
        ("12.03.2026", "12.03.2026"),
        ("2026-04-03T08:00:00Z", "2026-04-03T08:00:00+0000"),
        ("25/04/2026", "25/04/2026"),
    ],
)
def test_a_page_leaves_open_what_its_date_leaves_open(
    declared: str, read: str, tmp_path: Path
) -> None:
    text = (
        "The Saltby ferry will run every twenty minutes from next Monday on, the council said on"
        " the quay."
    )
    (tmp_path / "bus.html").write_text(
        f'<!doctype html><html><head><title>A</title><meta name="date" content="{declared}"></head>'
        f"<body><article><h1>A</h1><p>{text}</p></article></body></html>"
    )
    [page] = records(tmp_path / "bus.html")
    assert page.fields["published_at"] == read


_NAV = "<div>Home</div><nav>" + "<a href=/a>About the harbour</a> " * 20 + "</nav>"
_TABLE = "<h1>FAQ</h1><table><tr><th>Plan<th>Price<tr><td>Basic<td>5 złotych</table>"
_ARTICLE = "The ferry costs seven euros. " * 4


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (f"{_NAV}<main>{_TABLE}</main>", "FAQ\n\nBasic: Price 5 złotych"),
        (f"<nav>About</nav>{_TABLE}", "FAQ\n\nBasic: Price 5 złotych"),
        (
            f"<nav>About</nav><article>{_TABLE}<p>{_ARTICLE}</p></article>",
            f"FAQ\n\nBasic: Price 5 złotych\n\n{_ARTICLE}",
        ),
        (f"<div>Home</div><article><p>{_ARTICLE * 3}</p></article>", _ARTICLE * 3),
        (
            (
                '<script type="application/ld+json">{"articleBody":'
                f' "{_ARTICLE}"}}</script><p>Loading.</p>'
            ),
            _ARTICLE,
        ),
    ],
)
def test_a_short_page_keeps_its_lines_and_its_text_that_json_declares(body: str, text: str) -> None:
    page = (
        f'<!doctype html><html><head><meta charset="iso-8859-2"></head><body>{body}</body></html>'
    )
    [found] = records_of(page.encode("iso-8859-2"), "a.html")
    assert found.fields["text"] == text.strip()


def test_the_comments_of_readers_beside_the_main_text_are_left_out() -> None:
    main = [
        f"The ferry to island {n} leaves the quay at {n} in the morning, except on Sundays."
        for n in range(1, 5)
    ]
    talk = [
        f"Reader {n}: I have lived near the quay for {n} years and never saw it leave in time."
        for n in range(12)
    ]
    texts = ["".join(f"<p>{text}</p>" for text in part) for part in (main, talk)]
    page = (
        "<!doctype html><html><body><main>{}</main><div"
        " class='lesermeinungen'>{}</div></body></html>"
    )
    [found] = records_of(page.format(*texts).encode(), "a.html")
    assert found.fields["text"].split("\n\n") == main


def test_of_a_feed_that_is_cut_off_the_whole_items_come_and_an_error() -> None:
    item = "<item><guid>{0}</guid><description>The text &nbsp; number {0}.</description></item>"
    items = f'<rss version="2.0"><channel>{item.format(1)}{item.format(2)}</channel></rss>'
    for encoding in ("utf-8", "utf-16"):
        feed = f'<?xml version="1.0" encoding="{encoding}"?>{items}'
        first, cut = records_of(
            feed[: feed.index("number 2")].encode(encoding), "feed.xml", format="feed"
        )
        assert (first.fields["doc_id"], first.error) == ("1", None)
        assert cut.error == "feed.xml is cut off after 1 whole item: fetch it again"
        assert not any(
            record.error for record in records_of(feed.encode(encoding), "feed.xml", format="feed")
        )
    [page] = records_of(b"<html><p>Log in</html>", "feed.xml", format="feed")
    assert page.error and page.error.startswith("feed.xml is no feed")


def test_the_markup_of_a_feed_is_removed_once(tmp_path: Path) -> None:
    item = (
        "<item><description><![CDATA[<p>Use &lt;b&gt; or &lt;head&gt;. Pay"
        " 7.</p>]]></description></item>"
    )
    (tmp_path / "a.xml").write_text(
        f"<rss><channel><title>Tea &amp;amp; cake</title>{item}</channel></rss>"
    )
    [entry] = records(tmp_path / "a.xml")
    assert entry.fields == {"text": "Use <b> or <head>. Pay 7.", "source": "Tea & cake"}


def test_items_that_are_not_published_are_left_out(tmp_path: Path) -> None:
    state = (
        "<item><title>{0}</title><description>Text {0}.</description><wp:status"
        ' xmlns:wp="w">{0}</wp:status></item>'
    )
    items = [state.format(status) for status in ("trash", "publish", "draft")]
    (tmp_path / "a.xml").write_text(f'<rss version="2.0"><channel>{"".join(items)}</channel></rss>')
    [entry] = records(tmp_path / "a.xml")
    assert (entry.fields["title"], entry.where) == ("publish", "a.xml row 2")
    assert entry.left_out == ("the unpublished item 'trash'", "the unpublished item 'draft'")
    (tmp_path / "a.xml").write_text(f'<rss version="2.0"><channel>{items[0]}</channel></rss>')
    assert list(records(tmp_path / "a.xml")) == [
        Record({}, "a.xml", None, ("the unpublished item 'trash'",))
    ]


def test_an_id_that_items_with_other_links_share_is_none() -> None:
    item = "<item><guid>g</guid><link>https://a.example/{0}</link><description>{0}</description></item>"
    for links, ids in ((("one", "two"), [None, None]), (("one", "one"), ["g", "g"])):
        feed = f"<rss version='2.0'><channel>{''.join(map(item.format, links))}</channel></rss>"
        read = list(records_of(feed.encode(), "feed.xml", format="feed"))
        assert [record.fields.get("doc_id") for record in read] == ids
