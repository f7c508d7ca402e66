"""The section `sources` of params.yaml."""

from pathlib import Path

import pytest

from cmt.config import load_params
from cmt.errors import ConfigError


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("{name: A b, kind: folder, address: x}", "name"),
        ("{name: a, kind: folder}", "address: Field required"),
        ("{name: a, kind: sql, address: 'sqlite:///x.db'}", "needs query and key"),
        (
            "{name: a, kind: feed, address: 'https://x.example/', on_delete: expire}",
            "nothing vanishes",
        ),
        ("{name: a, kind: folder, address: x, schedule: daily}", "five fields of cron"),
        (
            "{name: a, kind: folder, address: x, schedule: '0 25 * * *'}",
            "not a cron expression: Bad hour",
        ),
        (
            "{name: a, kind: sql, address: 'postgresql://u:pw@h/d', query: q, key: k}",
            "holds credentials",
        ),
        (
            "{name: a, kind: sql, address: 'postgresql://u@pw@h/d', query: q, key: k}",
            "holds credentials",
        ),
        (
            "{name: a, kind: sql, address: 'postgresql://u@h/d?password=pw', query: q, key: k}",
            "holds credentials",
        ),
        ("{name: a, kind: feed, address: 'https://pw@h.example/'}", "holds credentials"),
        ("{name: a, kind: feed, address: 'https://h.example/?token=abc'}", "holds credentials"),
        (
            (
                "{name: a, kind: feed, address: 'https://h.example/', headers: {A: 'Bearer"
                " 0123456789abcdef0'}}"
            ),
            "credentials",
        ),
        ("{name: a, kind: folder, address: x, on_delete: drop}", "on_delete"),
        (
            "{name: a, kind: folder, address: x}, {name: a, kind: folder, address: y}",
            "'a' appears twice",
        ),
    ],
)
def test_a_wrong_source_is_refused(tmp_path: Path, source: str, message: str) -> None:
    (tmp_path / "params.yaml").write_text(f"sources: [{source}]")
    with pytest.raises(ConfigError, match=message) as caught:
        load_params(tmp_path / "params.yaml")
    assert "pw" not in str(caught.value)


def test_credentials_are_named_and_paths_start_at_the_project(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text("""
stream: {authority: {desk: [Courier]}}
sources:
  - {name: posts, kind: folder, address: posts/*.md, authority: [Herald], publisher: desk}
  - {name: rows, kind: sql, address: "sqlite:///news.db", query: SELECT 1 AS k, key: k}
  - {name: db, kind: sql, address: "postgresql://reader:${PW}@h/d?sslkey=${KEY}", query: q, key: k}
  - {name: peer, kind: sql, address: "postgresql+psycopg://reader@h/d", query: q, key: k}
  - name: api
    kind: feed
    address: "https://h.example/?token=${TOKEN}"
    headers: {Authorization: "Bearer ${B}"}
""")
    params = load_params(tmp_path / "params.yaml")
    posts, rows, db, peer, api = params.sources
    assert posts.address == str(tmp_path / "posts/*.md")
    assert rows.address == f"sqlite:///{tmp_path}/news.db"
    assert (peer.address, peer.secret_names) == ("postgresql+psycopg://reader@h/d", [])
    assert (db.secret_names, api.secret_names) == (["PW", "KEY"], ["TOKEN", "B"])
    assert params.stream.authority == {"desk": ("Courier", "Herald")}
