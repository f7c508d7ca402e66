import gzip
import sys
from pathlib import Path

import pytest

from cmt.stream.readers import records

MAIN = "The bus to Quessel is late again, because the bridge over the weir stays shut until the frost is over. " * 4
PAGE = f"""<html><head><title>Late bus</title><meta property="article:published_time" content="2026-03-23T08:38:00Z">
<link rel="canonical" href="https://a.example/bus"></head><body><nav><a href="/">Front page</a></nav>
<main><article><h1>Late bus</h1><p>{MAIN}</p><table><tr><th>Line</th><th>Delay</th></tr><tr><td>7</td>
<td>9 min</td></tr></table></article></main><footer>All rights reserved</footer></body></html>"""


def test_a_page_without_text_is_an_error_and_without_the_extra_its_name_is_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bus.html").write_text("<html><body><script>a()</script></body></html>")
    [page] = records(tmp_path / "bus.html")
    assert page.error == "bus.html is a page without text"
    monkeypatch.setitem(sys.modules, "trafilatura", None)
    [page] = records(tmp_path / "bus.html")
    assert page.error and "pip install 'cmt-memory[formats]'" in page.error


def warc_record(number: int, status: str, kind: str, body: str) -> bytes:
    """A response in a web archive."""
    http = f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\n\r\n{body}".encode()
    head = f"WARC/1.0\r\nWARC-Type: response\r\nWARC-Target-URI: https://a.example/{number}\r\n"
    head += "WARC-Date: 2026-05-01T00:00:00Z\r\nContent-Type: application/http; msgtype=response\r\n"
    return f"{head}Content-Length: {len(http)}\r\n\r\n".encode() + http + b"\r\n\r\n"


def test_a_web_archive_gives_its_pages_and_their_captures_date_them(tmp_path: Path) -> None:
    responses = [
        warc_record(0, "200 OK", "text/html", PAGE),
        warc_record(1, "200 OK", "text/plain; charset=utf-8", "Plain"),
        warc_record(2, "404 Not Found", "text/html", PAGE),
        warc_record(3, "200 OK", "image/png", "picture"),
        warc_record(4, "200 OK", "text/html", "<html></html>"),
    ]
    (tmp_path / "crawl.warc.gz").write_bytes(b"".join(map(gzip.compress, responses)))
    page, plain, empty = records(tmp_path / "crawl.warc.gz")
    assert (page.fields["url"], page.fields["published_at"]) == ("https://a.example/0", "2026-03-23T08:38:00+0000")
    assert plain.fields == {"published_at": "2026-05-01T00:00:00Z", "text": "Plain", "url": "https://a.example/1"}
    assert empty.error and "without text" in empty.error
