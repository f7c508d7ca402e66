"""`cmt ask` and `cmt chat`."""

import json
import re
from pathlib import Path

import pytest

from tests.helpers.cli import MAYOR, bank_report, read, run, run_process


def test_an_answer_lists_its_documents(adapted_project: Path) -> None:
    answer = read(adapted_project, "ask", MAYOR)
    assert answer["known"]
    assert answer["answer"] == answer["text"] != ""
    sources = {source["doc_id"]: source for source in answer["sources"]}
    assert sources["mayor-2"]["title"] == "Vell succeeds Moss"
    assert sources["mayor-2"]["published_at"] == "2031-02-20T07:00:00Z"
    assert -1 <= sources["mayor-2"]["similarity"] <= 1
    printed = run(adapted_project, "ask", MAYOR).stdout
    assert re.search(r"2031-02-20\s+Vell succeeds Moss\s+mayor-2\s+-?\d\.\d\d\s*\n", printed)
    assert "without memory: " not in printed


def test_the_answer_without_memory_is_given_on_request(adapted_project: Path) -> None:
    assert read(adapted_project, "ask", MAYOR)["closed_book"] is None
    answer = read(adapted_project, "ask", MAYOR, "--compare")
    assert isinstance(answer["closed_book"], str)
    printed = run(adapted_project, "ask", MAYOR, "--compare").stdout
    assert printed.endswith(f"without memory: {' '.join(answer['closed_book'].split())}\n")


def test_a_superseded_document_answers_as_of_its_own_time(adapted_project: Path) -> None:
    def sources(*arguments: str) -> set[str]:
        return {source["doc_id"] for source in read(adapted_project, "ask", MAYOR, *arguments)["sources"]}

    assert {"mayor-1", "mayor-2"} & sources() == {"mayor-2"}
    assert {"mayor-1", "mayor-2"} & sources("--as-of", "2031-02-15") == {"mayor-1"}
    assert {"mayor-1", "mayor-2"} & sources("--as-of", "2031-02-20") == {"mayor-2"}
    assert {"mayor-1", "mayor-2"} & sources("--as-of", "2031-02-20T06:59:59Z") == {"mayor-1"}


def test_below_the_threshold_the_answer_is_not_in_memory(adapted_project: Path) -> None:
    comet = "Which comet was seen above the mayor's roof?"
    printed = run(adapted_project, "--set", "selection.abstain_below=1.0", "ask", comet).stdout
    assert printed.startswith("not in memory\n")
    assert "mayor-2" not in printed
    assert not read(adapted_project, "--set", "selection.abstain_below=1.0", "ask", comet)["known"]


def test_titles_are_printed_as_they_are(adapted_project: Path) -> None:
    assert "[red]The raft[/] :fire:" in run(adapted_project, "ask", "Who was first to the yellow raft?").stdout


@pytest.mark.parametrize(
    "question",
    ['what\'s 100% of "it"?', "'; DROP TABLE memories; --", "[/] [bold]", "\x1b[31mred\u202e", "% _ \\ *", "?"],
)
def test_no_question_is_run_as_code_or_markup(adapted_project: Path, question: str) -> None:
    before = bank_report(adapted_project)["digest"]
    assert len(read(adapted_project, "ask", question)["sources"]) > 0
    assert "\x1b" not in run(adapted_project, "ask", question).stdout
    assert bank_report(adapted_project)["digest"] == before


def test_a_cold_answer_imports_nothing_that_it_does_not_need(adapted_project: Path) -> None:
    _, modules = run_process(adapted_project, "ask", MAYOR)
    assert {"torch", "transformers", "lancedb"} <= modules
    unneeded = {"peft", "mlflow", "prefect", "matplotlib", "fastapi", "lance_namespace_urllib3_client.api"}
    assert not modules & unneeded


def test_chat_answers_a_question_a_line(adapted_project: Path) -> None:
    result = run(adapted_project, "chat", stdin=f"{MAYOR}\n\n  \nWhat colour is the crane?\nexit\nIgnored?\n")
    answers = [line.removeprefix("perhaps: ") for line in result.stdout.splitlines() if not line.startswith("  ")]
    asked = [MAYOR, "What colour is the crane?"]
    assert answers == [" ".join(read(adapted_project, "ask", question)["answer"].split()) for question in asked]
    assert "\n  2031-02-20 Vell succeeds Moss (mayor-2)\n" in result.stdout
    assert re.fullmatch(r"load: [\d.]+ s\n", result.stderr)


def test_chat_prints_a_line_of_json_for_each_answer(adapted_project: Path) -> None:
    stdin = f"{MAYOR}\nWhat colour is the crane?"
    lines = run(adapted_project, "chat", "--json-lines", "--as-of", "2031-02-15", stdin=stdin).stdout.splitlines()
    first, second = map(json.loads, lines)
    assert first == read(adapted_project, "ask", MAYOR, "--as-of", "2031-02-15")
    assert (second["question"], second["as_of"]) == ("What colour is the crane?", "2031-02-15T23:59:59.999999Z")


def test_chat_without_questions_prints_nothing(adapted_project: Path) -> None:
    assert run(adapted_project, "chat", stdin="").stdout == ""


def test_chat_fails_at_once_without_a_bank(tiny_workspace: Path) -> None:
    assert "run `cmt update` first" in run(tiny_workspace, "chat", stdin=f"{MAYOR}\n", status=1).stderr


def test_an_overlong_question_is_bad_usage(adapted_project: Path) -> None:
    limit = ("--set", "serving.question_characters=60")
    refused = run(adapted_project, *limit, "ask", "x" * 61, status=2)
    assert "the question has 61 characters: shorten it to 60" in re.sub(r"[\s│]+", " ", refused.output)
    assert "the question is empty" in run(adapted_project, "ask", " ", status=2).output


def test_an_overlong_line_of_a_chat_is_refused_and_the_next_one_answered(adapted_project: Path) -> None:
    limit = ("--set", "serving.question_characters=60")
    chat = run(adapted_project, *limit, "chat", "--json-lines", stdin=f"{'x' * 61}\n{MAYOR}\n")
    assert [json.loads(line)["question"] for line in chat.stdout.splitlines()] == [MAYOR]
    assert "error: the question has 61 characters" in chat.stderr
