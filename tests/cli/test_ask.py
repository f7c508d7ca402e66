"""`cmt ask`, `cmt history` and `cmt chat`."""

import json
import os
import pty
import re
from pathlib import Path

import pytest

from cmt.cli._ask import _questions
from tests.helpers.cli import MAYOR, bank_report, modules_after, read, run


def test_an_answer_lists_its_documents(adapted_project: Path) -> None:
    answer = read(adapted_project, "ask", MAYOR)
    assert answer["known"] and answer["closed_book"] is None
    assert answer["answer"] == answer["text"] != ""
    sources = {source["doc_id"]: source for source in answer["sources"]}
    assert "mayor-1" not in sources
    assert sources["mayor-2"]["title"] == "Vell succeeds Moss"
    assert sources["mayor-2"]["published_at"] == "2031-02-20T07:00:00Z"
    assert -1 <= sources["mayor-2"]["similarity"] <= 1
    printed = run(adapted_project, "ask", MAYOR).stdout
    assert re.search(r"2031-02-20\s+Vell succeeds Moss\s+mayor-2\s+-?\d\.\d\d\s*\n", printed)


def test_the_answer_without_memory_is_given_on_request(adapted_project: Path) -> None:
    answer = read(adapted_project, "ask", MAYOR, "--compare")
    printed = run(adapted_project, "ask", MAYOR, "--compare").stdout
    assert printed.endswith(f"without memory: {' '.join(answer['closed_book'].split())}\n")


def test_no_question_is_run_as_code_or_markup(adapted_project: Path) -> None:
    before = bank_report(adapted_project)["digest"]
    questions = [
        'what\'s 100% of "it"?',
        "'; DROP TABLE memories; --",
        "[/] [bold]",
        "\x1b[31mred\u202e",
        "% _ \\ *",
        "?",
    ]
    chat = run(
        adapted_project, "chat", "--json-lines", stdin="\n".join(questions)
    ).stdout.splitlines()
    assert [len(json.loads(line)["sources"]) > 0 for line in chat] == [True] * len(questions)
    for question in questions[2:4]:
        assert "\x1b" not in run(adapted_project, "ask", question).stdout
    assert bank_report(adapted_project)["digest"] == before


def test_a_cold_answer_imports_nothing_that_it_does_not_need(adapted_project: Path) -> None:
    modules = modules_after(adapted_project, "ask", MAYOR)
    assert {"torch", "transformers", "lancedb"} <= modules
    unneeded = {
        "peft",
        "mlflow",
        "prefect",
        "matplotlib",
        "fastapi",
        "lance_namespace_urllib3_client.api",
    }
    assert not modules & unneeded


def test_chat_answers_a_question_a_line(adapted_project: Path) -> None:
    result = run(
        adapted_project, "chat", stdin=f"{MAYOR}\n\n  \nWhat colour is the crane?\nexit\nIgnored?\n"
    )
    answers = [
        line.removeprefix("perhaps: ")
        for line in result.stdout.splitlines()
        if not line.startswith("  ")
    ]
    asked = [MAYOR, "What colour is the crane?"]
    assert answers == [
        " ".join(read(adapted_project, "ask", question)["answer"].split()) for question in asked
    ]
    assert "\n  2031-02-20 Vell succeeds Moss (mayor-2)\n" in result.stdout
    assert re.fullmatch(r"load: [\d.]+ s\n", result.stderr)


def test_chat_prints_a_line_of_json_for_each_answer(adapted_project: Path) -> None:
    stdin = f"{MAYOR}\nWhat colour is the crane?"
    lines = run(
        adapted_project, "chat", "--json-lines", "--as-of", "2031-02-15", stdin=stdin
    ).stdout.splitlines()
    first, second = map(json.loads, lines)
    assert first == read(adapted_project, "ask", MAYOR, "--as-of", "2031-02-15")
    assert (second["question"], second["as_of"]) == (
        "What colour is the crane?",
        "2031-02-15T23:59:59.999999Z",
    )


def test_questions_typed_while_the_answers_go_to_a_file_leave_no_prompt_in_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    master, slave = pty.openpty()
    os.write(master, b"Who is Andr\xe9?\n\x04")  # not UTF-8, then Ctrl-D
    with open(slave) as terminal:
        monkeypatch.setattr("sys.stdin", terminal)
        assert list(_questions()) == ["Who is Andr\ufffd?"]
    assert capsys.readouterr().out == ""


def test_an_empty_or_overlong_question_is_refused(adapted_project: Path) -> None:
    limit = ("--set", "serving.question_characters=60")
    refused = run(adapted_project, *limit, "ask", "x" * 61, status=2)
    assert "the question has 61 characters: shorten it to 60" in re.sub(
        r"[\s│]+", " ", refused.output
    )
    assert "the question is empty" in run(adapted_project, "ask", " \n", status=2).output
    # a chat goes on with its next line
    stdin = f"{'x' * 61}\n{MAYOR}\n"
    assert (
        "error: the question has 61 characters"
        in run(adapted_project, *limit, "chat", stdin=stdin).stderr
    )
    chat = run(adapted_project, *limit, "chat", "--json-lines", stdin=stdin, status=1)
    refused_line, answer = map(json.loads, chat.stdout.splitlines())
    assert refused_line.keys() == {"question", "error"} and refused_line["question"] == "x" * 61
    assert "the question has 61 characters" in refused_line["error"] and answer["question"] == MAYOR


def test_a_history_lists_its_values_with_their_documents(adapted_project: Path) -> None:
    history = read(adapted_project, "history", MAYOR, "--as-of", "2031-02-15")
    assert (history["question"], history["as_of"]) == (MAYOR, "2031-02-15T23:59:59.999999Z")
    printed = run(adapted_project, "history", MAYOR, "--as-of", "2031-02-15").stdout
    assert history["values"]
    for value in history["values"]:
        assert value.keys() == {
            "text", "since", "until", "known", "confidence", "verdict", "sources"
        }  # fmt: skip
        for source in value["sources"]:
            assert "text" not in source
            assert source["doc_id"] in printed
            assert source["published_at"] < history["as_of"]
    nothing = run(adapted_project, "history", MAYOR, "--as-of", "2030-12-31")
    assert nothing.stdout == "not in memory\n"


def test_chat_completes_a_follow_up_and_shows_it(adapted_project: Path) -> None:
    completed = "Who was the mayor of Port Ellery in January?"
    chat = run(adapted_project, "chat", stdin=f"{MAYOR}\nand in January?\n{MAYOR}\n")
    assert chat.stdout.count(f"  {completed}\n") == 1
    assert f"  {MAYOR}" not in chat.stdout
    chat = run(adapted_project, "chat", "--json-lines", stdin=f"{MAYOR}\nand in January?\n")
    assert json.loads(chat.stdout.splitlines()[1])["question"] == completed


def test_a_follow_up_to_nothing_says_what_to_do(adapted_project: Path) -> None:
    refused = run(adapted_project, "ask", "and in June?", status=2)
    assert "ask it in full" in refused.output
    chat = run(adapted_project, "chat", "--json-lines", stdin="since when?\n", status=1)
    line = json.loads(chat.stdout)
    assert line["question"] == "since when?" and "ask it in full" in line["error"]
