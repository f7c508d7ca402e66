"""Options before the command, exit statuses and interruptions."""

import logging
import re
import shlex
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from cmt.cli.main import app
from tests.helpers.cli import MAYOR, bank_report, run

FAILURES = [
    (["--set", "lm.path=nowhere", "update", "--slice", "2031-01/0001"], "run `cmt model pull`"),
    (["--set", "lm.path=nowhere", "ask", MAYOR], "run `cmt model pull`"),
    (["--set", "compressor.path=nowhere", "update"], "run `cmt train`, or set compressor.path"),
    (["update", "--slice", "'; --"], "2031-01/0001, 2031-02/0001"),
    (["lineage", "nope"], "there is no round 'nope' (there are: 2031-01/0001, 2031-02/0001)"),
    (["lineage", "0123456789ab-3-0123456789ab"], "no bank of compressor 0123456789ab is here"),
    (["forget", "nope"], "document 'nope' is neither in bank"),
    (
        ["--set", "serving.token_file=none.json", "token", "list"],
        "make one with `cmt token add NAME`",
    ),
    (
        ["--set", "serving.token_file=none.json", "serve", "--port", "0"],
        "make one with `cmt token add NAME`",
    ),
    (["ingest", "nowhere.jsonl"], "nowhere.jsonl not found"),
    (["sync"], "add one to `sources`"),
    (["--set", "bank.uri=params.yaml/bank", "update"], "Not a directory"),
    (["--set", "bank.uri=nowhere", "rounds"], "run `cmt update` first"),
    (["--set", "bank.uri=nowhere", "bank", "stats"], "run `cmt update` first"),
    (["--set", "bank.uri=nowhere", "chat"], "run `cmt update` first"),
    (["--set", "stream.path=nowhere", "update"], "`cmt ingest` documents first"),
    (["--set", "stream.path=nowhere", "evaluate"], "`cmt ingest` some first"),
]


@pytest.mark.parametrize(("arguments", "reason"), FAILURES, ids=lambda value: " ".join(value)[:60])
def test_a_failure_is_one_line_on_stderr_and_status_1(
    adapted_project: Path, arguments: list[str], reason: str
) -> None:
    result = run(adapted_project, *arguments, status=1)
    assert result.stdout == ""
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert reason in line


def test_a_command_names_the_extra_that_it_lacks(
    adapted_project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.delitem(sys.modules, "matplotlib.figure", raising=False)
    result = run(adapted_project, "report", status=1)
    assert (
        "`cmt report` needs matplotlib" in result.stderr
        and "pip install 'cmt-memory[pipeline]'" in result.stderr
    )


BAD_USAGE = [
    ["frobnicate"],
    ["ask"],
    ["ask", MAYOR, "--as-of", "yesterday"],
    ["ask", MAYOR, "--as-of", "2031-02-15T06:00:00"],
    ["ask", MAYOR, "--loudly"],
    ["update", "--all", "--slice", "2031-01/0001"],
    ["evaluate", "--questions", "0"],
    ["ingest", "--format", "tape"],
    ["ingest", "--period", "0"],
    ["ingest", "--period", "fortnight"],
    ["bank", "optimize", "--keep-days", "-1"],
    ["--set", "selection", "rounds"],
    ["--set", "=4", "rounds"],
    ["--set", "selection.=4", "rounds"],
    ["--set", "selection.top_k={", "rounds"],
    ["--set", "selection=4", "rounds"],
    ["--set", "research.objective.alpha=3", "rounds"],
    ["--set", "objective.alpha=0.3", "rounds"],
    ["--set", "lm.source=ftp:x", "model", "pull"],
    ["--set", "train.mix={'ftp:x': 1}", "data", "pull"],
    ["--set", "train.mix=path:x.json", "data", "pull"],
    ["--params", ".", "rounds"],
]


@pytest.mark.parametrize("arguments", BAD_USAGE, ids=" ".join)
def test_bad_usage_exits_with_2(tiny_project: Path, arguments: list[str]) -> None:
    result = run(tiny_project, *arguments, status=2)
    assert result.stdout == ""
    assert result.stderr


@pytest.mark.usefixtures("interruptible")
def test_ctrl_c_in_a_round_prints_how_to_continue(
    adapted: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    before = bank_report(adapted)
    run(adapted, "rollback", "2031-02/0001")
    with monkeypatch.context() as patch:
        patch.setattr(
            "cmt.rounds.runner.round_questions",
            lambda **_: signal.raise_signal(signal.SIGINT),
        )
        stderr = run(adapted, "update", status=130).stderr
    assert (
        "interrupted during canaries: the next `cmt update` reports it, repairs the bank and"
        " continues" in stderr
    )
    with caplog.at_level(logging.WARNING):
        run(adapted, "update")
    assert "round 2031-02/0001 was interrupted: bank restored" in caplog.text
    assert bank_report(adapted) == before


@pytest.mark.usefixtures("interruptible")
@pytest.mark.parametrize(
    ("command", "interrupted", "state"),
    [
        (
            "ask Who?",
            "cmt.workspace.Workspace.ask",
            "interrupted during ask: nothing was changed\n",
        ),
        ("chat", "builtins.input", "interrupted: nothing was changed\n"),
        (
            "registry rollback",
            "cmt.rounds.promotion.roll_back_promotion",
            "rollback: a registered version stays",
        ),
        (
            "try",
            "cmt.workspace.Workspace.update",
            "during ingest: what is in data/try stays; run the command again",
        ),
    ],
)
def test_ctrl_c_prints_what_was_changed(
    adapted: Path, command: str, interrupted: str, state: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(interrupted, lambda *_, **__: signal.raise_signal(signal.SIGINT))
    assert state in run(adapted, *command.split(), status=130).stderr


def commands(
    group: Any = None, path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every command with the words that lead to it."""
    for name, command in (group or get_command(app)).commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, (*path, name))
        else:
            yield (*path, name), command


def test_the_commands_are_complete() -> None:
    flat = [
        "ingest",
        "update",
        "train",
        "ask",
        "evaluate",
        "rounds",
        "rollback",
        "forget",
        "serve",
        "sync",
    ]
    flat += [
        "report",
        "baselines",
        "chat",
        "init",
        "try",
        "verify",
        "codebook",
        "lineage",
        "recompress",
        "changes",
        "history",
        "mcp",
    ]
    assert {path for path, _ in commands()} == {
        *((name,) for name in flat),
        *(("bank", name) for name in ("stats", "optimize")),
        *(("registry", name) for name in ("add", "promote", "rollback", "list")),
        *(("token", name) for name in ("add", "list", "revoke")),
        ("model", "pull"),
        ("data", "pull"),
    }


@pytest.mark.parametrize("path", [path for path, _ in commands()], ids=" ".join)
def test_help_ends_with_an_example_that_parses(path: tuple[str, ...], tmp_path: Path) -> None:
    printed = CliRunner().invoke(app, [*path, "--help"]).stdout
    if path != ("mcp",):  # whose output is a protocol
        assert ("--json-lines" if path == ("chat",) else "--json") in printed
    example = re.search(r"Example: cmt (.+)$", " ".join(printed.split()))
    assert example
    assert " ".join(path) in example[1]
    if path != ("init",):  # needs no project
        assert "params.yaml not found" in run(tmp_path, *shlex.split(example[1]), status=2).stderr
