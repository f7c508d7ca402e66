"""What all commands share: the options before the command, exit statuses, and how results are
printed.
"""

import errno
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, get_args

import typer
from typer.core import TyperGroup

import cmt
from cmt.cli.output import console, write_json, write_line
from cmt.cli.progress_bar import ProgressBar
from cmt.common.dates import parse_end
from cmt.common.imports import missing_extra
from cmt.common.secrets import mask_secrets
from cmt.errors import CmtError, ConfigError

if TYPE_CHECKING:
    from cmt.config import Column
    from cmt.project import Project

Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON on stdout.")]
AsOf = Annotated[
    str | None,
    typer.Option(
        metavar="DATE",
        help="As of the end of that day (UTC), or of a date-time with zone. Default: now.",
    ),
]

ColumnMap = Annotated[
    list[str] | None,
    typer.Option(
        "--map",
        metavar="COLUMN=NAME",
        help="Read a column, such as text, from NAME; can be repeated.",
    ),
]
PublishedAt = Annotated[
    str | None, typer.Option("--published-at", metavar="DATE", help="Date of rows without one.")
]

_AFTER_INTERRUPT = {
    "init": "no project was made, or continue in its folder with `cmt ingest` and `cmt update "
    "--all`",
    "model": "the language model in use is unchanged; run the command again",
    "data": "the training data is unchanged; run the command again",
    "ingest": "the slices that were written are complete; run the command again to write the "
    "others",
    "sync": "the recorded items are synchronised; run the command again for the others",
    "update": "the next `cmt update` reports it, repairs the bank and continues",
    "serve": "the server has stopped",
    "try": "what is in data/try stays; run the command again to continue",
    "train": "run the command again to continue from the last checkpoint",
    "rollback": "run the command again, or `cmt update`: either one finishes the rollback",
    "changes": "`cmt changes` shows whether the states were written",
    "forget": "the next `cmt forget`, `cmt update` or `cmt rollback` finishes it; see `cmt verify`",
    "evaluate": "the answers so far are kept; run the command again to continue",
    "registry": "a registered version stays; run the command again, which also finishes a rollback",
    "recompress": "the slices that were compressed stay; run the command again to continue",
    "bank": "no memory was changed; run the command again",
}
"""Command → the state that an interruption leaves, where it is not "nothing was changed"."""


@dataclass
class CliContext:
    """The options before the command, and what they open."""

    params_path: Path
    overrides: dict[str, Any] = field(default_factory=dict)

    @cached_property
    def params(self) -> "cmt.Params":
        """The parameters; read at their first use, so that --help reads no file. Raises
        ConfigError.
        """
        return cmt.load_params(self.params_path, self.overrides)

    @cached_property
    def workspace(self) -> "cmt.Workspace":
        """The operations on the project. Raises ConfigError."""
        return cmt.Workspace(self.project)

    @cached_property
    def project(self) -> "Project":
        """The parts of the project. Raises ConfigError."""
        from cmt.project import Project

        root = self.params_path.resolve().parent
        return Project(self.params, root, follow="compressor.path" not in self.overrides)

    @cached_property
    def progress(self) -> ProgressBar:
        """Progress on stderr."""
        return ProgressBar(console(stderr=True))

    @contextmanager
    def stage(self, name: str, total: int | None = None) -> Iterator[ProgressBar]:
        """Show progress on stderr, first of the stage `name` of `total` steps (None: unknown)."""
        with self.progress as progress:
            progress.stage(name, total)
            yield progress


class RootGroup(TyperGroup):
    """All commands. Turns a CmtError, an OSError and Ctrl-C into one line on stderr and an exit
    status.
    """

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except CmtError as error:
            _exit(f"error: {error}", _exit_status(error))
        except ModuleNotFoundError as error:
            if not (command := missing_extra(error)):
                raise
            _exit(
                f"error: `cmt {ctx.invoked_subcommand}` needs {error.name}, which is not "
                f"installed: {command}",
                1,
            )
        except KeyboardInterrupt:
            stage = ctx.obj.progress.current if ctx.obj else ""
            state = (
                _AFTER_INTERRUPT.get(ctx.invoked_subcommand)
                if stage not in ("", "load", "plan")
                else None
            )
            _exit(
                f"interrupted{stage and f' during {stage}'}: {state or 'nothing was changed'}", 130
            )
        except OSError as error:
            if error.errno in (None, errno.EPIPE):
                raise
            place = mask_secrets(str(error.filename or "input or output"))
            _exit(f"error: {place}: {error.strerror}; check space and permissions", 1)


def run_script(main: Callable[..., None]) -> None:
    """Run `main` as the only command of a script; a CmtError becomes one line on stderr and an exit
    status.
    """
    try:
        typer.run(main)
    except CmtError as error:
        write_line(f"error: {error}", style="red", stderr=True)
        raise SystemExit(_exit_status(error)) from None


def print_result(value: object, text: str | Callable[[], None], *, as_json: bool) -> None:
    """Print `value` as JSON, or else `text`: a line, or a function that prints."""
    if as_json:
        write_json(value)
    elif isinstance(text, str):
        write_line(text)
    else:
        text()


def parse_overrides(pairs: list[str]) -> dict[str, Any]:
    """Parse `section.key=value` pairs into dotted key → value, the values as YAML. Raises
    BadParameter.
    """
    from cmt.common.strict_yaml import parse_yaml

    values = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        shown = repr(mask_secrets(pair))
        try:
            values[key] = parse_yaml(value)
        except ValueError:
            raise typer.BadParameter(
                f"{shown}: the value is not valid YAML", param_hint="--set"
            ) from None
        if not (equals and all(key.split("."))):
            raise typer.BadParameter(
                f"{shown}: write section.key=value, such as selection.top_k=4", param_hint="--set"
            )
    return values


def parse_columns(pairs: list[str] | None) -> "dict[Column, str]":
    """Parse `--map`: column of the schema → column of the source. Raises BadParameter."""
    from cmt.config import Column

    columns = dict(pair.partition("=")[::2] for pair in pairs or [])
    if unknown := columns.keys() - set(get_args(Column)) or [
        pair for pair in pairs or [] if "=" not in pair
    ]:
        names = ", ".join(get_args(Column))
        raise typer.BadParameter(
            f"{', '.join(unknown)}: write COLUMN=NAME, a COLUMN of {names}", param_hint="--map"
        )
    return columns  # type: ignore[return-value]


def parse_as_of(text: str | None) -> datetime | None:
    """Parse `--as-of`: a plain date is the end of that day in UTC; None stays None. Raises
    BadParameter.
    """
    try:
        return None if text is None else parse_end(text)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--as-of") from None


def _exit_status(error: CmtError) -> int:
    return 2 if isinstance(error, ConfigError) else 1


def _exit(line: str, status: int) -> NoReturn:
    write_line(line, style="red", stderr=True)
    raise typer.Exit(status)
