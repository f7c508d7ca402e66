"""`cmt init`: a project for one's own documents, with a small example to replace."""

import json
import os
import shlex
from datetime import date, timedelta
from pathlib import Path
from typing import Annotated, Any

import typer

from cmt.cli import output
from cmt.cli.context import Json, print_result
from cmt.errors import ConfigError, ModelError

CLONE = Path(__file__).parents[2]
"""The clone of the repository that this package is installed from; it has the shipped compressor and the LM."""
EXAMPLE = Path(__file__).parent / "example/news.jsonl"

_PARAMS = """\
# Parameters of this project. All others have their defaults: see docs/configuration.md.
stream:
  source: news.jsonl # a file or folder that `cmt ingest` reads: documents, and questions if you have some
  format: jsonl # or parquet, squad, streamingqa, archivalqa
  period: month # what one slice spans: day, week, month, or a number of documents
  clock: system # documents with a later date are rejected

lm: # the frozen language model, in the folder that the clone uses
  source: {source}
  sha256: {sha256}
  path: {lm}

compressor: # the one that comes with cmt
  path: {compressor}

tracking:
  enabled: false # true: every round becomes a run in MLflow
"""
_GITIGNORE = """\
# written by commands
/data/
/mlflow.db*
/mlruns/
/report/
"""


def init(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A new or empty folder.")],
    as_json: Json = False,
) -> None:
    """Make a project for your own documents: params.yaml, an example news.jsonl, and .gitignore."""
    files = write_project(folder)
    documents, questions = example_rows()
    commands = next_commands(folder, documents, questions)
    result = {"path": folder, "files": files, "commands": commands}
    counts = f"{len(documents)} documents, {len(questions)} questions"
    line = f"{folder} has params.yaml, news.jsonl ({counts}) and .gitignore; next:"
    print_result(result, lambda: _write(line, commands), as_json=as_json)


def write_project(folder: Path) -> list[Path]:
    """Write the files of a new project into `folder` and return them.

    Raises ConfigError if the folder is not empty, ModelError if the shipped compressor is missing.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError(f"{folder} is not an empty folder: name another one")
    if not (CLONE / "data/compressor/config.json").exists():
        raise ModelError(
            f"no compressor in {CLONE / 'data/compressor'}: install cmt from a clone with `pip install -e`"
        )
    folder.mkdir(parents=True, exist_ok=True)
    lm = _shipped_lm()
    contents = {
        "params.yaml": _PARAMS.format(
            source=_yaml(lm["source"]),
            sha256=_yaml(lm["sha256"]),
            lm=_yaml(_reference(CLONE / "data/lm", folder)),
            compressor=_yaml(_reference(CLONE / "data/compressor", folder)),
        ),
        "news.jsonl": EXAMPLE.read_text(encoding="utf-8"),
        ".gitignore": _GITIGNORE,
    }
    for name, content in contents.items():
        (folder / name).write_text(content, encoding="utf-8")
    return [folder / name for name in contents]


def example_rows() -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The documents and the questions of the example."""
    rows = [json.loads(line) for line in EXAMPLE.read_text(encoding="utf-8").splitlines()]
    return [row for row in rows if "question" not in row], [row for row in rows if "question" in row]


def next_commands(folder: Path, documents: list[dict[str, Any]], questions: list[dict[str, Any]]) -> list[str]:
    """The commands to run next, the last two with a question whose answer an update changed."""
    update = next(document for document in documents if document.get("supersedes"))
    question = next(row["question"] for row in questions if row["doc_id"] == update["doc_id"])
    before = date.fromisoformat(update["published_at"]) - timedelta(days=1)
    commands = [f"cd {shlex.quote(str(folder))}", "cmt model pull", "cmt ingest", "cmt update --all"]
    if _lm_is_installed():
        commands.remove("cmt model pull")
    return [*commands, f'cmt ask "{question}"', f'cmt ask "{question}" --as-of {before}']


def _write(line: str, commands: list[str]) -> None:
    output.write_line(line)
    output.write_lines(commands, indent=2)


def _shipped_lm() -> dict[str, Any]:
    """Source and digest of the LM that the shipped compressor was trained for. Raises ConfigError."""
    from cmt.config import load_params

    lm = load_params(CLONE / "params.yaml").lm
    return {"source": lm.source, "sha256": lm.sha256}


def _lm_is_installed() -> bool:
    from cmt.lm.weights import installed

    try:
        installed(source=_shipped_lm()["source"], path=CLONE / "data/lm")
    except ModelError:
        return False
    return True


def _reference(path: Path, folder: Path) -> str:
    """`path` as params.yaml in `folder` names it: relative within the clone, so that the clone can move."""
    inside = folder.resolve().is_relative_to(CLONE)
    return os.path.relpath(path, folder.resolve()) if inside else str(path)


def _yaml(value: str | None) -> str:
    """`value` as a YAML scalar; a JSON string is one."""
    return "null" if value is None else value if value.isalnum() else json.dumps(value)
