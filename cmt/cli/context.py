"""What all commands share: the options before them, how errors and Ctrl-C end them, and how they report."""

import errno
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup

from cmt.cli.output import console, write_json, write_line
from cmt.cli.progress_bar import ProgressBar
from cmt.common.dates import parse_instant
from cmt.errors import CmtError, ConfigError

if TYPE_CHECKING:
    from cmt.workspace import Workspace

Json = Annotated[bool, typer.Option("--json", help="Print JSON on stdout, and nothing else.")]

_AFTER_CTRL_C = {
    "model": "the LM in use is as it was; run the command again",
    "data": "the training data is as it was; run the command again",
    "ingest": "the slices that were written are whole; run the command again for the others",
    "update": "the next `cmt update` says what it found, puts the bank right and goes on",
    "train": "run the command again to go on from the last checkpoint",
    "rollback": "run the command again, or `cmt update`: either finishes it",
    "forget": "run the command again: the document may still be there",
}


@dataclass
class CliContext:
    """The options before the command, and the workspace that they open."""

    params: Path
    overrides: dict[str, Any] = field(default_factory=dict)

    @cached_property
    def workspace(self) -> "Workspace":
        """Opened when first asked for, so that --help reads no file."""
        from cmt.workspace import open

        return open(params=self.params, overrides=self.overrides)

    @cached_property
    def display(self) -> ProgressBar:
        """Progress on stderr."""
        return ProgressBar(console(stderr=True))


class Commands(TyperGroup):
    """The commands; what they raise becomes one line on stderr and an exit status."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except CmtError as error:
            _end(f"error: {error}", _status(error))
        except KeyboardInterrupt:
            stage = ctx.obj.display.current if ctx.obj else ""
            state = _AFTER_CTRL_C.get(ctx.invoked_subcommand) if stage not in ("", "load") else None
            _end(f"interrupted{stage and f' during {stage}'}: {state or 'nothing was changed'}", 130)
        except OSError as error:
            if error.errno in (None, errno.EPIPE):
                raise
            _end(f"error: {error.filename or 'input or output'}: {error.strerror}; check space and rights", 1)


def run_script(main: Callable[..., None]) -> None:
    """`main` as the one command of a script; what it raises becomes one line on stderr and an exit status too."""
    try:
        typer.run(main)
    except CmtError as error:
        write_line(f"error: {error}", style="red", stderr=True)
        raise SystemExit(_status(error)) from None


def report(value: object, people: str | Callable[[], None], *, as_json: bool) -> None:
    """`value` as JSON on stdout, or what people get: a line, or what the function prints."""
    if as_json:
        write_json(value)
    elif isinstance(people, str):
        write_line(people)
    else:
        people()


def overrides(pairs: list[str]) -> dict[str, Any]:
    """`section.key=value` as dotted key → value, typed as YAML types it. BadParameter for anything else."""
    import yaml

    values = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        try:
            values[key] = yaml.safe_load(value)
        except yaml.YAMLError:
            raise typer.BadParameter(f"{pair!r}: the value is not valid YAML", param_hint="--set") from None
        if not (equals and all(key.split("."))):
            raise typer.BadParameter(f"{pair!r}: write section.key=value, as selection.top_k=4", param_hint="--set")
    return values


def instant(text: str) -> datetime:
    """The end of a plain date in UTC, or a date-time with zone. BadParameter for anything else."""
    try:
        return datetime.combine(date.fromisoformat(text), time.max, UTC)
    except ValueError:
        pass
    try:
        return parse_instant(text)
    except ValueError as error:
        raise typer.BadParameter(f"{error}, or a plain date such as 2031-02-15", param_hint="--as-of") from None


def _status(error: CmtError) -> int:
    return 2 if isinstance(error, ConfigError) else 1


def _end(line: str, status: int) -> NoReturn:
    write_line(line, style="red", stderr=True)
    raise typer.Exit(status)
