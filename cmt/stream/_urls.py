"""The identity of a page: its address without the parts that differ between readers."""

import re
from urllib.parse import parse_qsl, urlencode, urlsplit

_TRACKING = re.compile(
    r"utm_|mc_[ce]id$|at_(medium|campaign|link|format|bbc)|pk_|piwik_|hsa_|_hs|ns_(campaign|source|mchannel)|"
    r"(fbclid|gclid|dclid|gbraid|wbraid|msclkid|yclid|twclid|igshid|igsh|ocid|cmpid|cmp|smid|ftag|_ga|traffic_source)$",
    re.IGNORECASE,
)
_PORTS = {"http": ":80", "https": ":443"}


def url_identity(url: str | None) -> str | None:
    """`url` with https, without tracking parameters, the last slash, and a fragment that is only a
    place in the page.

    None for the address of a whole site, and for anything else than a page: they do not tell
    documents apart.
    """
    try:
        parts = urlsplit((url or "").strip())
        query = [
            pair
            for pair in parse_qsl(parts.query, keep_blank_values=True, errors="surrogateescape")
            if not _TRACKING.match(pair[0])
        ]
    except ValueError:
        return None
    path, host = parts.path.rstrip("/"), parts.netloc.lower()
    # `#!/story` is a page of its own
    fragment = f"#{parts.fragment}" if parts.fragment[:1] in ("!", "/") else ""
    if parts.scheme not in _PORTS or not host or not (path or query or fragment):
        return None
    arguments = f"?{urlencode(query, errors='surrogateescape')}" if query else ""
    return f"https://{host.removesuffix(_PORTS[parts.scheme])}{path}{arguments}{fragment}"
