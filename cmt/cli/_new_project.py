"""The files of a new project: params.yaml, .gitignore, and an example if it has no documents."""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from cmt.common.storage import write_new_folder
from cmt.config import SHIPPED_LM_SHA256, LmParams, sections_of, set_dotted
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
    params = _params_file(folder, stream or {}, sources, lm, overrides or {})
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


def _params_file(
    folder: Path,
    stream: Mapping[str, Any],
    sources: Sequence[Mapping[str, Any]],
    lm: str | None,
    overrides: Mapping[str, Any],
) -> str:
    """The content of params.yaml, see `write_project`."""
    # 1. the section of the stream
    other_sections = sections_of(overrides)
    values = {**_STREAM, **other_sections.pop("stream", {}), **stream}
    if sources:
        del values["source"]
    lines = list[str]()
    for key, value in values.items():
        lines.append(f"  {key}: {yaml_value(value)} # {_COMMENTS.get(key, 'as given')}")
    # 2. the LM; within the clone its path is relative, so that the clone can move
    lm_folder, target = str(CLONE / "data/lm"), os.path.realpath(folder)
    if Path(target).is_relative_to(CLONE):
        lm_folder = os.path.relpath(lm_folder, target)
    lm_path = f"  path: {yaml_value(lm_folder)}\n" if (CLONE / "params.yaml").is_file() else ""
    # 3. the file
    listed = yaml.safe_dump({"sources": [*sources]}, sort_keys=False, allow_unicode=True) + "\n"
    params = _PARAMS.format(
        stream="\n".join(lines),
        sources=listed if sources else "",
        note="" if lm else ", which the compressor that comes with cmt belongs to",
        source=yaml_value(lm or LmParams.model_fields["source"].default),
        sha256="null # of the weights, to refuse any other" if lm else SHIPPED_LM_SHA256,
        compressor=_TRAINED if lm else "",
        path=lm_path,
    )
    if not other_sections:
        return params
    content = yaml.safe_load(params)  # and therefore without comments
    for key, value in overrides.items():
        if key.partition(".")[0] in other_sections:
            set_dotted(content, key, value)
    return yaml.safe_dump(content, sort_keys=False, allow_unicode=True)


def yaml_value(value: Any) -> str:
    """`value` as YAML in one line, which JSON is."""
    bare = isinstance(value, str) and value.isalnum() and yaml.safe_load(value) == value
    return str(value) if bare else json.dumps(value, ensure_ascii=False, default=str)
