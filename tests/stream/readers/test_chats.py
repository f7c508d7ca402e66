"""An export of Slack: people, channels and threads."""

import json
import zipfile
from pathlib import Path

import pytest

from cmt.stream.readers.detection import records

USERS = [
    {"id": "U06", "name": "ada", "profile": {"real_name": "Ada Lund"}},
    {"id": "U07", "name": "tom", "real_name": "Tom Vey"},
]
MESSAGES = [
    {
        "type": "message",
        "user": "U06",
        "ts": "1790964000.000100",
        "text": "<@U07> The kayak trip on the Luna is on 17 October, see <https://k.example|here>.",
        "thread_ts": "1790964000.000100",
    },
    {
        "type": "message",
        "user": "U07",
        "ts": "1790967600.000200",
        "thread_ts": "1790964000.000100",
        "text": "It moves to the 24th.",
    },
    {
        "type": "message",
        "subtype": "channel_join",
        "user": "U07",
        "ts": "1790967601.0",
        "text": "x",
    },
]


@pytest.fixture(params=["folder", "zip"])
def export(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """The export as a folder, and packed."""
    folder = tmp_path / "export"
    for name, content in (
        ("users.json", USERS),
        ("channels.json", [{"id": "C1", "name": "trips", "topic": {"value": "All of our trips."}}]),
        ("trips/2026-10-02.json", MESSAGES),
    ):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(json.dumps(content))
    if request.param == "folder":
        return folder
    packed = tmp_path / "export.zip"
    with zipfile.ZipFile(packed, "w") as archive:
        for file in sorted(folder.rglob("*.json")):
            archive.write(file, file.relative_to(folder))
    return packed


def test_author_channel_and_thread_belong_to_a_message(export: Path) -> None:
    first, reply = [record.fields for record in records(export) if record.fields]
    assert first["text"] == (
        "Ada Lund: Tom Vey The kayak trip on the Luna is on 17 October, see https://k.example."
    )
    assert (first["title"], first["doc_id"]) == ("#trips", "trips/1790964000.000100")
    assert reply["text"] == "Tom Vey: It moves to the 24th."
    assert reply["title"].startswith("#trips: Tom Vey The kayak trip")
    assert reply["published_at"] == "1790967600.000200"
