"""The rules of `robots.txt` (RFC 9309)."""

import re
from fnmatch import fnmatchcase
from urllib.parse import unquote, urlsplit

_LONGEST = 512_000  # characters that count; RFC 9309 asks for at least 500 KiB


class Robots:
    """The rules for one agent. Unlike in `urllib.robotparser`, the longest match decides, and `*`
    is a wildcard.
    """

    def __init__(self, text: str, agent: str) -> None:
        groups = dict[str, list[tuple[str, str]]]()
        agents, begun = list[str](), False  # of the present group; whether it has a rule
        for line in text.lstrip("\ufeff")[:_LONGEST].splitlines():
            key, _, value = (part.strip() for part in line.partition("#")[0].partition(":"))
            key = key.lower()
            if key == "user-agent":
                agents = [*([] if begun else agents), value.partition("/")[0].strip().lower()]
                begun = False
                groups.setdefault(agents[-1], [])
            elif key in ("allow", "disallow", "crawl-delay"):
                begun = True
                for name in agents:
                    groups[name].append((key, value))
        found = groups.get(agent.lower(), groups.get("*", []))
        rules = [
            (unquote(value), key == "allow")
            for key, value in found
            if value and key != "crawl-delay"
        ]
        self._rules = [(len(rule), allow, _pattern(rule)) for rule, allow in rules]
        delays = [
            value
            for key, value in found
            if key == "crawl-delay" and re.fullmatch(r"\d+(\.\d+)?", value)
        ]
        self.delay = float(delays[0]) if delays else 0.0  # seconds between two pages

    def allows(self, url: str) -> bool:
        parts = urlsplit(url)
        page = unquote(parts.path or "/") + (f"?{unquote(parts.query)}" if parts.query else "")
        matching = [
            (length, allow) for length, allow, pattern in self._rules if fnmatchcase(page, pattern)
        ]
        return max(matching, default=(0, True))[1]


def _pattern(rule: str) -> str:
    """A rule as a pattern of fnmatch: `*` is any text, `$` the end."""
    escaped = re.sub(r"[\[?]", r"[\g<0>]", rule)
    return escaped[:-1] if escaped.endswith("$") else f"{escaped}*"
