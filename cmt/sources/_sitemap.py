"""The entries of a sitemap (sitemaps.org), whose markup need not be well-formed."""

import re
from collections.abc import Iterator
from html import escape, unescape
from typing import NamedTuple

from cmt.text.markup import replace_between

_BEGIN = 2000  # characters that show what a file is
_ROOT = re.compile(r"<(?:\w+:)?(?:urlset|sitemapindex)\b")
_TAG = re.compile(r"(/?)(?:([^\s:/]++):)?([^\s:/]*+)")
_KINDS, _FIELDS = ("url", "sitemap"), ("loc", "lastmod")


class Entry(NamedTuple):
    """A page, or another sitemap."""

    kind: str  # url or sitemap
    address: str
    changed: str | None


def is_sitemap(text: str) -> bool:
    return bool(_ROOT.search(text[:_BEGIN]))


def entries(text: str) -> Iterator[Entry]:
    """Yield the entries that have an address and an end.

    Elements with another prefix than their entry are of images, videos and news.
    """
    opened: tuple[str, str] | None = None  # prefix and name of the present entry
    fields = dict[str, str]()
    for part in replace_between(text, "<![CDATA[", "]]>", escape).split("<"):
        tag, _, content = part.partition(">")
        [(closing, prefix, name)] = _TAG.findall(tag, 0, 1_000)[:1] or [("", "", "")]
        if name in _KINDS and not closing:
            opened, fields = (prefix, name), {}
        elif opened and name in _FIELDS and not closing and prefix == opened[0]:
            fields.setdefault(name, content.strip())
        elif (prefix, name) == opened:
            if address := fields.get("loc"):
                yield Entry(name, unescape(address), fields.get("lastmod"))
            opened = None
