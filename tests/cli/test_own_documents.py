"""The source that `cmt init --from` makes of an address."""

from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from cmt.cli._own_documents import look, web_source
from cmt.config import SourceParams, StreamParams
from cmt.errors import StreamError
from cmt.sources.connector import Setting
from cmt.sources.kinds import open_connector
from cmt.stream.limits import DEFAULT_LIMITS
from tests.helpers.sources import serving

PRIVATE = ("localhost", "127.0.0.1:8000", "10.0.0.7", "[::1]")
NAMES = (
    "20minutes.example",
    "3dnews.example",
    "news.example",
)  # a digit at the beginning makes no address


@pytest.mark.parametrize("host", [*PRIVATE, *NAMES])
def test_who_names_a_private_address_may_read_it(host: str) -> None:
    source, _ = web_source(f"http://{host}/*.xml", {})
    assert source.get("allow_private", False) is (host in PRIVATE)


def test_an_address_is_requested_once_until_its_documents_are_read() -> None:
    requested = list[str]()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            requested.append(self.path)
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b'{"text": "One.", "published_at": "2031-01-02"}\n')

        def log_message(self, *_: object) -> None:
            """Print nothing."""

    with serving(Handler) as address:
        source, fetched = web_source(f"{address}/news.jsonl", {})
        setting = Setting(DEFAULT_LIMITS, fetched=fetched)
        connector = open_connector(SourceParams(**source), setting)
        [item] = connector.list()
        [record] = connector.fetch(item.key)
        assert record.fields["text"] == "One." and requested == ["/news.jsonl"]
        assert [again.key for again in connector.list()] == [item.key] and len(requested) == 2


def test_a_folder_of_undated_notes_is_taken_and_a_file_without_dates_is_not(tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    notes.mkdir()
    (notes / "boat.md").write_text("# Boat\n\nThe boat of Melk needs two litres of oil.")

    def accepted(address: Path) -> int:
        project = tmp_path / "project"
        seen = look(project, str(address), StreamParams(), columns={}, published_at=None)
        return seen.accepted

    assert accepted(notes) == 1
    with pytest.raises(StreamError, match="no published_at"):
        accepted(notes / "boat.md")
