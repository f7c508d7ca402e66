"""The source that `cmt init --from` makes of an address."""

import pytest

from cmt.cli.own_documents import web_source


@pytest.mark.parametrize("host", ["20minutes.example", "3dnews.example", "news.example"])
def test_a_name_that_begins_with_a_digit_is_no_address(host: str) -> None:
    assert "allow_private" not in web_source(f"https://{host}/*.xml", {})


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1:8000", "10.0.0.7", "[::1]"])
def test_who_names_a_private_address_may_read_it(host: str) -> None:
    assert web_source(f"http://{host}/*.xml", {})["allow_private"] is True
