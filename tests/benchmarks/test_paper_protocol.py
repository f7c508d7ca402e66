"""The published protocol as a command: every row and part, on a tiny LM and fictitious documents."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import cmt
from cmt.config import AggregatorParams, AlignmentParams, load_params
from cmt.modeling.model import MemoryModel
from tests.helpers.facts import FACTS
from tests.helpers.scripts import load_script, run_main

ROOT = Path(__file__).parents[2]
SAMPLED = 20


@pytest.fixture(scope="module")
def result(tiny_project: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = Path(shutil.copytree(tiny_project, tmp_path_factory.mktemp("protocol") / "project"))
    lines = []
    for fact in FACTS:
        document = {"doc_id": fact["doc_id"], "published_at": fact["published_at"]}
        lines.append(document | {"title": fact["doc_id"][0], "text": fact["text"]})
        lines.append(
            {
                "doc_id": fact["doc_id"],
                "question": fact["question"],
                "answers": [fact["answer"]],
                "asked_at": fact["published_at"],
            }
        )
    params, data = folder / "params.yaml", folder / "facts.jsonl"
    data.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    workspace = cmt.open(params=params)
    published = {"aggregator": AggregatorParams(kind="attention"), "alignment": AlignmentParams(kind="prefix")}
    MemoryModel(workspace.lm, replace(workspace.model.config, **published)).save(folder / "mac")
    command = [
        *(sys.executable, str(ROOT / "benchmarks/paper_protocol.py"), "--json", "--format", "jsonl"),
        *("--data", str(data), "--documents", str(SAMPLED), "--questions", "6"),
        *("--params", str(params), "--vectors", str(load_params(params).compressor.path)),
        *("--rag-trained", str(folder / "nowhere"), "--mac", str(folder / "mac")),
        *("--parts", "abstention,strangers,retention,noise"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder)
    assert done.returncode == 0, done.stderr
    assert "row rag_trained is left out: no compressor in" in " ".join(done.stderr.split())
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def test_every_row_is_scored_on_the_same_questions(result: dict[str, Any]) -> None:
    names = [row["row"] for row in result["rows"]]
    assert result["documents"] == SAMPLED
    assert {
        "cmt",
        "cmt, right document given",
        "memory",
        "mac",
        "mbc",
        "rag",
        "full",
        "closed",
        "closed, zero-shot",
    } <= set(names)
    assert len(names) == len(set(names))
    for row in result["rows"]:
        assert row["n"] == 6
        assert 0 <= row["ci"][0] <= row["f1"] <= row["ci"][1] <= 100


def test_recall_grows_with_depth_and_is_one_with_the_right_text(result: dict[str, Any]) -> None:
    rows = {row["row"]: row["recall"] for row in result["rows"]}
    assert rows["full"] == {"1": 1.0}
    assert rows["closed"] is None
    for recall in filter(None, rows.values()):
        assert list(recall.values()) == sorted(recall.values())


def test_rows_without_text_have_their_share_of_what_the_teacher_gains() -> None:
    normalise = load_script("paper_protocol")._normalise_by_teacher
    rows: list[dict[str, Any]] = [{"row": "cmt", "f1": 82.0}, {"row": "memory, n/4", "f1": 62.0}]
    normalise(rows)
    assert "teacher_normalised" not in rows[1]  # nothing to compare with
    normalise([*rows, {"row": "closed", "f1": 2.0}])
    assert rows[1]["teacher_normalised"] == pytest.approx(0.75)
    assert "teacher_normalised" not in rows[0]


@pytest.fixture
def inside(tiny_workspace: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The tiny project as the current folder, without the environment variable that names a file."""
    monkeypatch.chdir(tiny_workspace)
    monkeypatch.delenv("CMT_SQUAD_DEV", raising=False)
    monkeypatch.setenv("COLUMNS", "200")
    return tiny_workspace


@pytest.mark.parametrize("wrong", [["--rows", "closed,ragg"], ["--parts", "retension"]])
def test_a_name_that_is_none_is_refused_before_anything_is_measured(inside: Path, wrong: list[str]) -> None:
    status, stdout, stderr = run_main("paper_protocol", "--data", "none.json", *wrong)
    assert (status, stdout) == (2, "")
    assert f"'{wrong[1].rpartition(',')[2]}' is none of" in " ".join(stderr.replace("│", " ").split())


def test_without_a_file_the_option_and_the_environment_variable_are_named(inside: Path) -> None:
    status, stdout, stderr = run_main("paper_protocol")
    assert (status, stdout) == (2, "")
    assert "--data" in stderr and "CMT_SQUAD_DEV" in stderr


def test_the_environment_variable_names_the_file(inside: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CMT_SQUAD_DEV", "none.json")
    status, stdout, stderr = run_main("paper_protocol")
    assert (status, stdout) == (1, "")
    assert stderr.startswith("error: none.json not found; name a file")


def test_a_file_that_is_not_there_is_one_line_to_act_on(inside: Path) -> None:
    status, stdout, stderr = run_main("paper_protocol", "--data", "none.json")
    assert (status, stdout) == (1, "")
    assert stderr.startswith("error: none.json not found; name a file")


@pytest.mark.parametrize(
    ("published_at", "status", "message"),
    [
        ("2031-01-02T08:00:00", 1, "row 1: published_at: 2031-01-02T08:00:00 has no time zone"),
        ("2031-01-02T08:00:00Z", 2, "draw fewer"),
    ],
)
def test_a_sample_that_cannot_be_measured_is_refused_first(
    inside: Path, published_at: str, status: int, message: str
) -> None:
    mill = {"doc_id": "mill", "published_at": published_at, "text": "The mill of Aldney has three wheels."}
    question = {"doc_id": "mill", "question": "How many wheels?", "answers": ["three"], "asked_at": published_at}
    (inside / "mills.jsonl").write_text(f"{json.dumps(mill)}\n{json.dumps(question)}\n", encoding="utf-8")
    arguments = ["--data", "mills.jsonl", "--format", "jsonl", "--rows", "", "--parts", "abstention"]
    returned, stdout, stderr = run_main("paper_protocol", *arguments)
    assert (returned, stdout) == (status, "")
    assert message in " ".join(stderr.replace("│", " ").split())


def test_a_bank_without_text_reports_its_tokens_per_vector(result: dict[str, Any]) -> None:
    ratios = {row["row"]: row["tokens_per_vector"] for row in result["rows"] if "tokens_per_vector" in row}
    assert ratios.keys() == {"memory", "memory, n/4", "memory, n/16"}
    for name, window in (("memory", 8), ("memory, n/4", 4), ("memory, n/16", 16)):
        assert window / 2 < ratios[name] <= window


def test_the_codes_of_mbc_take_less_than_the_vectors(result: dict[str, Any]) -> None:
    [share] = [row["of_memories"] for row in result["rows"] if "of_memories" in row]
    assert 0 < share < 1


def test_the_parts_report_their_sample_sizes(result: dict[str, Any]) -> None:
    for part in ("abstention", "strangers"):
        assert result[part].keys() >= {"absent", "present", "absent then"}
        assert all(0 <= share <= 1 for share in result[part].values())
    assert (result["retention"]["documents"], result["retention"]["of"]) == (SAMPLED, SAMPLED)
    assert result["noise"]["documents"] < result["noise"]["of"] <= SAMPLED
    assert result["retention"]["questions"] == 6 >= result["noise"]["questions"] > 0


def test_without_data_the_option_is_asked_for(inside: Path) -> None:
    status, stdout, stderr = run_main("paper_protocol", "--rows", "closed")
    assert (status, stdout) == (2, "")
    assert "Missing option '--data'" in stderr
