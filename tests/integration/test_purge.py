"""A purge of some documents of a project with rounds, an evaluation, MLflow and DVC leaves no trace
of their words.
"""

import json
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from random import Random

import pytest
import yaml

from cmt.common.digests import sha256_hex
from tests.helpers.cli import read
from tests.helpers.projects import open_workspace
from tests.helpers.traces import data_files, traces

N_DOCUMENTS, N_PURGED = 8, 2
SYLLABLES = ("ba", "do", "fi", "gu", "ke", "lo", "mi", "nu", "pa", "ro", "si", "tu")


def name(random: Random) -> str:
    return "".join(random.choices(SYLLABLES, k=3))


def write_news(folder: Path) -> None:
    """Documents of 25 invented words each, two months of them, and a question about each."""
    random = Random(7)
    rows = []
    for number in range(N_DOCUMENTS):
        date = f"2031-0{1 + number % 2}-{1 + number // 4:02}"
        text = " ".join(name(random) for _ in range(25))
        question = f"What follows on {' '.join(text.split()[:3])}?"
        answers = [" ".join(text.split()[3:14]), " ".join(text.split()[3:5])]
        rows += [
            {
                "doc_id": f"d{number}",
                "published_at": date,
                "title": " ".join(text.split()[:9]),
                "text": f"{text}.",
            },
            {"doc_id": f"d{number}", "question": question, "answers": answers, "asked_at": date},
        ]
    (folder / "news.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture
def project(tiny_project: Path, mlflow_database: Path, tmp_path: Path) -> Path:
    """A project whose sources lie outside it, after its rounds, an evaluation, and a second look at
    a bad source.
    """
    folder, sources = tmp_path / "project", tmp_path / "sources"
    folder.mkdir()
    sources.mkdir()
    write_news(sources)
    params = yaml.safe_load((tiny_project / "params.yaml").read_text())
    params |= {
        "stream": {"source": str(sources / "news.jsonl"), "clock": "2031-12-31T23:59:59Z"},
        "tracking": {"enabled": True},
        "answering": {"max_new_tokens": 12},
        "serving": {"request_log": "requests.jsonl", "log_questions": True},
    }
    (folder / "params.yaml").write_text(yaml.safe_dump(params))
    shutil.copy(mlflow_database, folder / "mlflow.db")
    workspace = open_workspace(folder)
    workspace.ingest()
    while workspace.pending():
        workspace.update()
    workspace.evaluate(limit=6)
    return folder


@pytest.mark.timeout(600)
def test_a_purge_leaves_no_trace_and_changes_no_other_answer(project: Path) -> None:
    rows = [
        json.loads(line)
        for line in (project.parent / "sources/news.jsonl").read_text().splitlines()
    ]
    texts = {row["doc_id"]: f"{row['title']} {row['text']}" for row in rows if "text" in row}
    purged = Random(3).sample(sorted(texts), N_PURGED)
    spread(project, rows, purged)
    forgotten_texts = [texts[name] for name in purged]
    questions = [
        row["question"] for row in rows if "question" in row and row["doc_id"] not in purged
    ]
    asked = [row for row in rows if "question" in row and row["doc_id"] in purged]
    phrases = [phrase for row in asked for phrase in (row["question"], *row["answers"])]

    # 1. Before: the texts are in every kind of file.
    kinds = {
        place.rpartition("(")[2].split(",")[0].rstrip(")0123456789 ")
        for place in traces(project, forgotten_texts)
    }
    assert kinds >= {"Parquet", "SQLite", "version", "raw bytes as utf-"}
    answers, files = ask(project, questions), data_files(project / "data/bank")

    # 2. The purge, by the command.
    report = read(project, "forget", *purged, "--purge")
    assert (report["rows"] >= N_PURGED, report["purged"]["documents"]) == (True, N_PURGED)
    kinds_of_rows = {"recorded answers", "cached answers", "quarantined rows", "logged questions"}
    assert report["purged"].keys() >= {*kinds_of_rows, "files"}
    assert report["purged"]["objects of DVC's cache"] == 2

    # 3. After: no trace, no file of the bank that is older than the purge, and the other answers
    #    are the same.
    assert traces(project, forgotten_texts, phrases=phrases) == []
    assert (project / "requests.jsonl").stat().st_mode & 0o777 == 0o600
    assert files.isdisjoint(data_files(project / "data/bank"))
    assert ask(project, questions) == answers
    assert (read(project, "verify")["problems"], open_workspace(project).pending()) == (0, [])

    # 4. The source brings nothing back, not even into the quarantine.
    assert open_workspace(project).ingest().accepted == 0
    assert traces(project, forgotten_texts, phrases=phrases) == []


def spread(project: Path, rows: list[dict[str, str]], purged: list[str]) -> None:
    """Copy the texts of `purged` elsewhere: quarantine, report, DVC's cache, replayed slices,
    temporary files.
    """
    workspace = open_workspace(project)
    texts = [row["text"] for row in rows if row["doc_id"] in purged and "text" in row]
    # 1. The quarantine: a copy of the documents with a wrong date.
    bad = project.parent / "sources/bad.jsonl"
    bad_rows = [
        row | {"doc_id": f"bad-{row['doc_id']}", "published_at": "soon"}
        for row in rows
        if "text" in row
    ]
    bad.write_text(
        "".join(
            json.dumps(row) + "\n"
            for row in [*bad_rows, {"text": "Fine.", "published_at": "2031-01-01"}]
        )
    )
    assert len(workspace.ingest(source=bad).rejected) == N_DOCUMENTS
    workspace.update()
    # 2. A page, the temporary file of a killed writer, the temporary bank of a killed comparison,
    #    the request log, and a question that was rejected without its document.
    left = workspace.project.state / "scratch/dead"
    left.mkdir(parents=True)
    (left / "rows").write_text(texts[0])
    question = next(
        row["question"] for row in rows if "question" in row and row["doc_id"] in purged
    )
    (project / "requests.jsonl").write_text(
        "".join(
            json.dumps({"id": name, "question": asked}) + "\n"
            for name, asked in (("1", question), ("2", "Who?"))
        )
    )
    (project / "requests.jsonl").chmod(0o600)
    (workspace.project.store.quarantine / "questions.jsonl").write_text(
        json.dumps(
            {
                "file": "q",
                "row": 1,
                "reason": "no doc_id",
                "raw": json.dumps({"question": question}),
            }
        )
        + "\n"
    )
    (project / "report").mkdir()
    (project / "report/index.html").write_text(f"<p>{texts[0]}</p>")
    (workspace.project.store.path / "2031-01/.0001.documents.parquet.tmp").write_text(texts[0])
    # 3. The slices as `dvc repro` replays them, and as DVC caches them.
    shutil.copytree(workspace.project.store.path, project / "data/replay/slices")
    [slice_, *_] = workspace.project.store.slices_containing(purged)
    for table in ("documents", "questions"):
        content = slice_.path.with_name(f"{slice_.path.stem}.{table}.parquet").read_bytes()
        digest = sha256_hex(content)[:32]
        cached = project / f".dvc/cache/files/md5/{digest[:2]}/{digest[2:]}"
        cached.parent.mkdir(parents=True, exist_ok=True)
        cached.write_bytes(content)
    # 4. An answer of the RAG baseline that quotes a document.
    with closing(sqlite3.connect(workspace.project.state / "prompts.sqlite")) as database, database:
        database.execute(
            "UPDATE answers SET answer = ? WHERE key = (SELECT min(key) FROM answers)",
            (texts[0].encode(),),
        )


def ask(project: Path, questions: list[str]) -> list[tuple[str, str]]:
    """The answer to each question and the document that it is from."""
    workspace = open_workspace(project, selection__abstain_below=-1)
    workspace.project.active.bank()
    answers = workspace.project.answerer.answer(questions, as_of=[None] * len(questions))
    return [(answer.text, answer.sources[0].doc_id) for answer in answers]
