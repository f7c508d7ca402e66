"""A newcomer with a feed and with a table: two commands to an answer from one's own documents."""

import csv
import html
import json
import time
from datetime import datetime
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import yaml
from typer.testing import CliRunner

from cmt.cli.main import app
from cmt.config import written_sections
from cmt.lm.model import FrozenLM
from cmt.stream.periods import NEWEST_DOCUMENTS
from cmt.text.answers import same_value

COURIER = Path(__file__).parents[2] / "data/courier/documents.jsonl"
SECONDS = 90
"""For both commands, without the installation; processor time, which other work on the machine does
not change.
"""


def articles(number: int) -> list[dict[str, Any]]:
    """The first articles of the bundled newspaper, dated five years earlier, in one month."""
    rows = [json.loads(line) for line in COURIER.read_text(encoding="utf-8").splitlines()[:number]]
    days = [
        datetime.fromisoformat(f"2026-01-{1 + 27 * n // number:02d}T08:00:00+00:00")
        for n in range(number)
    ]
    return [row | {"date": day} for row, day in zip(rows, days, strict=True)]


def write_feed(path: Path, number: int) -> None:
    items = "".join(
        f"<item><title>{html.escape(row['title'])}</title><guid>{row['doc_id']}</guid>"
        f"<pubDate>{format_datetime(row['date'])}</pubDate><description>{html.escape(row['text'])}</description></item>"
        for row in articles(number)
    )
    path.write_text(
        f'<rss version="2.0"><channel><title>Courier</title>{items}</channel></rss>',
        encoding="utf-8",
    )


def write_table(path: Path, number: int) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["headline", "story", "timestamp"])
        rows.writerows(
            [row["title"], row["text"], int(row["date"].timestamp())] for row in articles(number)
        )


def run(*arguments: str) -> dict[str, Any]:
    result = CliRunner().invoke(app, [*arguments, "--json"], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def run_tiny(parts: dict[str, object], *arguments: str) -> dict[str, Any]:
    """Run with an LM of some kilobytes, whose answers are no matter, and without canaries."""
    parts = written_sections(parts | {"gate": {"canaries": 0}, "answering": {"max_new_tokens": 1}})
    return run(
        *(text for name, part in parts.items() for text in ("--set", f"{name}={json.dumps(part)}")),
        *arguments,
    )


def test_two_commands_lead_to_an_answer(real_lm: FrozenLM, tmp_path: Path) -> None:
    data, folder = tmp_path / "feed.xml", tmp_path / "project"
    write_feed(data, 12)
    began = time.process_time()
    # 1. the documents are adapted, and questions on them answered
    started = run("init", str(folder), "--from", str(data))
    assert (sum(round_["documents"] for round_ in started["rounds"]), started["waiting"]) == (12, 0)
    assert len(started["questions"]) == 3
    for asked in started["questions"]:
        assert same_value(asked["answer"], asked["expected"])
    # 2. the second command answers as the first one did
    first = started["questions"][0]
    answer = run("--params", str(folder / "params.yaml"), "ask", first["question"])
    assert (answer["answer"], answer["sources"][0]["doc_id"]) == (
        first["answer"],
        first["sources"][0]["doc_id"],
    )
    assert time.process_time() - began < SECONDS


def test_of_a_large_table_the_newest_documents_are_adapted(
    tiny_parts: dict[str, object], tmp_path: Path
) -> None:
    write_table(tmp_path / "news.csv", 2 * NEWEST_DOCUMENTS)
    started = run_tiny(
        tiny_parts, "init", str(tmp_path / "project"), "--from", str(tmp_path / "news.csv")
    )
    assert (
        sum(round_["documents"] for round_ in started["rounds"])
        == started["waiting"]
        == NEWEST_DOCUMENTS
    )
    stream = yaml.safe_load((tmp_path / "project/params.yaml").read_text())["stream"]
    assert stream["source"] == "../news.csv"
    assert stream["columns"] == {"title": "headline", "published_at": "timestamp", "text": "story"}


def test_documents_of_many_months_take_a_few_rounds(
    tiny_parts: dict[str, object], tmp_path: Path
) -> None:
    with (tmp_path / "news.jsonl").open("w") as file:
        for month, row in enumerate(articles(10), 1):
            file.write(
                json.dumps(
                    {"title": row["title"], "text": row["text"], "date": f"2024-{month:02}-03"}
                )
                + "\n"
            )
    started = run_tiny(
        tiny_parts, "init", str(tmp_path / "project"), "--from", str(tmp_path / "news.jsonl")
    )
    assert [round_["slice_id"] for round_ in started["rounds"]] == [
        f"2024-{m:02}/0001" for m in range(3, 11)
    ]
    assert started["waiting"] == 2
    updated = run_tiny(
        tiny_parts, "--params", str(tmp_path / "project/params.yaml"), "update", "--all"
    )
    assert len(updated["rounds"]) == 2


def test_of_a_folder_an_edited_file_becomes_a_new_version(
    tiny_parts: dict[str, object], tmp_path: Path
) -> None:
    (tmp_path / "notes").mkdir()
    note = tmp_path / "notes/2026-03-04-ferry.md"
    note.write_text("A ticket on the ferry costs 7 crowns.")
    (tmp_path / "notes/picture.xyz").write_bytes(bytes(range(256)))
    started = run_tiny(
        tiny_parts, "init", str(tmp_path / "project"), "--from", str(tmp_path / "notes")
    )
    assert [round_["documents"] for round_ in started["rounds"]] == [1]
    assert any("picture.xyz is in no known format" in line for line in started["notices"])
    note.write_text("A ticket on the ferry costs 9 crowns.")
    project = ("--params", str(tmp_path / "project/params.yaml"))
    [synced] = run_tiny(tiny_parts, *project, "sync")["sources"]
    assert (synced["changed"], synced["documents"], synced["versions"]) == (1, 1, 1)
