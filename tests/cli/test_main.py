"""Commands of the stream, the rounds and the language model, on a project in miniature."""

import json
import re
import shutil
from pathlib import Path

import pytest

from tests.helpers.cli import MAYOR, bank_report, imported_modules, read, run
from tests.helpers.projects import change_params, open_workspace
from tests.helpers.training import write_squad


def test_a_source_is_ingested_once(tiny_workspace: Path) -> None:
    report = read(tiny_workspace, "ingest")
    assert [s["slice_id"] for s in report["slices"]] == ["2031-01/0001", "2031-02/0001"]
    assert (report["accepted"], report["questions"], report["rejected"]) == (6, 4, [])
    again = read(tiny_workspace, "ingest")
    assert (again["accepted"], again["duplicates"], again["slices"]) == (0, 6, [])
    printed = run(tiny_workspace, "ingest").stdout
    assert "nothing new" in printed
    assert (
        "the clock is fixed (stream.clock): rows dated after 2031-12-31T23:59:59Z are rejected"
        in printed
    )


def test_rejected_rows_are_counted_and_named(tiny_workspace: Path) -> None:
    rows = tiny_workspace / "more.jsonl"
    good = {"doc_id": "new", "published_at": "2031-03-01T07:00:00Z", "text": "A lamp was lit."}
    rows.write_text(
        json.dumps(good) + "\n{broken\n" + json.dumps(good | {"doc_id": "empty", "text": ""}) + "\n"
    )
    printed = run(
        tiny_workspace, "ingest", str(rows), "--format", "jsonl", "--period", "day"
    ).stdout
    assert "2031-03-01/0001" in printed
    assert "2 rows rejected" in printed
    assert re.search(r"more\.jsonl:2: broken JSON", printed)
    assert "more.jsonl:3: text is empty" in printed


def test_a_dry_run_shows_the_mapping_and_writes_nothing(tiny_workspace: Path) -> None:
    rows = tiny_workspace / "news.csv"
    rows.write_text(
        "headline,story,content,date\nLamp,A lamp was lit.,x,1714564800\nFair,A fair"
        " opened.,y,05/03/2031\n"
    )
    printed = run(tiny_workspace, "ingest", str(rows), "--map", "text=story", "--dry-run").stdout
    assert "1 document and 0 questions would be taken into 1 slice" in printed
    assert "published_at ← date (epoch seconds), title ← headline, text ← story" in printed
    assert "2024-05-01T12:00:00Z Lamp" in printed
    assert "not read: content" in printed
    assert "news.csv:3: published_at: '05/03/2031' may begin with the day or the month" in printed
    assert not (tiny_workspace / "data/stream").exists()
    refused = run(tiny_workspace, "ingest", str(rows), "--map", "texts=story", status=2).stderr
    assert "texts: write COLUMN=NAME" in refused
    # without any row to take it fails as the ingest would
    rows.write_text("headline,story,date\nFair,A fair opened.,05/03/2031\n")
    result = run(tiny_workspace, "ingest", str(rows), "--dry-run", status=1)
    assert (
        "may begin with the day" in result.stdout
        and "no row can be ingested: see above" in result.stderr
    )


def test_a_project_with_sources_alone_is_synced(tiny_workspace: Path) -> None:
    sources = 'sources=[{"name": "news", "kind": "folder", "address": "news"}]'
    options = ("--set", sources, "--set", "stream.source=nowhere", "ingest")
    assert (
        "nowhere not found: name files, or run `cmt sync`"
        in run(tiny_workspace, *options, status=1).stderr
    )
    # a pattern of stream.source counts as a source
    assert (
        read(tiny_workspace, "--set", sources, "--set", "stream.source=news/*.jsonl", "ingest")[
            "accepted"
        ]
        == 6
    )


def test_several_files_patterns_and_the_standard_input_are_ingested(tiny_workspace: Path) -> None:
    for name in ("a", "b", "c"):
        row = {"published_at": "2031-03-01", "text": f"Lamp {name} was lit."}
        (tiny_workspace / f"{name}.jsonl").write_text(json.dumps(row) + "\n")
    files = [str(tiny_workspace / name) for name in ("[ab].jsonl", "b.jsonl", "c.jsonl")]
    assert read(tiny_workspace, "ingest", *files)["accepted"] == 3
    line = json.dumps({"text": "A lamp went out.", "doc_id": "out"}) + "\n"
    printed = run(tiny_workspace, "ingest", "-", "--published-at", "2031-03-02", stdin=line).stdout
    assert "1 document and 0 questions taken" in printed
    assert not list((tiny_workspace / "data").rglob("stdin"))
    assert (
        "- (stdin) cannot be combined"
        in run(tiny_workspace, "ingest", "-", files[1], stdin=line, status=2).stderr
    )
    assert (
        "no file matches"
        in run(tiny_workspace, "ingest", str(tiny_workspace / "*.xyz"), status=1).stderr
    )


def test_update_takes_the_oldest_slice_then_all_then_nothing(tiny_workspace: Path) -> None:
    run(tiny_workspace, "ingest")
    # 1. refused rounds stay pending and exit with 1 after the others
    result = run(tiny_workspace, "--set", "gate.min_f1=100", "update", "--all", "--json", status=1)
    rounds = json.loads(result.stdout)["rounds"]
    assert [(round_["state"], round_["rows"]) for round_ in rounds] == [("refused", 0)] * 2
    assert re.search(
        r"error: round 2031-01/0001 was refused .*; round 2031-02/0001 was refused", result.stderr
    )
    # 2. one, all, none
    (first,) = read(tiny_workspace, "update")["rounds"]
    assert (first["round_id"], first["state"], first["documents"], first["rows"]) == (
        "2031-01/0001",
        "committed",
        3,
        3,
    )
    assert list(first["scores"]) == ["cmt", "closed", "rag"]
    assert all({"f1", "recall"} <= scores.keys() for scores in first["scores"].values())
    result = run(tiny_workspace, "update", "--all")
    assert re.search(r"2031-02/0001\s+committed\s+(not judged|passed)\s+3\s+6", result.stdout)
    assert re.search(r"2031-02/0001 compress: 3 of 3, [\d,]+ tokens/s, [\d.]+ s", result.stderr)
    assert "2031-02/0001 bank: 3 of 3" in result.stderr
    assert read(tiny_workspace, "update", "--all") == {"rounds": []}
    assert "nothing to do" in run(tiny_workspace, "update").stdout
    (again,) = read(tiny_workspace, "update", "--slice", "2031-01/0001")["rounds"]
    assert again["already"]
    assert "committed before" in run(tiny_workspace, "update", "--slice", "2031-01/0001").stdout
    assert read(tiny_workspace, "bank", "stats")["rows"] == 6


def test_rounds_are_listed_with_their_scores_and_compressors(adapted: Path) -> None:
    listed = [
        (round_["round_id"], round_["number"]) for round_ in read(adapted, "rounds")["rounds"]
    ]
    assert listed == [("2031-01/0001", 1), ("2031-02/0001", 2)]
    printed = run(adapted, "rounds").stdout
    assert re.match(
        r"round +state +gate +documents +rows +EM +F1 .* recall +canaries +adapt, s +measure, s\n",
        printed,
    )
    assert re.search(r"\n2031-01/0001 +committed .* \d+\.\d +\d+\.\d\n", printed)
    run(adapted, "--set", "compressor.window=8", "update")
    shown = [line.split() for line in run(adapted, "rounds").stdout.splitlines()]
    assert shown[0][0] == "compressor"  # now that there are several
    assert len({words[0] for words in shown[2:] if "2031-01/0001" in words}) == 2


def test_evaluation_has_a_row_for_each_system(adapted: Path) -> None:
    rows = read(adapted, "evaluate", "--questions", "3")["rows"]
    assert [(row["row"], row["n"]) for row in rows] == [("cmt", 3), ("closed", 3), ("rag", 3)]
    result = run(adapted, "evaluate")
    assert re.search(r"cmt\s+4\s", result.stdout)
    assert "evaluate: 12 of 12" in result.stderr


def test_a_round_is_rolled_back_and_an_unknown_one_refused(adapted: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:  # an unknown round is refused at once
        patch.setattr(
            "cmt.project.Project.lm", property(lambda _: pytest.fail("the LM was loaded"))
        )
        stderr = run(adapted, "rollback", "nope", status=1).stderr
    assert "no committed round 'nope'; there are: 2031-01/0001, 2031-02/0001" in stderr
    assert read(adapted, "rollback", "2031-02/0001")["state"] == "rolled_back"
    assert read(adapted, "bank", "stats")["rows"] == 3
    assert [r["state"] for r in read(adapted, "rounds")["rounds"]] == ["committed", "rolled_back"]


def test_reading_ledger_and_bank_imports_no_torch(adapted_project: Path) -> None:
    modules = imported_modules(adapted_project, "bank stats", "changes")
    assert "lancedb" in modules
    assert not modules & {"torch", "transformers", "mlflow", "matplotlib", "fastapi"}


def test_forgotten_documents_are_in_no_answer(adapted: Path) -> None:
    doc_id = "crane's 100%; --"
    assert (
        read(adapted, "forget", doc_id).items()
        >= {
            "doc_id": doc_id,
            "rows": 1,
            "forgotten": True,
        }.items()
    )
    assert "mayor-2 is forgotten: 1 row removed" in run(adapted, "forget", "mayor-2").stdout
    everything = read(adapted, "--set", "research.selection.max_logprob_gap=1000", "ask", MAYOR)[
        "sources"
    ]
    assert {source["doc_id"] for source in everything} == {"mayor-1", "ferry", "raft", "hitch"}


def test_documents_are_shown_before_they_are_forgotten(adapted: Path) -> None:
    for arguments in (["--matching", "mayor Ellery"], ["--source", "documents.jsonl"]):
        preview = run(adapted, "forget", *arguments)
        assert "nothing was forgotten" in preview.stdout
        assert read(adapted, "bank", "stats")["rows"] == 6
    preview = read(adapted, "forget", "--matching", "MAYOR ellery")
    assert ([row["doc_id"] for row in preview["documents"]], preview["forgotten"]) == (
        ["mayor-1", "mayor-2"],
        False,
    )
    assert {row["source"] for row in preview["documents"]} == {"file:news"}
    assert all("mayor" in row["begins"] for row in preview["documents"])
    assert "mayor-1" in run(adapted, "forget", "--matching", "mayor ellery").stdout
    assert read(adapted, "forget", "--matching", "mayor raft")["documents"] == []
    done = run(adapted, "forget", "--matching", "mayor ellery", "--yes", "--purge").stdout
    assert "2 documents are forgotten: 2 rows removed" in done
    assert "not reached:" in done
    assert read(adapted, "forget", "--matching", "mayor ellery") == {
        "documents": [],
        "forgotten": False,
    }
    assert "name a document" in run(adapted, "forget", status=2).stderr
    assert (
        "name documents, or let --source"
        in run(adapted, "forget", "ferry", "--source", "x", status=2).stderr
    )


def test_forgotten_documents_are_listed_and_a_forgetting_is_undone(adapted: Path) -> None:
    assert "nothing is forgotten" in run(adapted, "forget", "--list").stdout
    assert "takes no document" in run(adapted, "forget", "ferry", "--list", status=2).stderr
    run(adapted, "forget", "ferry")
    run(adapted, "forget", "raft", "--everywhere")
    listed = run(adapted, "forget", "--list").stdout
    assert "file:news" in listed and "every source" in listed and "2031-01-09" in listed
    assert [row["doc_id"] for row in read(adapted, "forget", "--list")["documents"]] == [
        "ferry",
        "raft",
    ]
    done = run(adapted, "forget", "--undo", "ferry").stdout
    assert "ferry is purged and no longer forgotten: ingest the text again" in done
    assert [row["doc_id"] for row in read(adapted, "forget", "--list")["documents"]] == ["raft"]
    assert "'ferry' is not forgotten" in run(adapted, "forget", "--undo", "ferry", status=1).stderr
    assert (
        "--undo takes only doc_ids"
        in run(adapted, "forget", "--undo", "raft", "--purge", status=2).stderr
    )


def test_all_documents_of_a_source_are_forgotten(tiny_workspace: Path) -> None:
    for number, source in enumerate(["Courier", "Courier", "it's; --"]):
        text = f"Number {number} of {source}."
        row = {"doc_id": f"d{number}", "published_at": "2031-01-02", "text": text, "source": source}
        (tiny_workspace / "one.jsonl").write_text(json.dumps(row))
        report = read(
            tiny_workspace, "ingest", str(tiny_workspace / "one.jsonl"), "--source", source
        )
        assert report["accepted"] == 1
    assert "d0" in run(tiny_workspace, "forget", "--source", "Courier").stdout
    assert read(tiny_workspace, "forget", "--source", "it's; --", "--yes")["doc_ids"] == ["d2"]
    assert read(tiny_workspace, "forget", "--source", "Courier", "--yes")["doc_ids"] == ["d0", "d1"]
    assert read(tiny_workspace, "forget", "--source", "Courier", "--yes")["documents"] == []
    assert (
        len(read(tiny_workspace, "forget", "--source", "Courier", "--yes", "--purge")["doc_ids"])
        == 2
    )


def test_the_lm_is_pulled(tiny_workspace: Path) -> None:
    arguments = ("--set", "lm.path=lm", "model", "pull")
    assert Path(read(tiny_workspace, *arguments)["path"]).parent == tiny_workspace / "lm"
    assert "is in" in run(tiny_workspace, *arguments).stdout


@pytest.fixture
def training_project(tiny_workspace: Path) -> Path:
    """The project with two files to train on, in SQuAD's layout, and enough text for a codebook."""
    texts = {f"Title {n}": f"Moss{n} is the mayor of town {n}." for n in range(4)}
    times = [f"leaves at {hour} past {hour % 7}." for hour in range(60)]
    ferries = {f"Ferry {n}": " ".join(f"Ferry {n} {time}" for time in times) for n in range(4)}
    write_squad(tiny_workspace / "towns.json", texts)
    write_squad(tiny_workspace / "ferries.json", ferries)
    shutil.copytree(
        open_workspace(tiny_workspace).params.compressor.path, tiny_workspace / "own-compressor"
    )
    mix = {"path:towns.json": 3, "path:ferries.json": 1}
    sizes = {"questions": 4, "paragraphs": 2, "validation_articles": 1}
    change_params(
        tiny_workspace, compressor={"path": "own-compressor"}, train={"mix": mix, **sizes}
    )
    return tiny_workspace


def test_training_data_of_two_sources_is_pulled_and_trained_on(training_project: Path) -> None:
    assert "run `cmt data pull`" in run(training_project, "train", status=1).stderr
    absent = ("--set", "train.mix={path:nowhere.json: 1}", "data", "pull")
    assert "nowhere.json not found" in run(training_project, *absent, status=1).stderr
    sources = read(training_project, "data", "pull")["sources"]
    assert [(row["source"], row["documents"], row["questions"]) for row in sources] == [
        (f"path:{training_project}/{name}.json", 4, 4) for name in ("ferries", "towns")
    ]
    widths = ("--set", "research.train.window_frequencies={4: 3, 8: 1}")
    before = sorted(training_project.rglob("*"))
    plan = read(training_project, *widths, "train", "--plan")
    assert plan["pairs_per_hour"] == pytest.approx(3600 * plan["pairs"] / plan["seconds"])
    assert "pairs an hour" in run(training_project, *widths, "train", "--plan").stdout
    assert sorted(training_project.rglob("*")) == before
    folder = Path(read(training_project, *widths, "train")["path"])
    assert "ferries (25.0%), towns (75.0%), 6 paragraphs" in (folder / "card.md").read_text()
    run(training_project, "ingest")
    assert (
        read(training_project, "--set", f"compressor.path={folder}", "update")["rounds"][0]["state"]
        == "committed"
    )


def test_a_bank_is_filled_with_the_codebook_that_was_fitted(training_project: Path) -> None:
    run(training_project, "data", "pull")
    run(training_project, "ingest")
    pq = ("--set", "bank.codes=pq")
    assert "run `cmt codebook`" in run(training_project, *pq, "update", status=1).stderr
    assert "5 equal parts" in run(training_project, "codebook", "--bytes", "5", status=2).stderr
    codes = read(training_project, "codebook", "--bytes", "8")["codes"]
    assert re.fullmatch("pq8-[0-9a-f]{12}", codes)
    assert read(training_project, *pq, "update")["rounds"][0]["state"] == "committed"
    assert read(training_project, *pq, "ask", "Who is the mayor?")["sources"]
    run(training_project, *pq, "verify")
    other = read(training_project, "codebook")["codes"]
    assert other.startswith("pq4-")
    assert (
        f"has codes {codes}, not {other}"
        in run(training_project, *pq, "ask", "Who?", status=1).stderr
    )
    textless = run(training_project, *pq, "--set", "bank.keep_text=false", "ask", "Who?", status=2)
    assert "needs the text" in textless.stderr
    folder = Path(read(training_project, *pq, "train")["path"])
    assert (folder / "codebooks.safetensors").stat().st_size > 0


def test_the_bank_is_counted_and_optimized(adapted: Path) -> None:
    stats = read(adapted, "bank", "stats")
    assert (stats["rows"], stats["documents"]) == (6, 6)
    assert re.search(r"size per document\s+\d+\.\d kB\n", run(adapted, "bank", "stats").stdout)
    digest = bank_report(adapted)["digest"]
    assert read(adapted, "bank", "optimize")["rows"] == 6
    assert read(adapted, "bank", "optimize", "--keep-days", "0")["rows"] == 6
    assert bank_report(adapted)["digest"] == digest
