"""`cmt init`: a project for your own documents, with them or with a small example to replace."""

import json
import os
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml

from cmt.cli import output
from cmt.cli.context import ColumnMap, Json, PublishedAt, parse_columns
from cmt.errors import CmtError

CLONE = Path(__file__).parents[2]  # the folder of the package, a clone if it has params.yaml
EXAMPLE = Path(__file__).parent / "example/news.jsonl"

_PARAMS = """\
# Parameters of this project. All others have their defaults: see docs/configuration.md.
stream:
{stream}

{sources}lm: # the frozen language model{note}
  source: {source}
  sha256: {sha256}
{path}
{compressor}tracking:
  enabled: false # true: every round becomes a run in MLflow
"""
_GITIGNORE = """\
# written by commands
/data/
/mlflow.db*
/mlruns/
/report/
"""
_STREAM = {"source": "news.jsonl", "period": "month", "clock": "system"}
_COMMENTS = {
    "source": "a file or folder that `cmt ingest` reads: documents, and questions if you have some",
    "period": "what one slice spans: day, week, month, or a number of documents",
    "clock": "documents with a later date are rejected",
    "columns": "column of cmt: column of your documents",
}
_TRAINED = """\
compressor:
  path: data/trained # what `cmt train` writes

"""
# an update in the example changed the answer to this question
_NEXT_COMMANDS = (
    "cmt model pull",
    "cmt ingest",
    "cmt update --all",
    'cmt ask "What is the toll on the Alder Bridge?"',
    'cmt ask "What is the toll on the Alder Bridge?" --as-of 2026-09-27',
)


def init(
    ctx: typer.Context,
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A new or empty folder.")],
    from_: Annotated[
        str | None,
        typer.Option(
            "--from", metavar="PATH|URL", help="Documents to ingest: file, folder, feed or page."
        ),
    ] = None,
    map_: ColumnMap = None,
    published_at: PublishedAt = None,
    lm: Annotated[
        str | None,
        typer.Option(
            "--lm", metavar="SOURCE", help="LM to train a compressor for: hub:, path: or pypi:."
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Make a project for your own documents: params.yaml, an example news.jsonl, and .gitignore.

    With --from: ingest these documents instead, adapt the newest ones, and answer up to three
    questions on them.
    """
    columns = parse_columns(map_)
    if from_ is not None and lm is not None:
        raise typer.BadParameter(
            "train for the LM first, then `cmt ingest` your documents", param_hint="--from, --lm"
        )
    if from_ is not None:
        from cmt.cli.own_documents import start

        return start(
            ctx.obj, folder, from_, columns=columns, published_at=published_at, as_json=as_json
        )
    if columns or published_at:
        raise typer.BadParameter(
            "it is for the documents of --from", param_hint="--map, --published-at"
        )
    files = write_project(
        folder, lm=_absolute_source(lm) if lm else None, overrides=ctx.obj.overrides
    )
    next_commands = (
        [_NEXT_COMMANDS[0], "cmt data pull", "cmt train", *_NEXT_COMMANDS[1:]]
        if lm
        else _NEXT_COMMANDS
    )
    commands = [f"cd {shlex.quote(str(folder))}", *next_commands]
    if as_json:
        return output.write_json({"path": folder, "files": files, "commands": commands})
    output.write_line(f"{folder} has params.yaml, news.jsonl and .gitignore; next:")
    output.write_lines(commands, indent=2)


def write_project(
    folder: Path,
    *,
    stream: Mapping[str, Any] | None = None,
    sources: Sequence[Mapping[str, Any]] = (),
    lm: str | None = None,
    overrides: Mapping[str, Any] | None = None,
) -> list[Path]:
    """Write the files of a new project into `folder` and return them, params.yaml first.

    `stream`, `sources`: values of these sections; without either the project has the example. `lm`:
    the value of `lm.source`, for which `cmt train` trains a compressor; None: the LM of the shipped
    compressor. The LM is stored in `data/lm` of a clone, or else in the user's cache. `overrides`:
    dotted key → value of any other parameters. Raises CmtError, and leaves no part of a project, if
    one of them is invalid or if the folder is not empty or cannot be written.
    """
    from cmt.common.storage import write_new_folder
    from cmt.config import SHIPPED_LM_SHA256, LmParams, sections_of, set_dotted

    # 1. params.yaml; within the clone the path of the LM is relative, so that the clone can move
    lm_folder, target = str(CLONE / "data/lm"), os.path.realpath(folder)
    if Path(target).is_relative_to(CLONE):
        lm_folder = os.path.relpath(lm_folder, target)
    given = sections_of(overrides or {})
    shown = {**_STREAM, **given.pop("stream", {}), **(stream or {})}
    if sources:
        del shown["source"]
    params = _PARAMS.format(
        stream="\n".join(
            f"  {key}: {_yaml(value)} # {_COMMENTS.get(key, 'as given')}"
            for key, value in shown.items()
        ),
        sources=yaml.safe_dump({"sources": [*sources]}, sort_keys=False, allow_unicode=True) + "\n"
        if sources
        else "",
        note="" if lm else ", which the compressor that comes with cmt belongs to",
        source=_yaml(lm or LmParams.model_fields["source"].default),
        sha256="null # of the weights, to refuse any other" if lm else SHIPPED_LM_SHA256,
        compressor=_TRAINED if lm else "",
        path=f"  path: {_yaml(lm_folder)}\n" if (CLONE / "params.yaml").is_file() else "",
    )
    if overrides and given:  # other sections than `stream`; then without comments
        values = yaml.safe_load(params)
        for key, value in overrides.items():
            if key.partition(".")[0] in given:
                set_dotted(values, key, value)
        params = yaml.safe_dump(values, sort_keys=False, allow_unicode=True)
    # 2. all files, or none
    example = {} if stream or sources else {"news.jsonl": EXAMPLE.read_text(encoding="utf-8")}
    contents = {"params.yaml": params, **example, ".gitignore": _GITIGNORE}
    try:
        write_new_folder(folder, contents)
    except FileExistsError:
        raise CmtError(f"{folder} is not an empty folder: name a new or empty one") from None
    except OSError as error:
        raise CmtError(
            f"{folder} cannot be made: {error.strerror or error}; nothing was left there"
        ) from None
    return [folder / name for name in contents]


def _absolute_source(source: str) -> str:
    """`source` with an absolute path, or with a revision. Raises ConfigError if it is malformed."""
    from cmt.lm.download import folder_name

    if source.startswith("path:"):
        source = f"path:{os.path.realpath(os.path.expanduser(source.removeprefix('path:')))}"
    if source.startswith("hub:") and "@" not in source:
        source += "@main"
    folder_name(source)
    return source


def _yaml(value: Any) -> str:
    """`value` as YAML in one line, which JSON is."""
    bare = isinstance(value, str) and value.isalnum() and yaml.safe_load(value) == value
    return str(value) if bare else json.dumps(value, ensure_ascii=False, default=str)
