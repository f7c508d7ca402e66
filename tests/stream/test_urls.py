import pytest

from cmt.stream._urls import url_identity


@pytest.mark.parametrize(
    ("url", "identity"),
    [
        ("https://X.example/a?utm_source=rss&id=3&fbclid=q#comments", "https://x.example/a?id=3"),
        ("http://x.example:80/a/", "https://x.example/a"),
        ("https://x.example/a?t=%EC%E8%F0", "https://x.example/a?t=%EC%E8%F0"),  # no UTF-8
        ("https://x.example/#!/story/7", "https://x.example#!/story/7"),
        ("https://x.example/", None),
        ("mailto:a@x.example", None),
        ("https://[broken", None),
        (None, None),
    ],
)
def test_a_page_is_told_by_its_address_without_what_differs_from_reader_to_reader(
    url: str | None, identity: str | None
) -> None:
    assert url_identity(url) == identity
