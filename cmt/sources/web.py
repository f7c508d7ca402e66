"""Files, pages and feeds on the web, fetched politely and never from a private network that was not
allowed.
"""

import fnmatch
import json
import re
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from html import unescape
from typing import Any
from urllib.parse import urljoin, urlsplit

import httpx

from cmt.common.digests import sha256_hex
from cmt.common.version import __version__
from cmt.config import SourceParams
from cmt.errors import ConfigError, StreamError
from cmt.sources import _sitemap
from cmt.sources._robots import Robots
from cmt.sources.connector import Connector, Item, Response, Setting, Unchanged, instant_of
from cmt.sources.network import Network
from cmt.stream.columns import Record
from cmt.stream.readers.detection import NO_DOCUMENTS
from cmt.stream.readers.files import compression_of, decompress
from cmt.text.display import counted

AGENT = f"cmt/{__version__}"
ATTEMPTS, REDIRECTS = 4, 5
TIMEOUT = httpx.Timeout(30, connect=10)  # seconds without a byte
LONGEST = 300.0  # seconds for one response, with all attempts, and for one pause between two pages
RETRIED = {408, 425, 429, 500, 502, 503, 504}
_HREF = re.compile(r"""\bhref\s*=\s*["']?([^"'>\s]+)""", re.IGNORECASE)
_FIRST_PAUSE = 0.5  # seconds; doubles with each attempt
_WEAK = timedelta(seconds=2)  # a file may change again within the second that `Last-Modified` names


class StatusError(StreamError):
    """A response other than the content."""

    def __init__(self, url: str, status: int) -> None:
        super().__init__(f"{url} cannot be read: status {status}")
        self.status = status


class Web:
    """Requests for one source, without proxies; its headers go only to the host of its address."""

    def __init__(self, source: SourceParams, setting: Setting) -> None:
        self._headers = {name: setting.expand(value) for name, value in source.headers.items()}
        self._origin, self._limits = httpx.URL(setting.expand(source.address)), setting.limits
        own = self._origin.raw_host.decode("ascii") if source.allow_private else None
        networks = source.allow_private if isinstance(source.allow_private, tuple) else ()
        self._network, transport = Network(own, networks), httpx.HTTPTransport()
        transport._pool._network_backend = self._network  # httpx has no option for it
        self._client = httpx.Client(transport=transport, timeout=TIMEOUT, trust_env=False)
        self._fetched = dict(setting.fetched)
        self._robots: dict[str, Robots] = {}
        self.unread: dict[str, str] = {}  # host that could not say which pages may be read → why

    def get(
        self, url: str, *, method: str = "GET", conditions: Mapping[str, str] | None = None
    ) -> Response:
        """Request `url`, again after transient failures, and follow redirects. Raises StreamError
        unless 200 or 304.
        """
        if method == "GET" and url in self._fetched:
            return self._fetched.pop(url)
        self._network.deadline = until = time.monotonic() + LONGEST
        for attempt in range(1, ATTEMPTS + 1):
            wanted = ""
            try:
                response = self._follow(url, method, conditions or {})
                if response.status in (200, 304):
                    return response
                if response.status not in RETRIED:
                    raise StatusError(url, response.status)
                reason = f"status {response.status}"
                wanted = response.headers.get("retry-after", "")
            except httpx.HTTPError as error:
                reason = str(error) or type(error).__name__
            except (httpx.InvalidURL, ValueError) as error:  # of a link or a redirect
                raise StreamError(f"{url} leads to no address: {error}") from None
            pause = float(wanted) if wanted.isdecimal() else _FIRST_PAUSE * 2**attempt
            if attempt == ATTEMPTS or time.monotonic() + pause > until:
                break
            time.sleep(pause)
        raise StreamError(f"{url} cannot be read: {reason}, after {counted(attempt, 'attempt')}")

    def get_changed(self, url: str, cursor: Mapping[str, str]) -> Response:
        """`get`, but raises Unchanged if the response would be that of the validators
        `cursor`.
        """
        names = {"etag": "If-None-Match", "last-modified": "If-Modified-Since"}
        response = self.get(
            url, conditions={names[name]: value for name, value in cursor.items() if name in names}
        )
        if response.status == 304:
            raise Unchanged
        return response

    def page(self, url: str, *, method: str = "GET") -> Response:
        """`get` for a page that a link named, at the pace that `robots.txt` of its host asks
        for.
        """
        time.sleep(min(self.robots_of(url).delay, LONGEST))
        return self.get(url, method=method)

    def _follow(self, url: str, method: str, conditions: Mapping[str, str]) -> Response:
        for _ in range(REDIRECTS + 1):
            target = httpx.URL(url)
            if target.scheme not in ("http", "https"):
                raise StreamError(f"{url} is neither http nor https")
            same = all(
                getattr(target, part) == getattr(self._origin, part)
                for part in ("scheme", "host", "port")
            )
            if same and not target.userinfo:
                target = target.copy_with(userinfo=self._origin.userinfo)
            headers = {"User-Agent": AGENT, "Accept-Encoding": "gzip", **conditions}
            headers |= self._headers if same else {}
            with self._client.stream(method, target, headers=headers) as response:
                if response.has_redirect_location:
                    url = urljoin(url, response.headers["location"])
                    continue
                body = self._body(url, response)
                return Response(url, response.status_code, response.headers, body)
        raise StreamError(f"{url} redirects more than {REDIRECTS} times")

    def _body(self, url: str, response: httpx.Response) -> bytes:
        """The content of a response, whose compression is undone once. Raises StreamError above
        the limit.
        """
        encoding, body = response.headers.get("content-encoding", "").strip().lower(), bytearray()
        if encoding not in ("", "identity", "gzip", "x-gzip"):
            raise StreamError(f"{url} has the Content-Encoding {encoding[:50]!r}, not only gzip")
        for block in response.iter_raw():
            body += block
            if len(body) > self._limits.file_bytes:
                raise self._limits.too_large(url)
        if "gzip" not in encoding or not body:
            return bytes(body)
        return decompress(bytes(body), "gz", url, self._limits.file_bytes, self._limits)

    def robots_of(self, url: str) -> Robots:
        """The rules of the host of `url`: no rules without a file, nothing allowed if the request
        fails (RFC 9309).
        """
        host = _host(url)
        if host not in self._robots:
            try:
                rules = self.get(f"{host}/robots.txt").body.decode("utf-8", "replace")
            except StreamError as error:
                missing = isinstance(error, StatusError) and error.status < 500
                rules = "" if missing else "User-agent: *\nDisallow: /"
                self.unread |= {} if missing else {host: str(error)}
            self._robots[host] = Robots(rules, agent="cmt")
        return self._robots[host]


class WebSource(Connector):
    """A file, the pages of a sitemap, or the links that match an address with `*`; as far as
    `robots.txt` allows.
    """

    dates_changes = True

    def __init__(self, source: SourceParams, setting: Setting) -> None:
        self._address, self._format, self._setting = source.address, source.format, setting
        url = setting.expand(source.address)
        base, _, last = url.rpartition("/")
        if "*" in base:
            raise ConfigError(f"sources.{source.name}: {source.address} has * before the last /")
        self._pattern = url if "*" in last else None
        self._url = f"{base}/" if self._pattern else url
        self.web = Web(source, setting)
        self._whole: Response | None = None  # the only file of the source
        self._urls: dict[
            str, str
        ] = {}  # key of a page → its address, which a site wrote, so ${…} in it is no variable

    def list(self) -> Iterator[Item]:
        response = self.web.get_changed(self._url, {} if self._pattern else self.cursor)
        pages = dict(self._links(response) if self._pattern else self._sitemap(response))
        if not (pages or self._pattern):
            self._whole, self.cursor = response, validators(response)
            changed = instant_of(response.headers.get("last-modified"))
            yield Item(self._address, changed, sha256_hex(response.body))
        addresses = [url for url in pages if _is_address(url)]
        allowed = [url for url in addresses if self.web.robots_of(url).allows(url)]
        refused = Counter(map(_host, addresses)) - Counter(map(_host, allowed))
        self.complete = not self.web.unread  # the pages of a host that cannot say have not vanished
        self.problems = [
            f"{counted(count, 'page')} {'is' if count == 1 else 'are'} not allowed by robots.txt "
            f"of {host}" + (f": {self.web.unread[host]}" if host in self.web.unread else "")
            for host, count in refused.items()
        ]
        if addresses and not allowed:
            raise StreamError(f"none of the pages may be read: {'; '.join(self.problems)}")
        for url in allowed:
            yield from self._page(url, pages[url])

    def fetch(self, key: str) -> Iterator[Record]:
        response = (
            self._whole if self._whole and key == self._address else self.web.page(self._urls[key])
        )
        yield from self._setting.read(urlsplit(response.url).path, [response.body], self._format)

    def _links(self, response: Response) -> Iterator[tuple[str, str | None]]:
        for href in _HREF.findall(response.body.decode("utf-8", "replace")):
            try:
                url = urljoin(response.url, unescape(href)).partition("#")[0]
            except ValueError:  # no address, such as http://[server]/
                continue
            if fnmatch.fnmatchcase(url, self._pattern or "*"):
                yield url, None

    def _sitemap(self, response: Response, depth: int = 0) -> Iterator[tuple[str, str | None]]:
        """The pages of a sitemap and of the sitemaps in it, each with its date; none if it is not a
        sitemap.
        """
        body, limits = response.body, self._setting.limits
        if compression_of(body) == "gz":
            body = decompress(body, "gz", response.url, limits.file_bytes, limits)
        text = body.decode("utf-8", "replace")
        if not _sitemap.is_sitemap(text):
            return
        for entry in _sitemap.entries(text):
            if entry.kind == "url":
                yield entry.address, entry.changed
            elif depth == 0:
                yield from self._sitemap(self.web.get(entry.address), depth + 1)

    def _page(self, url: str, changed: str | None) -> Iterator[Item]:
        """The item of a page, unless it is gone."""
        key = self._setting.conceal(url)
        self._urls[key] = url
        if changed:
            yield Item(key, instant_of(changed), changed)
            return
        try:
            response = self.web.page(url, method="HEAD")
            mark = " ".join(validators(response).values())
            if not mark:
                response = self.web.page(url)
                mark = sha256_hex(response.body)
            yield Item(key, instant_of(response.headers.get("last-modified")), mark)
        except StatusError as error:
            if error.status not in (404, 410):
                yield Item(key)
        except StreamError:
            yield Item(key)  # to fetch it fails in the same way, and is reported


class FeedSource(Connector):
    """The entries of the feed `address`. A feed shows only its newest entries, so an entry never
    counts as vanished.
    """

    complete = False

    def __init__(self, source: SourceParams, setting: Setting) -> None:
        self._address = source.address
        self._format = source.format or "feed"
        self._setting = setting
        self.web = Web(source, setting)
        self._entries: dict[
            str, dict[str, Record]
        ] = {}  # key → its different records by their digests

    def list(self) -> Iterator[Item]:
        # 1. Read it. An error of the feed as a whole is no entry.
        response = self.web.get_changed(self._setting.expand(self._address), self.cursor)
        name = "feed.xml"
        read = list(self._setting.read(name, [response.body], self._format))
        broken = [record for record in read if record.error and record.where == name]
        errors = [str(record.error).replace(name, self._address) for record in broken]
        self.problems = [error for error in errors if not error.endswith(NO_DOCUMENTS)]
        records = [record for record in read if record not in broken]
        if self.problems and not records:
            raise StreamError("; ".join(self.problems))
        # else the rest would count as unchanged
        self.cursor = {} if self.problems else validators(response)
        # 2. The entries.
        self._entries = self._by_key(records)
        for key, entries in self._entries.items():
            yield Item(key, None, " ".join(sorted(entries)))

    def _by_key(self, records: Sequence[Record]) -> dict[str, dict[str, Record]]:
        """The different records of each entry by their digests. The key of an entry is its id, or
        else its link, which entries without an id may share.
        """
        links = Counter[Any]()
        for record in records:
            if not record.fields.get("doc_id"):
                links[record.fields.get("url")] += 1
        entries = defaultdict[str, dict[str, Record]](dict)
        for record in records:
            content = json.dumps([record.fields, record.error], sort_keys=True, default=str)
            digest = sha256_hex(content.encode("utf-8", "surrogatepass"))
            url = record.fields.get("url")
            link = f"{url}#{digest[:16]}" if links[url] > 1 else url
            key = str(record.fields.get("doc_id") or (link if url else digest))
            entries[self._setting.conceal(key)].setdefault(digest, record)
        return entries

    def fetch(self, key: str) -> Iterator[Record]:
        yield from self._entries[key].values()


def _is_address(url: str) -> bool:
    try:
        return bool(urlsplit(url).netloc and httpx.URL(url).host)
    except (ValueError, httpx.InvalidURL):
        return False


def _host(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


def validators(response: Response) -> dict[str, str]:
    """The entity tag or the date of a response, to ask later whether it has changed; empty if it
    has neither.
    """
    headers = response.headers
    if etag := headers.get("etag"):
        return {"etag": etag}
    changed, sent = instant_of(headers.get("last-modified")), instant_of(headers.get("date"))
    if changed and sent and sent - changed >= _WEAK:
        return {"last-modified": headers["last-modified"]}
    return {}
