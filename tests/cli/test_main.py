"""The commands from end to end, on a project in miniature."""

import json
import logging
import re
import shlex
import shutil
import signal
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import lancedb
import pytest
import yaml
from typer.main import get_command
from typer.testing import CliRunner, Result

from cmt.bank.bank import Bank
from cmt.cli.context import instant
from cmt.cli.main import app

MAYOR = "Who is the mayor of Port Ellery?"


def run(folder: Path, *arguments: str, status: int = 0) -> Result:
    """`cmt` in `folder`; whatever it raises beside its exit is raised here."""
    result = CliRunner().invoke(app, ["--params", str(folder / "params.yaml"), *arguments], catch_exceptions=False)
    assert result.exit_code == status, result.output
    return result


def read(folder: Path, *arguments: str, status: int = 0) -> Any:
    """What `cmt … --json` prints on stdout, and it alone."""
    return json.loads(run(folder, *arguments, "--json", status=status).stdout)


@pytest.fixture(scope="session")
def adapted_project(tiny_project: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = Path(shutil.copytree(tiny_project, tmp_path_factory.mktemp("adapted") / "project"))
    run(folder, "ingest")
    run(folder, "update", "--all")
    return folder


@pytest.fixture
def adapted(adapted_project: Path, tmp_path: Path) -> Path:
    """A project whose two slices have their rounds."""
    return Path(shutil.copytree(adapted_project, tmp_path / "project"))


def test_a_source_is_ingested_once(tiny_workspace: Path) -> None:
    report = read(tiny_workspace, "ingest")
    assert [s["slice_id"] for s in report["slices"]] == ["2031-01/0001", "2031-02/0001"]
    assert (report["accepted"], report["questions"], report["rejected"]) == (6, 4, [])
    again = read(tiny_workspace, "ingest")
    assert (again["accepted"], again["duplicates"], again["slices"]) == (0, 6, [])
    assert "nothing new" in run(tiny_workspace, "ingest").stdout


def test_rejected_rows_are_counted_and_named(tiny_workspace: Path) -> None:
    rows = tiny_workspace / "more.jsonl"
    good = {"doc_id": "new", "published_at": "2031-03-01T07:00:00Z", "text": "A lamp was lit."}
    rows.write_text(json.dumps(good) + "\n{broken\n" + json.dumps(good | {"doc_id": "empty", "text": ""}) + "\n")
    printed = run(tiny_workspace, "ingest", str(rows), "--format", "jsonl", "--period", "day").stdout
    assert "2031-03-01/0001" in printed
    assert "2 rows rejected" in printed
    assert re.search(r"more\.jsonl:2: broken JSON", printed)
    assert "more.jsonl:3: text is empty" in printed


def test_update_takes_the_oldest_slice_then_all_then_none(tiny_workspace: Path) -> None:
    run(tiny_workspace, "ingest")
    (first,) = read(tiny_workspace, "update")["rounds"]
    assert (first["round_id"], first["state"], first["documents"], first["rows"]) == ("2031-01/0001", "committed", 3, 3)
    assert {"f1", "closed_f1", "rag_f1", "recall"} <= first["scores"].keys()
    result = run(tiny_workspace, "update", "--all")
    assert re.search(r"2031-02/0001\s+committed\s+3\s+6", result.stdout)
    assert re.search(r"2031-02/0001 compress: 3 of 3, [\d,]+ tokens/s, [\d.]+ s", result.stderr)
    assert read(tiny_workspace, "update", "--all") == {"rounds": []}
    assert "nothing to do" in run(tiny_workspace, "update").stdout


def test_a_round_that_is_there_is_not_repeated(adapted: Path) -> None:
    before = read(adapted, "bank", "verify")["digest"]
    (round_,) = read(adapted, "update", "--slice", "2031-01/0001")["rounds"]
    assert round_["already"]
    assert read(adapted, "bank", "verify")["digest"] == before
    assert "committed before" in run(adapted, "update", "--slice", "2031-01/0001").stdout


def test_a_refused_round_fails_and_is_reported(tiny_workspace: Path) -> None:
    run(tiny_workspace, "ingest")
    result = run(tiny_workspace, "--set", "gate.min_f1=100", "update", "--all", "--json", status=1)
    (round_,) = json.loads(result.stdout)["rounds"]
    assert (round_["state"], round_["rows"]) == ("refused", 0)
    assert "error: round 2031-01/0001 was refused" in result.stderr


def test_rounds_are_listed_with_their_scores(adapted: Path) -> None:
    assert [(r["round_id"], r["number"]) for r in read(adapted, "rounds")["rounds"]] == [
        ("2031-01/0001", 1),
        ("2031-02/0001", 2),
    ]
    head = run(adapted, "rounds").stdout.split()
    assert {"round", "EM", "F1", "recall", "seconds", "2031-01/0001"} <= set(head)


def test_rounds_of_several_compressors_say_whose_they_are(adapted: Path) -> None:
    assert "compressor" not in run(adapted, "rounds").stdout
    run(adapted, "--set", "compressor.window=8", "update")
    shown = [line.split() for line in run(adapted, "rounds").stdout.splitlines()]
    assert shown[0][0] == "compressor"
    assert len({words[0] for words in shown[2:] if "2031-01/0001" in words}) == 2


def test_an_answer_comes_with_its_articles(adapted: Path) -> None:
    answer = read(adapted, "ask", MAYOR)
    assert answer["known"]
    assert isinstance(answer["closed_book"], str)
    sources = {source["doc_id"]: source for source in answer["sources"]}
    assert sources["mayor-2"]["title"] == "Vell succeeds Moss"
    assert sources["mayor-2"]["published_at"] == "2031-02-20T07:00:00Z"
    assert -1 <= sources["mayor-2"]["similarity"] <= 1
    printed = run(adapted, "ask", MAYOR).stdout
    assert re.search(r"2031-02-20\s+Vell succeeds Moss\s+mayor-2\s+-?\d\.\d\d\s*\n", printed)
    assert "without memory: " in printed


def test_what_was_superseded_answers_for_its_own_time(adapted: Path) -> None:
    def sources(*arguments: str) -> set[str]:
        return {source["doc_id"] for source in read(adapted, "ask", MAYOR, *arguments)["sources"]}

    assert {"mayor-1", "mayor-2"} & sources() == {"mayor-2"}
    assert {"mayor-1", "mayor-2"} & sources("--as-of", "2031-02-15") == {"mayor-1"}
    assert {"mayor-1", "mayor-2"} & sources("--as-of", "2031-02-20") == {"mayor-2"}
    assert {"mayor-1", "mayor-2"} & sources("--as-of", "2031-02-20T06:59:59Z") == {"mayor-1"}


def test_a_plain_date_is_the_end_of_that_day() -> None:
    assert instant("2031-02-15") == datetime(2031, 2, 15, 23, 59, 59, 999999, tzinfo=UTC)
    assert instant("2031-02-15T06:00:00+02:00") == datetime(2031, 2, 15, 4, tzinfo=UTC)


def test_below_the_threshold_it_is_not_in_memory(adapted: Path) -> None:
    comet = "Which comet was seen above the mayor's roof?"
    printed = run(adapted, "--set", "selection.threshold=1.0", "ask", comet).stdout
    assert printed.startswith("not in memory\n")
    assert "mayor-2" not in printed
    assert not read(adapted, "--set", "selection.threshold=1.0", "ask", comet)["known"]


def test_titles_are_printed_as_they_are(adapted: Path) -> None:
    assert "[red]The raft[/] :fire:" in run(adapted, "ask", "Who was first to the yellow raft?").stdout


@pytest.mark.parametrize(
    "question",
    ['what\'s 100% of "it"?', "'; DROP TABLE memories; --", "[/] [bold]", "\x1b[31mred\u202e", "% _ \\ *", "?"],
)
def test_any_question_is_only_a_question(adapted: Path, question: str) -> None:
    before = read(adapted, "bank", "verify")["digest"]
    assert len(read(adapted, "ask", question)["sources"]) > 0
    assert "\x1b" not in run(adapted, "ask", question).stdout
    assert read(adapted, "bank", "verify") == {"rows": 6, "digest": before, "problems": []}


def test_evaluation_has_a_row_for_each_way_of_answering(adapted: Path) -> None:
    rows = read(adapted, "evaluate", "--questions", "3")["rows"]
    assert [(row["row"], row["n"]) for row in rows] == [("cmt", 3), ("closed", 3), ("rag", 3)]
    result = run(adapted, "evaluate")
    assert re.search(r"cmt\s+4\s", result.stdout)
    assert "evaluate: 12 of 12" in result.stderr


def test_scores_do_not_depend_on_the_size_of_batches(adapted: Path) -> None:
    one, many = (read(adapted, "evaluate", "--batch-size", size)["scores"] for size in ("1", "32"))
    assert one == many


def test_a_rollback_makes_later_rounds_wait_again(adapted: Path) -> None:
    before = read(adapted, "bank", "verify")
    assert read(adapted, "rollback", "2031-02/0001")["state"] == "rolled_back"
    assert read(adapted, "bank", "stats")["rows"] == 3
    assert [r["state"] for r in read(adapted, "rounds")["rounds"]] == ["committed", "rolled_back"]
    assert [r["round_id"] for r in read(adapted, "update", "--all")["rounds"]] == ["2031-02/0001"]
    assert read(adapted, "bank", "verify") == before
    assert "no committed round '2031-09/0001'" in run(adapted, "rollback", "2031-09/0001", status=1).stderr


def test_a_forgotten_document_stays_away(adapted: Path) -> None:
    doc_id = "crane's 100%; --"
    assert read(adapted, "forget", doc_id) == {"doc_id": doc_id, "rows": 1}
    assert "mayor-2 is forgotten: 1 row removed" in run(adapted, "forget", "mayor-2").stdout
    everything = read(adapted, "--set", "selection.reach=1000", "ask", MAYOR)["sources"]
    assert {source["doc_id"] for source in everything} == {"mayor-1", "ferry", "raft", "hitch"}
    run(adapted, "rollback", "2031-01/0001")
    run(adapted, "update", "--all")
    assert read(adapted, "bank", "stats")["documents"] == 4


@pytest.mark.parametrize("doc_id", ["nobody", "' OR '1'='1", "%", "x'; --", ""])
def test_an_unknown_document_is_not_forgotten(adapted: Path, doc_id: str) -> None:
    assert "nothing was forgotten" in run(adapted, "forget", doc_id, status=1).stderr
    assert read(adapted, "bank", "stats")["rows"] == 6


def test_the_bank_is_counted_and_compacted(adapted: Path) -> None:
    stats = read(adapted, "bank", "stats")
    assert (stats["rows"], stats["documents"]) == (6, 6)
    assert re.search(r"rows\s+6\n", run(adapted, "bank", "stats").stdout)
    digest = read(adapted, "bank", "verify")["digest"]
    assert read(adapted, "bank", "optimize")["rows"] == 6
    assert read(adapted, "bank", "optimize", "--keep-days", "0")["rows"] == 6
    assert read(adapted, "bank", "verify")["digest"] == digest


def test_a_bank_with_one_row_has_no_mean_cosine(adapted: Path) -> None:
    for doc_id in ("mayor-1", "ferry", "raft", "mayor-2", "hitch"):
        run(adapted, "forget", doc_id)
    assert read(adapted, "bank", "stats")["mean_pairwise_cosine"] is None


def test_a_damaged_bank_does_not_verify(adapted: Path) -> None:
    uri = adapted / "data/bank"
    table = lancedb.connect(uri).open_table(Bank.open(uri=str(uri)).name)
    table.update(where="doc_id = 'ferry'", values={"superseded_at": datetime(2031, 3, 1, tzinfo=UTC)})
    result = run(adapted, "bank", "verify", "--json", status=1)
    problems = json.loads(result.stdout)["problems"]
    assert problems[0] == "document 'ferry' has another superseded_at than its successors' dates say"
    assert re.search(rf"error: the bank has {len(problems)} problems?\n", result.stderr)
    assert "document 'ferry'" in run(adapted, "bank", "verify", status=1).stdout


def test_the_lm_is_pulled_and_verified(tiny_workspace: Path) -> None:
    arguments = ("--set", "lm.path=lm", "model", "pull")
    pulled = read(tiny_workspace, *arguments, "--verify")
    assert (Path(pulled["path"]).parent, pulled["verified"]) == (tiny_workspace / "lm", True)
    assert "is in" in run(tiny_workspace, *arguments).stdout
    record = Path(pulled["path"]) / "lm.json"
    record.write_text(record.read_text().replace('"digest": "', '"digest": "0'))
    assert "are not those that were pulled" in run(tiny_workspace, *arguments, "--verify", status=1).stderr


@pytest.fixture
def lessons(tiny_workspace: Path) -> Path:
    """The project with a file to train on, in SQuAD's layout."""
    texts = {f"Title {n}": f"The mayor of town {n} is person{n}." for n in range(4)}
    data = [
        {"title": title, "paragraphs": [{"context": text, "qas": [_qa(title, text)]}]} for title, text in texts.items()
    ]
    (tiny_workspace / "lessons.json").write_text(json.dumps({"version": "1.1", "data": data}))
    params = yaml.safe_load((tiny_workspace / "params.yaml").read_text())
    params["train"] = {"source": "path:lessons.json", "questions": 4, "paragraphs": 2, "validation_articles": 1}
    (tiny_workspace / "params.yaml").write_text(yaml.safe_dump(params))
    return tiny_workspace


def _qa(title: str, text: str) -> dict[str, Any]:
    answer = text.split()[-1].rstrip(".")
    answers = [{"text": answer, "answer_start": text.index(answer)}]
    return {"id": title, "question": f"Who is the mayor of {text.split()[4]}?", "answers": answers}


def test_training_data_are_pulled_and_trained_on(lessons: Path) -> None:
    assert "run `cmt data pull`" in run(lessons, "train", status=1).stderr
    pulled = read(lessons, "data", "pull")
    assert (pulled["documents"], pulled["questions"]) == (4, 4)
    assert pulled["path"] == str(lessons / "data/train/lessons.json")
    folder = Path(read(lessons, "train")["path"])
    assert (folder / "compressor.safetensors").stat().st_size > 0
    run(lessons, "ingest")
    assert read(lessons, "--set", f"compressor.path={folder}", "update")["rounds"][0]["state"] == "committed"


def test_without_a_source_there_is_nothing_to_train_on(tiny_workspace: Path) -> None:
    result = run(tiny_workspace, "--set", "train.source=path:nowhere.json", "data", "pull", status=1)
    assert "nowhere.json not found" in result.stderr


FAILURES = [
    (["--set", "lm.path=nowhere", "update"], "run `cmt model pull`"),
    (["--set", "lm.path=nowhere", "ask", MAYOR], "run `cmt model pull`"),
    (["--set", "compressor.path=nowhere", "update"], "run `cmt train`, or set compressor.path"),
    (["update", "--slice", "1999-01/0001"], "no slice '1999-01/0001'"),
    (["update", "--slice", "'; --"], "2031-01/0001, 2031-02/0001"),
    (["ingest", "nowhere.jsonl"], "nowhere.jsonl not found"),
    (["--set", "bank.uri=params.yaml/bank", "update"], "Not a directory"),
    (["--set", "bank.uri=nowhere", "rounds"], "run `cmt update` first"),
    (["--set", "bank.uri=nowhere", "ask", MAYOR], "run `cmt update` first"),
    (["--set", "bank.uri=nowhere", "bank", "stats"], "run `cmt update` first"),
    (["--set", "stream.path=nowhere", "update"], "`cmt ingest` documents first"),
    (["--set", "stream.path=nowhere", "evaluate"], "`cmt ingest` some first"),
]


@pytest.mark.parametrize(("arguments", "reason"), FAILURES, ids=lambda value: " ".join(value)[:60])
def test_what_fails_says_so_in_one_line(adapted: Path, arguments: list[str], reason: str) -> None:
    result = run(adapted, *arguments, status=1)
    assert result.stdout == ""
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert reason in line


BAD_USAGE = [
    ["frobnicate"],
    ["ask"],
    ["ask", ""],
    ["ask", " \x1b\n"],
    ["ask", MAYOR, "--as-of", "yesterday"],
    ["ask", MAYOR, "--as-of", "2031-02-15T06:00:00"],
    ["ask", MAYOR, "--as-of", ""],
    ["ask", MAYOR, "--loudly"],
    ["update", "--all", "--slice", "2031-01/0001"],
    ["evaluate", "--questions", "0"],
    ["ingest", "--format", "pdf"],
    ["ingest", "--period", "0"],
    ["ingest", "--period", "fortnight"],
    ["bank", "optimize", "--keep-days", "-1"],
    ["--set", "selection", "rounds"],
    ["--set", "=4", "rounds"],
    ["--set", "selection.=4", "rounds"],
    ["--set", "selection.top_k={", "rounds"],
    ["--set", "seed.top_k=4", "rounds"],
    ["--set", "selection=4", "rounds"],
    ["--set", "selection.top_k=0", "rounds"],
    ["--set", "selection.top_k=four", "rounds"],
    ["--set", "selection.topk=4", "rounds"],
    ["--set", "compressor.window=0", "rounds"],
    ["--set", "compressor.memory_tokens=0", "rounds"],
    ["--set", "objective.alpha=3", "rounds"],
    ["--set", "objective.alpha=-0.1", "rounds"],
    ["--set", "stream.clock=2031-12-31T23:59:59", "rounds"],
    ["--set", "lm.source=ftp:x", "model", "pull"],
    ["--set", "train.source=ftp:x", "data", "pull"],
    ["--params", "nowhere.yaml", "rounds"],
    ["--params", ".", "rounds"],
]


@pytest.mark.parametrize("arguments", BAD_USAGE, ids=" ".join)
def test_bad_usage_ends_with_2(tiny_workspace: Path, arguments: list[str]) -> None:
    result = run(tiny_workspace, *arguments, status=2)
    assert result.stdout == ""
    assert result.stderr


@pytest.mark.parametrize("content", ["selction: {top_k: 4}", "selection: {topk: 4}", "- a list", "a: [", "\xff\xfe"])
def test_a_wrong_params_file_is_named(tiny_workspace: Path, content: str) -> None:
    (tiny_workspace / "params.yaml").write_bytes(content.encode("latin-1"))
    assert re.match(r"error: \S+params\.yaml", run(tiny_workspace, "rounds", status=2).stderr)


def test_overrides_are_typed_as_yaml(adapted: Path) -> None:
    assert len(read(adapted, "--set", "selection.top_k=1", "ask", MAYOR)["sources"]) == 1
    arguments = ("--set", "selection.top_k=2", "--set", "bank.keep_text=no", "--set", "train.learning_rate=1e-3")
    assert run(adapted, *arguments, "rounds").exit_code == 0


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Ctrl-C works here even where the tests run in the background of a shell, which ignores it there."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_ctrl_c_in_a_round_says_what_comes_next(
    adapted: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    before = read(adapted, "bank", "verify")
    run(adapted, "rollback", "2031-02/0001")
    with monkeypatch.context() as patch:
        patch.setattr("cmt.evaluation.evaluate.round_questions", lambda **_: signal.raise_signal(signal.SIGINT))
        stderr = run(adapted, "update", status=130).stderr
    assert "interrupted during bank: the next `cmt update` says what it found" in stderr
    assert "run `cmt update` with it before" in run(adapted, "bank", "optimize", "--keep-days", "0", status=1).stderr
    with caplog.at_level(logging.WARNING):
        run(adapted, "update")
    assert "round 2031-02/0001 was interrupted: bank restored" in caplog.text
    assert read(adapted, "bank", "verify") == before


@pytest.mark.usefixtures("interruptible")
def test_ctrl_c_while_reading_changes_nothing(adapted: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cmt.workspace.Workspace.ask", lambda *_, **__: signal.raise_signal(signal.SIGINT))
    assert "interrupted during ask: nothing was changed\n" in run(adapted, "ask", MAYOR, status=130).stderr


def commands(group: Any = None, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every command with the words that lead to it."""
    for name, command in (group or get_command(app)).commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, (*path, name))
        else:
            yield (*path, name), command


def test_the_commands_are_these() -> None:
    flat = ["ingest", "update", "train", "ask", "explain", "evaluate", "rounds", "rollback", "forget", "serve"]
    flat += ["report", "curves", "chronicle", "baselines"]
    assert {path for path, _ in commands()} == {
        *((name,) for name in flat),
        *(("bank", name) for name in ("verify", "stats", "optimize")),
        *(("registry", name) for name in ("add", "promote", "list")),
        ("model", "pull"),
        ("data", "pull"),
    }


@pytest.mark.parametrize("path", [path for path, _ in commands()], ids=" ".join)
def test_help_ends_with_an_example_that_parses(path: tuple[str, ...], tmp_path: Path) -> None:
    result = CliRunner().invoke(app, [*path, "--help"])
    example = re.search(r"Example: cmt (.+)$", " ".join(result.stdout.split()))
    assert example
    words = shlex.split(example[1])
    assert " ".join(path) in example[1]
    assert re.search(r"params\.yaml not found", run(tmp_path, *words, status=2).stderr)


@pytest.mark.parametrize("path", [path for path, _ in commands()], ids=" ".join)
def test_every_command_has_json(path: tuple[str, ...]) -> None:
    assert "--json" in CliRunner().invoke(app, [*path, "--help"]).stdout
