"""Web pages, feeds, web archives and articles of Wikipedia, with the names of the schema."""

import io
import logging
import re
import warnings
from collections import Counter, defaultdict
from collections.abc import Iterator
from typing import Any

import feedparser

from cmt.errors import StreamError
from cmt.stream._urls import url_identity
from cmt.stream.columns import MODIFIED_AT, Record
from cmt.stream.limits import Limits, check_xml
from cmt.stream.readers._text import decode, plain_text, without_markup
from cmt.text.display import counted

_DATES = {"original_date": True, "extensive_search": False, "outputformat": "%Y-%m-%dT%H:%M:%S%z"}
"""Read only dates that a page declares, not dates in its text."""
_OUTSIDE_MAIN = (
    "//body[.//main[string-length(normalize-space()) > 250]]//*[not(ancestor-or-self::main or "
    "descendant::main)]"
)
"""The elements outside `main`, such as comments, which may be longer than the main text; a short
`main` may be empty.
"""
_UNPUBLISHED = {"draft", "auto-draft", "pending", "private", "trash"}  # statuses of WordPress
# difference in length, 0–1, of an article and its text; a text that JSON declares is longer
_SIMILAR = 0.1
_MODIFIED = re.compile(r"(?:article:modified_time|og:updated_time|dateModified)[\"']")
_CONTENT = re.compile(r"""\bcontent\s*=\s*["']([^"']{1,64})""", re.IGNORECASE)
_DAY_AND_MONTH = re.compile(r"(?<!\d)(\d{1,2})([./-])(\d{1,2})\2(\d{4})(?!\d)")


def read_html(data: bytes, name: str, limits: Limits) -> Iterator[Record]:
    """Yield the main text, title, date and address of a page. Raises ValueError if it has no
    text.
    """
    yield Record(page(data, name), name)


def page(data: bytes, name: str) -> dict[str, Any]:
    """The fields of an HTML page, without navigation, banners and other furniture. Raises
    ValueError if it is empty.
    """
    import trafilatura

    logging.getLogger("trafilatura").setLevel(
        logging.CRITICAL
    )  # an empty page is an error of its own
    found = trafilatura.extract_with_metadata(
        data,
        output_format="html",
        include_comments=False,
        date_extraction_params=dict(_DATES),
        prune_xpath=_OUTSIDE_MAIN,
    )
    text = (
        (_own_lines(found, data) or plain_text(found.text or ""))
        if found
        else plain_text(decode(data)[0])
    )
    if not text:
        raise ValueError(f"{name} is a page without text")
    if not found:
        return {"text": text}
    date = _declared(found.date.removesuffix("T00:00:00"), decode(data)[0]) if found.date else None
    fields = {
        "title": found.title,
        "text": text,
        "published_at": date,
        "url": found.url,
        "source": found.sitename,
        MODIFIED_AT: _modified(decode(data)[0]),
    }
    return {key: value for key, value in fields.items() if value}


def _modified(html: str) -> str | None:
    """When the page says that it last changed, by Open Graph or schema.org."""
    for tag in re.finditer(r"<meta\b([^>]{0,500})>", html, re.IGNORECASE):
        if _MODIFIED.search(tag[1]) and (content := _CONTENT.search(tag[1])):
            return content[1]
    declared = re.search(r'"dateModified"\s*:\s*"([^"]{1,64})"', html)
    return declared[1] if declared else None


def _own_lines(found: Any, data: bytes) -> str:
    """The text of the page or of its article, if trafilatura found one line of it, as in a short
    page; else blank.
    """
    from trafilatura.utils import decode_file  # by the charset that the page declares

    if len(found.body) != 1 or len(found.body[0]):
        return ""
    markup = decode_file(data)
    if (
        "\n" in found.raw_text
    ):  # between all the strings of the page, of which less than 250 characters are main text
        return plain_text(_within("main", markup) or markup)
    text = plain_text(_within("article", markup))
    return text if abs(len(text) - len(found.raw_text)) <= _SIMILAR * len(found.raw_text) else ""


def _within(name: str, markup: str) -> str:
    begin = re.search(rf"<{name}\b", markup, re.IGNORECASE)
    ends = [end.start() for end in re.finditer(rf"</{name}\b", markup, re.IGNORECASE)]
    return markup[begin.start() : ends[-1]] if begin and ends else ""


def _declared(date: str, html: str) -> str:
    """Return `date`, or the numbers in the page that it was read from, if they do not say which one
    is the month.
    """
    year, month, day = map(int, date[:10].split("-"))
    if date[:10] not in html:
        for numbers in _DAY_AND_MONTH.finditer(html):
            if (
                sorted(map(int, numbers.group(1, 3))) == sorted((day, month))
                and int(numbers[4]) == year
            ):
                return numbers[0]
    return date


def read_feed(data: bytes, name: str, limits: Limits) -> Iterator[Record]:
    """Yield the items of an RSS or Atom feed, each with the longer one of its content and its
    summary.

    Items that share an id are versions of one document, dated by their update; if their links
    differ, the id is none. Items that are not published are left out. If the feed is cut off, an
    error follows its complete items. Raises StreamError if it is not a feed.
    """
    check_xml(data, name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        feed = feedparser.parse(io.BytesIO(data), sanitize_html=False, resolve_relative_uris=False)
    if not feed.version:
        raise StreamError(
            f"{name} is no feed, neither RSS nor Atom: see whether its address shows a login or an "
            "error"
        )
    items, markup = feed.entries, data.replace(b"\0", b"")  # of UTF-16, too
    cut = feed.bozo and not re.search(rb"(?i)</(?:\w+:)?(?:rss|feed|rdf)\s*>", markup)
    if cut:
        items = items[: len(re.findall(rb"(?i)</(?:\w+:)?(?:item|entry)\s*>", markup))]
    shared = Counter(item["id"] for item in items if "id" in item)
    links = defaultdict[str, set[str | None]](set)
    for item in items:
        links[item.get("id", "")].add(url_identity(item.get("link")))
    source = without_markup(feed.feed.get("title", ""))
    left_out: tuple[str, ...] = ()
    for item in items:
        if _is_unpublished(item):
            left_out += (f"the unpublished item {item.get('title', '')[:100]!r}",)
    for number, item in enumerate(items, 1):
        if not _is_unpublished(item):
            fields = _item_fields(item, source, has_versions=shared[item.get("id")] > 1)
            if len(links[item.get("id", "")]) > 1:  # a mistake of the publisher's software
                fields = _item_fields(item, source, has_versions=False)
                fields.pop("doc_id", None)
            yield Record(fields, f"{name} row {number}", left_out=left_out)
            left_out = ()
    if left_out:
        yield Record({}, name, left_out=left_out)
    if cut:
        yield Record(
            {}, name, f"{name} is cut off after {counted(len(items), 'whole item')}: fetch it again"
        )


def _item_fields(item: dict[str, Any], source: str, *, has_versions: bool) -> dict[str, Any]:
    """The fields of an item; one of several versions has the date of its update."""
    stated = {key: item[key] for key in ("published", "updated") if key in item and item[key]}
    dates = list(stated.values())
    texts = [*(content.value for content in item.get("content", ())), item.get("summary", "")]
    fields = {
        "doc_id": item.get("id"),
        "title": without_markup(item.get("title", "")),
        "text": max(map(without_markup, texts), key=len),
        "published_at": dates and dates[-1 if has_versions else 0],
        MODIFIED_AT: stated.get("updated"),
        "url": item.get("link"),
        "source": source,
    }
    return {key: value for key, value in fields.items() if value}


def _is_unpublished(item: dict[str, Any]) -> bool:
    """Whether an item of an export is a draft, private or deleted, by WordPress or by RFC 5023."""
    return item.get("wp_status") in _UNPUBLISHED or item.get("app_draft") == "yes"


def read_sitemap(data: bytes, name: str, limits: Limits) -> Iterator[Record]:
    """Refuse a sitemap, which lists pages and has no text."""
    count = len(re.findall(rb"<(?:\w+:)?loc\b", data))
    raise StreamError(
        f"{name} is a sitemap: it lists {count:,} addresses and has no text; save the pages into a "
        "folder and name that"
    )


def read_wiki(data: bytes, name: str, limits: Limits) -> Iterator[Record]:
    """Yield the articles that WikiExtractor writes, `<doc id="…" url="…" title="…">` before each
    text.
    """
    articles = re.finditer(
        r"<doc ([^>]{0,2000})>\n?(.*?)\n?(?:</doc>|\Z)", decode(data)[0], re.DOTALL
    )
    for number, (attributes, text) in enumerate((match.groups() for match in articles), 1):
        values = {
            key: without_markup(value)
            for key, value in re.findall(r'\b(\w++)="([^"]*)"', attributes)
        }
        title = values.get("title", "")
        text = text.removeprefix(title).strip() if title else text.strip()
        fields = {
            "doc_id": values.get("id"),
            "url": values.get("url"),
            "title": title,
            "text": text,
        }
        yield Record(
            {key: value for key, value in fields.items() if value is not None},
            f"{name} row {number}",
        )


def read_warc(data: bytes, name: str, limits: Limits) -> Iterator[Record]:
    """Yield the HTML pages and plain texts with status 200, dated by the page or else by its
    capture.
    """
    from warcio.archiveiterator import ArchiveIterator

    left = limits.file_bytes
    for number, record in enumerate(ArchiveIterator(io.BytesIO(data)), 1):
        http = record.http_headers
        kind = (
            (http.get_header("content-type") or "").partition(";")[0].strip().lower()
            if http
            else ""
        )
        readable = kind in ("text/html", "application/xhtml+xml", "text/plain")
        if record.rec_type != "response" or not readable or http.get_statuscode() != "200":
            continue
        url, where = record.rec_headers.get_header("WARC-Target-URI"), f"{name} row {number}"
        content = record.content_stream().read(left + 1)
        left -= len(content)
        if left < 0:
            raise limits.too_large(name)
        try:
            fields = {"text": decode(content)[0]} if kind == "text/plain" else page(content, where)
        except ValueError as error:
            yield Record({}, where, str(error))
            continue
        yield Record(
            {"published_at": record.rec_headers.get_header("WARC-Date"), **fields, "url": url},
            where,
        )
