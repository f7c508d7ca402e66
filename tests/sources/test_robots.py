"""The rules of robots.txt, with the examples of RFC 9309."""

import pytest

from cmt.sources._robots import Robots

RULES = """
User-agent: other
Disallow: /
User-Agent: *   # and
User-agent: CMT/2.0
Crawl-delay: 1.5

Disallow: /
Allow: /a.html
Allow: /page
Disallow: /*.gif$
Allow: /example/
Disallow: /example/page/*.php?x
Disallow: /caf%C3%A9
Allow: /café
Disallow:
"""


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("/", False),
        ("", False),
        ("/a.html", True),
        ("/page/1?x=y", True),
        ("/page/b.gif", False),
        ("/page/b.gif?large", True),
        ("/example/page/z.php", True),
        ("/example/page/z.php?x=1", False),
        ("/caf%c3%a9/menu", True),
    ],
)
def test_the_longest_rule_decides(path: str, allowed: bool) -> None:
    assert Robots(RULES, "cmt").allows(f"https://town.example{path}") == allowed


def test_the_group_of_the_agent_counts_alone_and_no_rule_allows_all() -> None:
    assert Robots(RULES, "cmt").delay == 1.5
    assert not Robots(RULES, "other").allows("https://town.example/a.html")
    assert Robots("User-agent: *\nDisallow: /\nUser-agent: cmt\n", "cmt").allows(
        "https://town.example/"
    )
    assert Robots("User-agent: *\nDisallow: /a\nAllow: /a", "cmt").allows("https://town.example/a")
