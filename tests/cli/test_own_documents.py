"""The source that `cmt init --from` makes of an address."""

import pytest

from cmt.cli.own_documents import web_source

PRIVATE = ("localhost", "127.0.0.1:8000", "10.0.0.7", "[::1]")
NAMES = (
    "20minutes.example",
    "3dnews.example",
    "news.example",
)  # a digit at the beginning makes no address


@pytest.mark.parametrize("host", [*PRIVATE, *NAMES])
def test_who_names_a_private_address_may_read_it(host: str) -> None:
    assert web_source(f"http://{host}/*.xml", {}).get("allow_private", False) is (host in PRIVATE)
