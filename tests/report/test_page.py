"""The page: what it shows, that it loads nothing, and that no text of documents is markup in it."""

import json
import re
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

import cmt
from cmt.common.progress import NullProgress
from cmt.errors import BankError, StreamError
from cmt.evaluation.systems import SYSTEMS
from cmt.report.curves import folder
from cmt.report.history import LATEST
from cmt.report.page import gather, render, write_report
from tests.helpers.reports import HOSTILE, ParsedPage


@pytest.fixture(scope="module")
def html(adapted_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("page") / "deep" / "index.html"
    write_report(opened(adapted_folder), path, questions=20, progress=NullProgress())
    return path.read_text(encoding="utf-8")


def opened(project: Path) -> cmt.Workspace:
    return cmt.open(params=project / "params.yaml")


def page(workspace: cmt.Workspace) -> str:
    return render(gather(workspace, questions=20, progress=NullProgress()))


def test_the_page_is_complete_and_loads_nothing(html: str) -> None:
    parsed = ParsedPage(html)
    assert not any(parsed.elements[name] for name in ("script", "link", "img", "iframe"))
    assert all(value.startswith("#") for value in parsed.values("href", "xlink:href"))
    assert not parsed.values("src", "srcset", "action", "background", "poster", "data")
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
    assert parsed.elements["svg"] == html.count('role="img"') >= 5
    assert parsed.values("role").count("region") == parsed.values("tabindex").count("0") == html.count('class="scroll"')
    assert "width=device-width, initial-scale=1" in parsed.values("content")
    assert "prefers-color-scheme: dark" in html
    assert ":focus-visible" in html
    assert "Skip to the report" in parsed.text


def test_every_table_scrolls_in_its_own_container(html: str) -> None:
    assert html.count("<table>") == len(re.findall(r'<div class="scroll"[^>]*>\s*<table>', html)) > 5
    assert re.search(r"\.scroll \{[^}]*overflow-x: auto", html)


def test_text_of_documents_is_never_markup(html: str) -> None:
    assert "alert(" in html
    assert "<img" not in html
    assert HOSTILE in ParsedPage(html).text
    assert "[red]The raft[/] :fire:" in html


def test_every_round_has_its_lineage_with_short_digests(html: str, adapted: cmt.Workspace) -> None:
    rounds = adapted.ledger.rounds()
    assert [round_.round_id for round_ in rounds] == ["2031-01/0001", "2031-02/0001"]
    for round_ in rounds:
        for digest in (round_.slice_digest, round_.compressor, round_.params_digest, round_.bank_digest):
            assert f'<code title="{digest}">{digest[:12]}</code>' in html
        assert f'id="round-{round_.round_id.replace("/", "-")}"' in html
    assert html.count(f"compressor {rounds[0].compressor[:12]}") >= 8  # below every table and chart


def test_the_quoted_span_is_underlined(html: str) -> None:
    assert re.search(r'<mark class="quote" title="quoted, probability [01]\.\d\d">[^<]+</mark>', html)


def test_all_systems_and_the_worst_questions_are_shown(html: str) -> None:
    text = ParsedPage(html).text
    for words in (
        "CMT memory",
        "closed-book",
        "BM25-RAG, top 1",
        "Who thought up the Dunmarrow hitch?",
        "the right document",
    ):
        assert words in text
    assert 'class="card question"' in html


def test_baselines_are_shown_with_their_costs(html: str, adapted: cmt.Workspace) -> None:
    text = ParsedPage(html).text
    for words in ("the right document", "BM25-RAG, top 3", "dense RAG, top 1", "Peak, GB", "Tokens a question"):
        assert words in text
    assert "Not measured" not in text[text.index("Scores and costs") :]
    rows = {row["row"]: row for row in json.loads((adapted.state / "baselines.json").read_text())["rows"]}
    assert f"{rows['full']['cost']['tokens_per_question']:,.0f}" in text


def test_f1_is_drawn_against_confidence(adapted: cmt.Workspace) -> None:
    chart = gather(adapted, questions=20, progress=NullProgress()).reliability
    assert chart is not None
    assert chart.name == "reliability"


def test_charts_of_few_questions_carry_a_warning(html: str) -> None:
    text = ParsedPage(html).text
    assert re.search(
        r"A seeded sample of \d questions\. From \d questions? only: small differences say nothing\.", text
    )


def test_the_summary_has_stable_keys(adapted: cmt.Workspace, tmp_path: Path) -> None:
    summary = write_report(adapted, tmp_path / "r.html", questions=20, progress=NullProgress())
    assert summary["bytes"] == (tmp_path / "r.html").stat().st_size
    assert (summary["rounds"], summary["curves"]) == (2, ["retention", "noise", "supersession", "size", "k"])
    assert summary["unmeasured"] == []
    assert summary["rows"] == list(SYSTEMS)
    assert summary["ways"] == ["cmt", "closed", "rag"]
    assert 1 <= summary["worst_questions"] <= 5


def test_curves_and_baselines_are_measured_once(adapted: cmt.Workspace) -> None:
    shutil.rmtree(folder(adapted))
    (adapted.state / "baselines.json").unlink()
    first = gather(adapted, questions=20, progress=NullProgress())
    files = {file: file.stat().st_mtime_ns for file in (*folder(adapted).iterdir(), adapted.state / "baselines.json")}
    second = gather(adapted, questions=20, progress=NullProgress())
    assert {file: file.stat().st_mtime_ns for file in files} == files
    assert render(replace(second, made=first.made)) == render(first)


def test_measurements_of_an_earlier_bank_are_repeated_on_a_small_bank_and_marked_on_a_large_one(
    adapted: cmt.Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    curve = json.loads((folder(adapted) / "k.json").read_text())
    curve |= {"title": "Old k", "lineage": curve["lineage"] | {"bank": "0" * 64}}  # of no bank
    (folder(adapted) / "noise.json").write_text("no curve")
    baselines = json.loads((adapted.state / "baselines.json").read_text())
    baselines["lineage"]["bank"] = "0" * 64
    texts = []
    for memories in (0, 1000):  # from which on a bank is large
        monkeypatch.setattr("cmt.report.curves.LARGE", memories)
        monkeypatch.setattr("cmt.report.comparison.LARGE", memories)
        (folder(adapted) / "k.json").write_text(json.dumps(curve))
        (adapted.state / "baselines.json").write_text(json.dumps(baselines))
        texts.append(ParsedPage(page(adapted)).text)
    large, small = texts
    assert re.search(r"Old k A seeded sample of \d questions\. Measured on an earlier state of the bank\.", large)
    assert "cmt curves noise" in large
    assert "Scores and costs" not in large
    assert "Old k" not in small and "cmt curves" not in small
    assert "Scores and costs" in small


@pytest.mark.parametrize("state", ["missing", "damaged"])
def test_a_round_without_records_is_asked_again(adapted: cmt.Workspace, state: str) -> None:
    for file in (adapted.state / "rounds").glob("*/answers.parquet"):
        file.unlink()
        if state == "damaged":
            file.write_bytes(b"PAR1 rubbish")
    gathered = gather(adapted, questions=20, progress=NullProgress())
    assert [system.name for system in gathered.systems] == ["cmt", "closed", "rag"]
    assert gathered.failures
    assert [chart.name for chart in gathered.history] == ["rounds", "seconds"]  # the third needs each round's records
    assert all(entry.gain is None for entry in gathered.entries)


def test_a_stream_without_questions_has_a_page_and_loads_no_lm(tiny_workspace: Path) -> None:
    (tiny_workspace / "news/questions.jsonl").unlink()
    workspace = opened(tiny_workspace)
    workspace.ingest()
    workspace.update()
    reopened = opened(tiny_workspace)
    html = page(reopened)
    assert "No round has been scored" in html
    assert "2031-01/0001" in html
    assert "lm" not in vars(reopened)
    ParsedPage(html)


def test_a_refused_round_is_shown_with_its_reason(tiny_workspace: Path) -> None:
    workspace = cmt.open(params=tiny_workspace / "params.yaml", overrides={"gate.min_f1": 100.0})
    workspace.ingest()
    assert workspace.update().state == "refused"
    assert re.search(r"is refused: F1 [\d.]+ is below gate.min_f1 100", ParsedPage(page(workspace)).text)


def test_without_a_bank_there_is_no_report(tiny_workspace: Path, tmp_path: Path) -> None:
    with pytest.raises(BankError, match="cmt update"):
        write_report(opened(tiny_workspace), tmp_path / "r.html", questions=20, progress=NullProgress())
    assert list(tmp_path.glob("*.html")) == []


def test_a_page_that_cannot_be_written_is_a_stream_error(adapted: cmt.Workspace, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StreamError, match="cannot write"):
        write_report(adapted, tmp_path / "file" / "r.html", questions=20, progress=NullProgress())


def test_the_page_of_a_long_stream_stays_small(adapted: cmt.Workspace) -> None:
    last = adapted.ledger.rounds()[-1]
    names = [f"2030-{place:04d}/0001" for place in range(300)]
    rounds = [replace(last, round_id=name, slice_id=name, number=place - 300) for place, name in enumerate(names)]
    adapted.ledger.write(*rounds)
    gathered = gather(adapted, questions=20, progress=NullProgress())
    assert (len(gathered.entries), gathered.left_out) == (LATEST, 302 - LATEST)
    html = render(gathered)
    assert f"{302 - LATEST} earlier rounds are left out" in html
    assert len(html.encode()) < 2_000_000
    assert html.count("2030-0299/0001") >= 2
