"""`cmt init`: a project for your own documents, with a small example to replace."""

import json
import os
import shlex
from pathlib import Path
from typing import Annotated

import typer

from cmt.cli import output
from cmt.cli.context import Json
from cmt.errors import ConfigError

CLONE = Path(__file__).parents[2]
"""The folder of the package, a clone if it has params.yaml."""
EXAMPLE = Path(__file__).parent / "example/news.jsonl"

_PARAMS = """\
# Parameters of this project. All others have their defaults: see docs/configuration.md.
stream:
  source: news.jsonl # a file or folder that `cmt ingest` reads: documents, and questions if you have some
  period: month # what one slice spans: day, week, month, or a number of documents
  clock: system # documents with a later date are rejected

lm: # the frozen language model, which the compressor that comes with cmt belongs to
  source: {source}
  sha256: {sha256}
{path}
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
_FILES = ("params.yaml", "news.jsonl", ".gitignore")
# an update in the example changed the answer to this question
_NEXT_COMMANDS = (
    "cmt model pull",
    "cmt ingest",
    "cmt update --all",
    'cmt ask "What is the toll on the Alder Bridge?"',
    'cmt ask "What is the toll on the Alder Bridge?" --as-of 2026-09-27',
)


def init(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A new or empty folder.")],
    as_json: Json = False,
) -> None:
    """Make a project for your own documents: params.yaml, an example news.jsonl, and .gitignore."""
    files = write_project(folder)
    commands = [f"cd {shlex.quote(str(folder))}", *_NEXT_COMMANDS]
    if as_json:
        output.write_json({"path": folder, "files": files, "commands": commands})
        return
    output.write_line(f"{folder} has params.yaml, news.jsonl and .gitignore; next:")
    output.write_lines(commands, indent=2)


def write_project(folder: Path) -> list[Path]:
    """Write the files of a new project into `folder` and return them.

    The LM is in the user's cache, in a clone in its `data/lm`. Raises ConfigError if the folder is not empty or cannot
    be written, and leaves no part of a project then.
    """
    from cmt.common.storage import write_new_folder
    from cmt.config import SHIPPED_LM_SHA256, LmParams

    in_clone = (CLONE / "params.yaml").is_file()
    path = f"  path: {_yaml(_reference(CLONE / 'data/lm', folder))}\n" if in_clone else ""
    source = _yaml(LmParams.model_fields["source"].default)
    params = _PARAMS.format(source=source, sha256=SHIPPED_LM_SHA256, path=path)
    contents = dict(zip(_FILES, (params, EXAMPLE.read_text(encoding="utf-8"), _GITIGNORE), strict=True))
    try:
        write_new_folder(folder, contents)
    except FileExistsError:
        raise ConfigError(f"{folder} is not an empty folder: name a new or empty one") from None
    except OSError as error:
        raise ConfigError(f"{folder} cannot be made: {error.strerror or error}; nothing was left there") from None
    return [folder / name for name in contents]


def _reference(path: Path, folder: Path) -> str:
    """`path` for params.yaml in `folder`: relative within the clone, so that the clone can move."""
    inside = folder.resolve().is_relative_to(CLONE)
    return os.path.relpath(path, folder.resolve()) if inside else str(path)


def _yaml(value: str) -> str:
    """`value` as a YAML scalar; a JSON string is one."""
    return value if value.isalnum() else json.dumps(value)
