"""Pages and feeds: what is listed, what is polite, and what a page must not make this machine
do.
"""

import gzip
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import BaseRequestHandler
from threading import Event
from typing import Any

import pytest

from cmt.config import SourceParams, StreamParams
from cmt.errors import ConfigError, StreamError
from cmt.sources import web
from cmt.sources.connector import Connector, Setting, Unchanged
from cmt.sources.kinds import open_connector
from cmt.sources.network import is_public
from cmt.sources.web import Web
from cmt.stream.limits import DEFAULT_LIMITS, Limits
from tests.helpers.sources import Project, atom, atom_entry, serving, source

ROW = json.dumps({"doc_id": "a", "text": "One.", "published_at": "2031-01-02"}) + "\n"


@dataclass
class Site:
    """The pages of a server and what was asked of it."""

    pages: dict[str, Any] = field(default_factory=dict)
    """Path → body, or status, or headers with a body under the name ""; a list gives its first item
    once.
    """
    asked: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)
    address: str = ""

    def paths(self, method: str = "GET") -> list[str]:
        return [path for asked, path, _ in self.asked if asked == method]


@contextmanager
def site(**pages: Any) -> Iterator[Site]:
    """A server of `pages`."""
    found = Site({f"/{name}": page for name, page in pages.items()})

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found.asked.append(
                (self.command, self.path, {name.lower(): v for name, v in self.headers.items()})
            )
            page = found.pages.get(self.path, 404)
            page = page.pop(0) if isinstance(page, list) and len(page) > 1 else page
            page = page[0] if isinstance(page, list) else page
            headers = dict(page) if isinstance(page, dict) else {}
            body = headers.pop("", page if isinstance(page, str | bytes) else "")
            body = body.encode() if isinstance(body, str) else body
            status = page if isinstance(page, int) else int(headers.pop("status", 200))
            if status == 200 and headers.get("ETag") == self.headers.get("If-None-Match", "none"):
                status, body = 304, b""
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        do_HEAD = do_GET

        def log_message(self, *_: object) -> None:
            """Print nothing."""

    with serving(Handler) as address:
        found.address = address
        yield found


@pytest.fixture(autouse=True)
def fast(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses, in which no time passes."""
    pauses: list[float] = []
    monkeypatch.setattr(time, "sleep", pauses.append)
    return pauses


def connect(address: str, limits: Limits = DEFAULT_LIMITS, **changes: Any) -> Connector:
    """A connector that may read this machine."""
    params = SourceParams(
        **{"name": "news", "kind": "remote", "allow_private": True, **changes, "address": address}
    )
    return open_connector(params, Setting(limits, {"TOKEN": "s3cret"}, ("TOKEN",)))


def listed(connector: Connector) -> dict[str, str]:
    return {item.key: item.fingerprint for item in connector.list()}


def test_links_that_match_are_listed_as_robots_allow(fast: list[float]) -> None:
    links = '<a href="a.jsonl">a</a> <A HREF=/news/b.jsonl#x> <a href="c.html">'
    links += '<a href="private.jsonl"> <a href="gone.jsonl">'
    rules = "User-agent: *\nDisallow: /news/private\nCrawl-delay: 2\n"
    with site(**{"news/": links, "robots.txt": rules, "news/private.jsonl": ROW}) as found:
        found.pages |= {"/news/a.jsonl": {"ETag": '"1"', "": ROW}, "/news/b.jsonl": ROW}
        connector = connect(f"{found.address}/news/*.jsonl")
        marks = listed(connector)
        base = f"{found.address}/news"
        assert list(marks) == [f"{base}/a.jsonl", f"{base}/b.jsonl"]
        assert marks[f"{base}/a.jsonl"] == '"1"'
        assert connector.problems == [f"1 page is not allowed by robots.txt of {found.address}"]
        assert "/news/private.jsonl" not in found.paths("HEAD") + found.paths()
        assert set(fast) == {2.0}
        (record,) = connector.fetch(f"{base}/a.jsonl")
        assert record.fields["text"] == "One."
        assert found.asked[-1][2]["user-agent"].startswith("cmt/")
        found.pages["/news/b.jsonl"] = ROW.replace("One", "Two")
        assert listed(connector)[f"{base}/b.jsonl"] != marks[f"{base}/b.jsonl"]


def test_robots_that_cannot_be_read_allow_nothing(tmp_path: Path) -> None:
    with site(**{"robots.txt": 503, "a.jsonl": ROW}) as closed, site(**{"a.jsonl": ROW}) as open_:
        closed.pages["/"] = '<a href="a.jsonl"><a href="b.jsonl">'
        with pytest.raises(
            StreamError,
            match=r"2 pages are not allowed by robots\.txt of http://127.*: .* status 503",
        ):
            listed(connect(f"{closed.address}/*.jsonl"))
        links = (f"<url><loc>{one.address}/a.jsonl</loc></url>" for one in (closed, open_))
        open_.pages["/sitemap.xml"] = f"<urlset>{''.join(links)}</urlset>"
        connector = connect(f"{open_.address}/sitemap.xml")
        assert list(listed(connector)) == [f"{open_.address}/a.jsonl"]
        assert not connector.complete  # so the other page has not vanished
        pages = source(kind="remote", address=f"{open_.address}/sitemap.xml", allow_private=True)
        [problem] = Project(tmp_path).sync(pages).problems
        assert problem.startswith(f"1 page is not allowed by robots.txt of {closed.address}: ")


def test_a_sitemap_may_be_packed_have_images_and_quote_its_addresses() -> None:
    with site() as found:
        image = f"<image:image><image:loc>{found.address}/a.jpg</image:loc></image:image>"
        urls = f"<url>{image}<loc>{found.address}/a.html?x=1&amp;y=2</loc>"
        urls += f"<lastmod>2031-01-05</lastmod>{image}</url>"
        urls += f"<url><loc>\n<![CDATA[{found.address}/b.html?x=1&copy=2]]></loc>"
        urls += "<lastmod>2031-01-06</lastmod></url>"
        urls = f'<urlset xmlns="http://www.sitemaps.org/schemas/sitemap/0.9">{urls}</urlset>'
        found.pages["/one.xml.gz"] = gzip.compress(urls.encode())
        index = (
            f"<sitemapindex><sitemap><loc>{found.address}/one.xml.gz</loc></sitemap></sitemapindex>"
        )
        found.pages["/sitemap.xml"] = index
        items = connect(f"{found.address}/sitemap.xml").list()
        assert [(item.key, str(item.order)[:10], item.fingerprint) for item in items] == [
            (f"{found.address}/a.html?x=1&y=2", "2031-01-05", "2031-01-05"),
            (f"{found.address}/b.html?x=1&copy=2", "2031-01-06", "2031-01-06"),
        ]


@pytest.mark.timeout(10)
@pytest.mark.parametrize(
    "markup",
    [f"<url><loc>{' ' * 100_000}", "<url>" * 20_000, "<![CDATA[" * 10_000, "<url><loc>" * 10_000],
    ids=["blanks", "url", "cdata", "loc"],
)
def test_markup_without_an_end_takes_no_time(markup: str) -> None:
    with site() as found:
        good = f"<url><loc>{found.address}/a.html</loc><lastmod>2031-01-05</lastmod></url>"
        found.pages["/sitemap.xml"] = f"<urlset>{good}{markup}"
        began = time.process_time()
        assert list(listed(connect(f"{found.address}/sitemap.xml"))) == [f"{found.address}/a.html"]
        assert time.process_time() - began < 1


def test_a_page_cannot_ask_for_a_variable_and_a_bad_link_stops_no_other() -> None:
    with site(**{"": '<a href="http://[server]/x"> <a href="a.jsonl?x=${TOKEN}">'}) as found:
        found.pages["/a.jsonl?x=${TOKEN}"] = found.pages["/a.jsonl?x=$%7BTOKEN%7D"] = ROW
        connector = connect(f"{found.address}/*")
        for item in connector.list():
            assert [record.fields["text"] for record in connector.fetch(item.key)] == ["One."]
        assert found.paths().count("/robots.txt") == 1
        assert not [path for path in found.paths() if "s3cret" in path]
        assert any("TOKEN" in path for path in found.paths())


def test_one_file_is_not_sent_again_while_its_tag_is_the_same() -> None:
    with site(**{"news.jsonl": {"ETag": '"1"', "": ROW}}) as found:
        connector = connect(f"{found.address}/news.jsonl")
        assert list(listed(connector)) == [f"{found.address}/news.jsonl"]
        assert [
            record.fields["doc_id"] for record in connector.fetch(f"{found.address}/news.jsonl")
        ] == ["a"]
        assert len(found.paths()) == 1
        later = connect(f"{found.address}/news.jsonl")
        later.cursor = connector.cursor
        with pytest.raises(Unchanged):
            listed(later)
        found.pages["/news.jsonl"] = {"ETag": '"2"', "": ROW}
        assert len(listed(later)) == 1


def test_a_date_of_this_second_is_no_mark() -> None:
    old, now = formatdate(time.time() - 60, usegmt=True), formatdate(time.time() + 1, usegmt=True)
    with site(
        **{
            "old.jsonl": {"Last-Modified": old, "": ROW},
            "new.jsonl": {"Last-Modified": now, "": ROW},
        }
    ) as found:
        for name, expected in (("old", {"last-modified": old}), ("new", {})):
            connector = connect(f"{found.address}/{name}.jsonl")
            listed(connector)
            assert connector.cursor == expected


def test_a_feed_is_asked_for_changes_alone(tmp_path: Path) -> None:
    first, second = atom_entry("a", "The first entry."), atom_entry("b", "The second entry.")
    with site(**{"feed.xml": {"ETag": '"1"', "": atom(first)}}) as found:
        project = Project(tmp_path)
        feed = source(kind="feed", address=f"{found.address}/feed.xml", allow_private=True)
        assert project.sync(feed).documents == 1
        assert (project.sync(feed).listed, found.asked[-1][2]["if-none-match"]) == (1, '"1"')
        found.pages["/feed.xml"] = {
            "ETag": '"2"',
            "": atom(second),
        }  # the first one is too old for the feed
        report = project.sync(feed)
        assert (report.new, report.vanished, report.documents) == (1, 0, 1)
        assert set(project.texts().values()) == {"The first entry.", "The second entry."}


def test_entries_without_an_id_may_share_a_link() -> None:
    item = "<item><link>https://town.example/status</link><description>{}</description></item>"
    entries = [item.format(f"Line {number} is closed.") for number in (1, 1, 2)]
    with site() as found:
        keys = []
        for order in (entries, entries[::-1]):
            found.pages["/feed.xml"] = (
                f'<rss version="2.0"><channel>{"".join(order)}</channel></rss>'
            )
            keys.append(set(listed(connect(f"{found.address}/feed.xml", kind="feed"))))
    assert keys[0] == keys[1]
    assert [key.partition("#")[0] for key in keys[0]] == ["https://town.example/status"] * 2


def test_entries_with_one_id_are_versions_of_one_document(tmp_path: Path) -> None:
    entry = (
        "<entry><id>toll</id><published>2031-01-01T00:00:00Z</published>{}"
        "<content>{}</content></entry>"
    )
    two = entry.format("<updated>2031-01-01T00:00:00Z</updated>", "The toll is two euros.")
    three = entry.format("<updated>2031-01-05T00:00:00Z</updated>", "The toll is three euros.")
    with site() as found:
        project = Project(tmp_path)
        feed = source(kind="feed", address=f"{found.address}/feed.xml", allow_private=True)
        for entries, changed, documents in [
            ((two, three), 0, 2),
            ((three, two, two), 0, 0),
            ((three,), 1, 0),
        ]:
            found.pages["/feed.xml"] = atom(*entries)
            report = project.sync(feed)
            assert (report.listed, report.changed, report.documents, report.problems) == (
                1,
                changed,
                documents,
                [],
            )
            assert project.texts() == {"toll": "The toll is three euros."}
        found.pages["/feed.xml"] = atom(
            atom_entry("fare", "It is one euro."), atom_entry("fare", "It is two euros.")
        )
        assert "has other content at the same date" in project.sync(feed).problems[0]


def test_a_page_that_is_no_feed_or_is_cut_off_adds_no_entry(tmp_path: Path) -> None:
    good = atom(atom_entry("a", "The first entry."), atom_entry("b", "The second entry."))
    with site(**{"feed.xml": "<!doctype html><title>Login</title><p>Name<br>Password"}) as found:
        project = Project(tmp_path)
        feed = source(kind="feed", address=f"{found.address}/feed.xml", allow_private=True)
        with pytest.raises(
            StreamError, match=f"source news cannot be listed: {feed.address} is no feed"
        ):
            project.sync(feed)
        found.pages["/feed.xml"] = {"ETag": '"1"', "": good[: good.index("second")]}
        report = project.sync(feed)
        assert (report.listed, report.documents, set(project.texts())) == (1, 1, {"a"})
        assert report.problems == [f"{feed.address} is cut off after 1 whole item: fetch it again"]
        found.pages["/feed.xml"] = {"ETag": '"1"', "": good}
        report = project.sync(feed)
        assert (report.listed, report.new, report.problems) == (2, 1, [])
        found.pages["/feed.xml"] = atom()
        assert (project.sync(feed).summary(), len(project.texts())) == ("nothing there", 2)


def test_transient_failures_are_repeated_with_pauses(fast: list[float]) -> None:
    busy = {"status": "429", "Retry-After": "7"}
    with site(**{"news.jsonl": [503, busy, ROW], "down.jsonl": 503, "gone.jsonl": 404}) as found:
        assert len(listed(connect(f"{found.address}/news.jsonl"))) == 1
        assert fast == [1.0, 7.0]
        with pytest.raises(StreamError, match="status 503, after 4 attempts"):
            listed(connect(f"{found.address}/down.jsonl"))
        with pytest.raises(StreamError, match="status 404$"):
            listed(connect(f"{found.address}/gone.jsonl"))
        assert found.paths().count("/gone.jsonl") == 1
    with pytest.raises(StreamError, match="after 4 attempts"):
        listed(connect(f"{found.address}/news.jsonl"))


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "127.1", "[::1]", "10.1.2.3"])
def test_a_private_address_is_refused(host: str) -> None:
    connector = connect(f"http://{host}:9/news.jsonl", allow_private=False)
    with pytest.raises(StreamError, match=r"private network: set allow_private|has no address"):
        listed(connector)


@pytest.mark.parametrize(
    "host",
    [
        "0.0.0.0",  # noqa: S104
        "169.254.169.254",
        "224.0.0.1",
        "100.100.100.200",
        "[fe80::1]",
        "[fec0::1]",
        "[::ffff:127.0.0.1]",
        "[64:ff9b::7f00:1]",
        "[2002:7f00:1::]",
    ],
)
def test_a_special_address_is_refused_whatever_is_allowed(host: str) -> None:
    for allowed in (True, ["0.0.0.0/0", "::/0"]):
        with pytest.raises(StreamError, match="no source may read|has no address"):
            listed(connect(f"http://{host}:9/news.jsonl", allow_private=allowed))


def test_public_is_a_list_of_what_is() -> None:
    public = ["9.9.9.9", "192.0.1.1", "223.255.255.255", "2606:4700::1111"]
    other = ["192.0.0.8", "192.88.99.1", "100.64.0.1", "240.0.0.1", "255.255.255.255", "239.1.1.1"]
    other += ["fec0::1", "64:ff9b::808:808", "2002:808:808::1", "2001::1", "::ffff:9.9.9.9", "::"]
    other += ["168.63.129.16", "2001:db8::1", "ff02::1"]
    assert [is_public(address) for address in public + other] == [True] * 4 + [False] * len(other)


def test_only_the_host_of_the_address_and_listed_networks_may_be_private() -> None:
    with site(**{"news.jsonl": ROW}) as other, site() as own:
        own.pages["/feed"] = {"status": "302", "Location": f"{other.address}/news.jsonl"}
        address = own.address.replace("127.0.0.1", "localhost")
        with pytest.raises(StreamError, match=r"127\.0\.0\.1, an address of a private network"):
            listed(connect(f"{address}/feed"))
        assert own.paths() == ["/feed"] and not other.asked
        assert len(listed(connect(f"{address}/feed", allow_private=["127.0.0.0/8"]))) == 1


@pytest.mark.parametrize(
    "location",
    ["data:,x", "http://①②⑦.⓪.⓪.①/", "http://[x/", "http://a:99999999/", f"http://{'a' * 300}/"],
)
def test_a_redirect_to_no_address_is_an_error(location: str) -> None:
    value = location.encode().decode("latin-1")
    with site(feed={"status": "302", "Location": value}) as found, pytest.raises(StreamError):
        listed(connect(f"{found.address}/feed"))


def test_redirects_stay_on_the_web_and_end() -> None:
    with site(feed={"status": "302", "Location": "file:///etc/passwd"}) as found:
        client = Web(source(kind="remote", address=found.address), Setting(DEFAULT_LIMITS))
        with pytest.raises(StreamError, match="leads to no address"):
            client.get("http://a\r\n.example/")
        with pytest.raises(StreamError, match="neither http nor https"):
            listed(connect(f"{found.address}/feed"))
        found.pages["/feed"] = {"status": "302", "Location": "/feed"}
        with pytest.raises(StreamError, match="redirects more than 5 times"):
            listed(connect(f"{found.address}/feed"))


def test_headers_go_to_their_own_host_alone() -> None:
    with site(**{"news.jsonl": ROW}) as other, site() as own:
        own.pages["/news.jsonl"] = {"status": "302", "Location": f"{other.address}/news.jsonl"}
        headers = {"X-Key": "${TOKEN}"}
        assert len(listed(connect(f"{own.address}/news.jsonl", headers=headers))) == 1
        assert own.asked[0][2]["x-key"] == "s3cret"
        assert "x-key" not in other.asked[0][2]


def test_no_credential_is_in_a_key_or_a_message(tmp_path: Path) -> None:
    with site(**{"s3cret/": '<a href="a.jsonl">', "s3cret/a.jsonl": ROW}) as found:
        connector = connect(f"{found.address}/${{TOKEN}}/*.jsonl")
        (key,) = listed(connector)
        assert key == f"{found.address}/${{TOKEN}}/a.jsonl"
        assert len(list(connector.fetch(key))) == 1
        feed = source(kind="remote", address=f"{found.address}/${{TOKEN}}/none", allow_private=True)
    with pytest.raises(ConfigError, match=r"\$\{TOKEN\} has no value"):
        Project(tmp_path).sync(feed)


def test_a_large_response_is_cut_off() -> None:
    limits = Limits(StreamParams(file_megabytes=1))
    with site(**{"news.jsonl": "x" * 1_200_000}) as found:
        with pytest.raises(StreamError, match="more than 1 MB"):
            listed(connect(f"{found.address}/news.jsonl", limits))
        client = Web(
            source(kind="remote", address=found.address, allow_private=True),
            Setting(DEFAULT_LIMITS),
        )
        assert len(client.get(f"{found.address}/news.jsonl").body) == 1_200_000


def test_one_layer_of_compression_is_undone_within_the_limit() -> None:
    limits = Limits(StreamParams(file_megabytes=1))
    bomb = gzip.compress(bytes(20_000_000))
    with site() as found:
        for name, encoding, body in (
            ("row", "gzip", gzip.compress(ROW.encode())),
            ("bomb", "gzip", bomb),
            ("twice", "gzip, gzip", gzip.compress(bomb)),
            ("cut", "gzip", gzip.compress(ROW.encode())[:-9]),
        ):
            found.pages[f"/{name}.jsonl"] = {"Content-Encoding": encoding, "": body}
        assert len(listed(connect(f"{found.address}/row.jsonl", limits))) == 1
        assert found.asked[-1][2]["accept-encoding"] == "gzip"
        for name, reason in (
            ("bomb", "more than 1 MB"),
            ("twice", "not only gzip"),
            ("cut", "damaged"),
        ):
            with pytest.raises(StreamError, match=reason):
                listed(connect(f"{found.address}/{name}.jsonl", limits))


BEGIN = b"HTTP/1.1 200 OK\r\n"


@pytest.mark.parametrize(
    ("begin", "repeated"),
    [
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
        (b"", b""),
        (BEGIN, b"X"),
        (BEGIN + b"Content-Length: 100000\r\n\r\n", b"x"),
        (b"HTTP/1.1 302 Found\r\nLocation: /\r\nX: ", b"x"),
    ],
    ids=["continue", "silence", "headers", "body", "redirect"],
)
def test_no_server_outlives_the_deadline(
    monkeypatch: pytest.MonkeyPatch, begin: bytes, repeated: bytes
) -> None:
    monkeypatch.setattr(web, "LONGEST", 0.5)
    ended = Event()

    class Dripping(BaseRequestHandler):
        def handle(self) -> None:
            with suppress(OSError):
                self.request.sendall(begin)
                while not ended.wait(0.02):
                    self.request.sendall(repeated)

    with serving(Dripping) as address:
        began = time.monotonic()
        with pytest.raises(StreamError, match="cannot be read"):
            listed(connect(f"{address}/feed.xml"))
        ended.set()
        assert time.monotonic() - began < 5
