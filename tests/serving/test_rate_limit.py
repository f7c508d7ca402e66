"""The requests of one client address are limited; other addresses are not."""

from pathlib import Path

from cmt.serving._rate_limit import MAX_CLIENTS, TokenBuckets, client_of
from tests.helpers.http import MAYOR, error_message
from tests.helpers.servers import serving_client


def test_the_requests_of_one_address_are_limited(project: Path) -> None:
    one, other = (
        {"X-Forwarded-For": address} for address in ("192.0.2.1", "192.0.2.2")
    )  # as a proxy sends it
    with serving_client(
        project, proxies=("127.0.0.0/8",), serving__requests_per_minute=3
    ) as client:
        assert [client.get("/range", headers=one).status_code for _ in range(4)] == [
            200,
            200,
            200,
            429,
        ]
        refused = client.post("/ask", json={"question": MAYOR}, headers=one)
        assert client.get("/range", headers=other).status_code == 200
        metrics = client.get("/metrics", headers=other).text
    assert refused.status_code == 429
    assert 1 <= int(refused.headers["retry-after"]) <= 20
    assert "more than 3 requests a minute" in error_message(refused)
    assert refused.json()["error"]["type"] == "rate_limit_error"
    assert "default-src" in refused.headers["content-security-policy"]
    assert 'cmt_requests_total{method="POST",route="",status="429"} 1.0' in metrics


def test_only_a_configured_proxy_names_the_client(project: Path) -> None:
    with serving_client(
        project, proxies=("192.0.2.0/24",), serving__requests_per_minute=3
    ) as client:
        headers = [{"X-Forwarded-For": f"198.51.100.{number}"} for number in range(5)]
        assert [client.get("/range", headers=one).status_code for one in headers] == [
            200,
            200,
            200,
            429,
            429,
        ]


def test_a_bucket_is_refilled_by_time() -> None:
    now = [0.0]
    buckets = TokenBuckets(60, clock=lambda: now[0])
    assert [buckets.take("a") for _ in range(61)] == [0] * 60 + [1]
    now[0] = 0.5
    assert buckets.take("a") == 1
    now[0] = 1.0
    assert (buckets.take("a"), buckets.take("a")) == (0, 1)
    now[0] = 1000.0  # it holds no more than a minute's worth
    assert sum(buckets.take("a") == 0 for _ in range(100)) == 60


def test_the_number_of_remembered_addresses_is_bounded() -> None:
    buckets = TokenBuckets(1, clock=lambda: 0.0)
    assert buckets.take("first") == 0
    for number in range(MAX_CLIENTS):
        buckets.take(str(number))
    assert len(buckets._buckets) == MAX_CLIENTS
    assert buckets.take("first") == 0


def test_addresses_of_one_ipv6_network_are_one_client() -> None:
    first, second, third = (
        client_of({"client": (address, 1)})
        for address in ("2001:db8::1", "2001:db8::ffff:2", "2001:db8:0:1::1")
    )
    assert first == second != third
    assert client_of({"client": ("192.0.2.1", 1)}) == "192.0.2.1"
    assert client_of({"client": None}) == client_of({}) == ""
