"""The published protocol as a command: every system and part, on a tiny LM, fictitious documents
and two formats.
"""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import cmt
from cmt.config import AggregatorParams, AlignmentParams
from cmt.evaluation.systems import RAG_SYSTEMS
from cmt.modeling.loading import new_memory_model
from tests.helpers.facts import FACTS
from tests.helpers.rows import write_lines
from tests.helpers.scripts import run_main
from tests.helpers.training import squad

SAMPLED = 12
UNANSWERABLE = 3
UPDATE = "2031-05-01T08:00:00Z"


def stream() -> list[dict[str, Any]]:
    """FACTS as rows of format `jsonl`, and an update of the first one with another answer."""
    rows: list[dict[str, Any]] = []
    for fact in FACTS[:SAMPLED]:
        rows.append(
            {"title": fact["doc_id"][0]}
            | {key: fact[key] for key in ("doc_id", "published_at", "text")}
        )
        asked = {
            "doc_id": fact["doc_id"],
            "question": fact["question"],
            "answers": [fact["answer"]],
        }
        rows.append(asked | {"asked_at": fact["published_at"]})
    update = {
        "doc_id": "update",
        "published_at": UPDATE,
        "text": "Now it is wholly different, said Ode Marsh.",
    }
    rows.append(update | {"title": "u", "supersedes": FACTS[0]["doc_id"]})
    rows.append(
        {
            "doc_id": "update",
            "question": FACTS[0]["question"],
            "answers": ["Ode Marsh"],
            "asked_at": UPDATE,
        }
    )
    return rows


def squad_rows(*, answered: int) -> list[dict[str, Any]]:
    """Some of FACTS: `answered` with their answer, UNANSWERABLE without."""
    return [
        {
            "id": fact["doc_id"],
            "title": "Facts",
            "context": fact["text"],
            "question": fact["question"],
        }
        | {"answers": [fact["answer"]] if index < answered else []}
        for index, fact in enumerate(FACTS[: answered + UNANSWERABLE])
    ]


@pytest.fixture(scope="module")
def project(tiny_project: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = Path(shutil.copytree(tiny_project, tmp_path_factory.mktemp("protocol") / "project"))
    write_lines(folder / "facts.jsonl", stream())
    (folder / "squad.json").write_bytes(squad(squad_rows(answered=6)))
    (folder / "unanswerable.json").write_bytes(squad(squad_rows(answered=0)))
    workspace = cmt.open(params=folder / "params.yaml")
    psi, pi = AggregatorParams(kind="attention"), AlignmentParams(kind="prefix")
    config = replace(workspace.project.model.config, aggregator=psi, alignment=pi)
    new_memory_model(workspace.project.lm, config).save(folder / "mac")
    return folder


def measure(project: Path, *names: str, options: list[str]) -> tuple[list[dict[str, Any]], str]:
    """The figures of the files `names`, and stderr."""
    data = [argument for name in names for argument in ("--data", str(project / name))]
    compressor = str(cmt.open(params=project / "params.yaml").params.compressor.path)
    folders = [
        "--vectors",
        compressor,
        "--rag",
        str(project / "nowhere"),
        "--mac",
        str(project / "mac"),
    ]
    arguments = [*data, "--params", str(project / "params.yaml"), *folders, *options]
    status, stdout, stderr = run_main("paper_protocol", *arguments)
    assert status == 0, stderr
    return json.loads(stdout), stderr


@pytest.fixture(scope="module")
def text(project: Path) -> dict[str, Any]:
    parts = "off_topic,retention,noise,supersession,swapped_names"
    options = ["--questions", "2", "--parts", parts, "--out", str(project / "protocol.json")]
    ([text], stderr) = measure(project, "facts.jsonl", options=options)
    assert "system rag_trained is left out: " in " ".join(stderr.split())
    return text


def test_every_system_is_scored_on_the_same_questions(text: dict[str, Any]) -> None:
    names = [row["row"] for row in text["rows"]]
    assert text["documents"] == SAMPLED + 1
    expected = {
        "cmt",
        "cmt, right document given",
        "memory",
        "memory, n/4",
        "memory, n/16",
        "mac",
        "mbc",
        "full",
    }
    expected |= {"full, zero-shot", "closed", "closed, zero-shot"}
    expected |= {*RAG_SYSTEMS}
    assert sorted(names) == sorted(expected)
    for row in text["rows"]:
        assert row["n"] == 2
        assert 0 <= row["ci"][0] <= row["f1"] <= row["ci"][1] <= 100
    # recall grows with depth, and is one with the right text
    recalls = {row["row"]: row["recall"] for row in text["rows"]}
    assert (recalls["full"], recalls["closed"]) == ({"1": 1.0}, None)
    assert all(
        list(recall.values()) == sorted(recall.values()) for recall in recalls.values() if recall
    )


def test_banks_without_text_and_codes_report_their_size(text: dict[str, Any]) -> None:
    ratios = {
        row["row"]: row["tokens_per_vector"] for row in text["rows"] if "tokens_per_vector" in row
    }
    for name, window in (("memory", 8), ("memory, n/4", 4), ("memory, n/16", 16)):
        assert window / 2 < ratios[name] <= window
    [share] = [row["of_memories"] for row in text["rows"] if "of_memories" in row]
    assert 0 < share < 1


def test_parts_are_written_for_the_report(project: Path, text: dict[str, Any]) -> None:
    written = json.loads((project / "protocol.json").read_text(encoding="utf-8"))
    assert written == text
    assert (text["retention"]["documents"], text["retention"]["of"]) == (SAMPLED + 1, SAMPLED + 1)
    assert text["noise"]["documents"] < text["noise"]["of"] <= SAMPLED + 1
    assert all(0 <= share <= 1 for share in text["off_topic"].values())


def test_an_update_is_asked_before_and_after_it_and_as_of_before(text: dict[str, Any]) -> None:
    points = text["supersession"]
    for view in (
        "before: the old answer",
        "after: the new answer",
        "after, as of before: the old answer",
    ):
        assert points[f"{view}, questions"] == 1
        assert 0 <= points[f"{view}, f1"] <= 100
    assert points["before: the old answer, f1"] == points["after, as of before: the old answer, f1"]


def test_every_verdict_on_swapped_names_has_its_share(text: dict[str, Any]) -> None:
    shares = text["swapped_names"]
    for group in ("as they are", "swapped"):
        assert shares[f"{group}, questions"] == 2
        assert (
            sum(shares[f"{group}, {verdict}"] for verdict in ("likely", "unsure", "not_in_memory"))
            == 1
        )


def test_missing_names_are_counted(project: Path) -> None:
    document = {
        "doc_id": "d",
        "published_at": "2031-01-06",
        "text": "The mayor of Port Ellery is Marguerite Osei.",
    }
    asked = (
        "Who is the mayor of Port Ellery?",
        "Who is the mayor of Paris?",
        "Who is the mayor?",
        "Who met Osei in 1999?",
    )
    answered = {"doc_id": "d", "asked_at": "2031-02-01", "answers": ["Marguerite Osei"]}
    lines: list[dict[str, Any]] = [
        document,
        *({"question": question} | answered for question in asked),
    ]
    write_lines(project / "names.jsonl", lines)
    ([text], _) = measure(
        project, "names.jsonl", options=["--rows", "", "--parts", "missing_names"]
    )
    assert text["missing_names"] == {"questions": 4, "all": 0.25, "some": 0.25, "doubtful": 0}


def test_confidence_covers_as_large_a_share_of_the_unanswerable_questions(project: Path) -> None:
    options = ["--questions", "4", "--rows", "cmt", "--parts", "confidence"]
    texts, _ = measure(project, "squad.json", "unanswerable.json", options=options)
    mixed, without = (text["confidence"] for text in texts)
    assert mixed["unanswerable"] == 2
    assert 0 <= mixed["calibration error"] <= 1
    assert mixed["unanswerable, refused"] in (0.0, 0.5, 1.0)
    assert mixed["likely"] <= 1 - mixed["answerable, refused"]
    assert [len(text["rows"]) for text in texts] == [2, 0]
    assert without.keys() == {"calibration error", "unanswerable", "unanswerable, refused"}


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["--data", "none.json"], 1, "none.json not found; name a file"),
        (["--data", "none.json", "--rows", "closed,ragg"], 2, "'ragg' is none of"),
        (["--data", "none.json", "--parts", "retension"], 2, "'retension' is none of"),
        (["--data", "squad.json", "--parts", "abstention"], 2, "draw fewer"),
        ([], 2, "Missing option '--data'"),
    ],
)
def test_what_cannot_be_measured_is_refused_before_anything_is_measured(
    project: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], status: int, message: str
) -> None:
    monkeypatch.chdir(project)
    monkeypatch.setenv("COLUMNS", "200")
    returned, stdout, stderr = run_main("paper_protocol", *arguments)
    assert (returned, stdout) == (status, "")
    assert message in " ".join(stderr.replace("│", " ").split())
