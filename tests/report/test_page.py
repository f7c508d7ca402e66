"""The page shows every round, system and baseline, loads nothing, and escapes the text of
documents.
"""

import json
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import cmt
from cmt.common.progress import NullProgress
from cmt.errors import BankError, StreamError
from cmt.report._history import LATEST
from cmt.report.page import gather, render, write_report
from tests.helpers.projects import open_workspace
from tests.helpers.reports import HOSTILE, ParsedPage


@pytest.fixture(scope="module")
def written(
    adapted_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[dict[str, Any], str]:
    """The summary and the page of the project."""
    path = tmp_path_factory.mktemp("page") / "deep" / "index.html"
    summary = write_report(open_workspace(adapted_folder).project, path, progress=NullProgress())
    assert summary["bytes"] == path.stat().st_size
    return summary, path.read_text(encoding="utf-8")


@pytest.fixture
def html(written: tuple[dict[str, Any], str]) -> str:
    return written[1]


def test_the_page_is_complete_and_loads_nothing(html: str) -> None:
    parsed = ParsedPage(html)
    assert not any(parsed.elements[name] for name in ("script", "link", "iframe"))
    assert all(value.startswith("#") for value in parsed.values("href", "xlink:href"))
    inline = parsed.values("src", "srcset")
    assert all(value.startswith("data:image/png;base64,") for value in inline)
    assert not parsed.values("action", "background", "poster", "data")
    assert "default-src 'none'" in " ".join(parsed.values("content"))
    assert not re.search(r"@import|url\((?!#)|https?:", html)
    assert len(html.encode()) < 5_000_000


def test_every_link_has_a_target_and_every_id_is_unique(html: str) -> None:
    parsed = ParsedPage(html)
    ids = Counter(parsed.values("id"))
    assert set(ids.values()) == {1}
    assert {value.removeprefix("#") for value in parsed.values("href", "xlink:href")} <= ids.keys()
    named = " ".join(parsed.values("aria-labelledby")).split()
    assert set(named) <= ids.keys()
    assert set(re.findall(r"url\(#([^)]+)\)", html)) <= ids.keys()


def test_the_page_can_be_used_with_a_keyboard_and_read_on_a_phone(html: str) -> None:
    parsed = ParsedPage(html)
    assert parsed.elements["h1"] == 1
    assert parsed.elements["img"] == len(list(filter(None, parsed.values("alt")))) >= 3
    assert (
        parsed.values("role").count("region")
        == parsed.values("tabindex").count("0")
        == html.count('class="scroll"')
    )
    assert "width=device-width, initial-scale=1" in parsed.values("content")
    assert "prefers-color-scheme: dark" in html
    assert ":focus-visible" in html
    assert "Skip to the report" in parsed.text
    # every table scrolls in its own container
    assert (
        html.count("<table>") == len(re.findall(r'<div class="scroll"[^>]*>\s*<table>', html)) > 5
    )
    assert re.search(r"\.scroll \{[^}]*overflow-x: auto", html)


def test_text_of_documents_is_never_markup(html: str) -> None:
    assert "alert(" in html
    assert "<img src=//" not in html
    assert HOSTILE in ParsedPage(html).text
    assert "[red]The raft[/] :fire:" in html


def test_every_round_has_its_lineage_with_short_digests(html: str, adapted: cmt.Workspace) -> None:
    rounds = adapted.project.ledger.rounds()
    assert [round_.round_id for round_ in rounds] == ["2031-01/0001", "2031-02/0001"]
    for round_ in rounds:
        for digest in (
            round_.slice_digest,
            round_.compressor,
            round_.params_digest,
            round_.bank_digest,
        ):
            assert f'<code title="{digest}">{digest[:12]}</code>' in html
        assert f'id="round-{round_.round_id.replace("/", "-")}"' in html
    assert html.count(f"compressor {rounds[0].compressor[:12]}") >= 6  # below every table and chart


def test_all_systems_and_the_worst_questions_are_shown_with_quotes(html: str) -> None:
    text = ParsedPage(html).text
    for words in (
        "CMT memory",
        "closed-book",
        "BM25-RAG, top 1",
        "Who thought up the Dunmarrow hitch?",
    ):
        assert words in text
    assert 'class="card question"' in html
    assert re.search(
        r'<mark class="quote" title="quoted, probability [01]\.\d\d">[^<]+</mark>', html
    )
    assert re.search(r" From \d questions? only: small differences are not significant\.", text)


def test_baselines_are_shown_with_their_costs(html: str, adapted: cmt.Workspace) -> None:
    text = ParsedPage(html).text
    for words in ("the right document", "BM25-RAG, top 3", "Peak, GB", "Tokens a question"):
        assert words in text
    assert "Not measured: closed-book; BM25-RAG, top 1; dense RAG, top 1" in text
    rows = {
        row["row"]: row
        for row in json.loads((adapted.project.state / "baselines.json").read_text())["rows"]
    }
    assert f"{rows['full']['cost']['tokens_per_question']:,.0f}" in text


def test_the_published_protocol_is_shown_if_it_was_measured(
    html: str, adapted: cmt.Workspace
) -> None:
    assert 'id="protocol"' not in html
    row = {
        "row": "cmt",
        "em": 1.0,
        "em_prefix": 2.0,
        "f1": 43.21,
        "ci": [40.0, 45.0],
        "recall": None,
        "n": 7,
    }
    (adapted.project.root / "metrics").mkdir()
    record = {"documents": 1665, "rows": [row], "noise": {"left": 98.75}}
    (adapted.project.root / "metrics/protocol.json").write_text(json.dumps(record))
    gathered = gather(adapted.project, progress=NullProgress())
    text = ParsedPage(render(gathered)).text
    assert "1,665 documents are compressed first" in text
    assert "43.2 (40.0 – 45.0)" in text and "98.75" in text
    # F1 is drawn against the confidence
    assert gathered["reliability"] and gathered["reliability"].name == "reliability"


def test_the_summary_has_stable_keys(written: tuple[dict[str, Any], str]) -> None:
    summary, _ = written
    assert (summary["rounds"], summary["systems"]) == (2, ["cmt", "closed", "rag"])
    assert summary["baselines"] == ["full", "rag-bm25-3", "cmt"]
    assert 1 <= summary["worst_questions"] <= 5


def test_a_round_without_stored_answers_has_no_systems(adapted: cmt.Workspace) -> None:
    for file in (adapted.project.state / "rounds").glob("*/answers.parquet"):
        file.unlink()
    gathered = gather(adapted.project, progress=NullProgress())
    assert (gathered["scored"], gathered["systems"], gathered["failures"]) == (None, [], [])
    assert [chart.name for chart in gathered["history"]] == ["rounds", "seconds"]
    assert all(entry.gain is None for entry in gathered["entries"])
    assert "no answers are stored" in ParsedPage(render(gathered)).text


def test_a_stream_without_questions_has_a_page_and_loads_no_lm(tiny_workspace: Path) -> None:
    path = tiny_workspace / "r.html"
    with pytest.raises(BankError, match="cmt update"):
        write_report(open_workspace(tiny_workspace).project, path, progress=NullProgress())
    assert not path.exists()
    (tiny_workspace / "news/questions.jsonl").unlink()
    workspace = open_workspace(tiny_workspace)
    workspace.ingest()
    workspace.update()
    reopened = open_workspace(tiny_workspace)
    write_report(reopened.project, path, progress=NullProgress())
    html = path.read_text(encoding="utf-8")
    assert "There is no scored round" in html and "2031-01/0001" in html
    assert "lm" not in vars(reopened)
    ParsedPage(html)
    with pytest.raises(StreamError, match="cannot write"):
        write_report(reopened.project, path / "r.html", progress=NullProgress())


def test_a_refused_round_is_shown_with_its_reason(tiny_workspace: Path) -> None:
    workspace = open_workspace(
        tiny_workspace, gate__min_f1=100.0, evaluation__round_baselines=False
    )
    workspace.ingest()
    assert workspace.update().state == "refused"
    html = render(gather(workspace.project, progress=NullProgress()))
    assert re.search(r"is refused: F1 [\d.]+ is below gate.min_f1 100", ParsedPage(html).text)


def test_the_page_of_a_long_stream_stays_small(adapted: cmt.Workspace) -> None:
    last = adapted.project.ledger.rounds()[-1]
    names = [f"2030-{index:04d}/0001" for index in range(LATEST + 9)]
    rounds = [
        replace(last, round_id=name, slice_id=name, number=index - 999)
        for index, name in enumerate(names)
    ]
    adapted.project.ledger.write(*rounds)
    gathered = gather(adapted.project, progress=NullProgress())
    assert (len(gathered["entries"]), gathered["left_out"]) == (LATEST, 11)
    html = render(gathered)
    assert "11 earlier rounds are left out" in html
    assert len(html.encode()) < 2_000_000
    assert html.count(names[-1]) >= 2
