"""`cmt …`: each command opens the project, does one thing and prints the result.

Results go to stdout, with --json as JSON only; progress, warnings and errors go to stderr. Exit
status: 0 done, 1 failed, 2 bad usage, 130 interrupted. Modules that take long to import are
imported by the command that needs them.
"""

import atexit
import contextlib
import gc
import io
import shutil
import signal
import sys
from dataclasses import asdict
from functools import partial
from glob import glob
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

import cmt
from cmt.cli import output
from cmt.cli._ask import ask, chat, history
from cmt.cli._changes import changes
from cmt.cli._init import init
from cmt.cli._mcp import mcp
from cmt.cli._registry import registry
from cmt.cli._report import baselines, report
from cmt.cli._serve import serve
from cmt.cli._sync import sync
from cmt.cli._token import token
from cmt.cli._try_newspaper import try_newspaper
from cmt.cli.context import (
    CliContext,
    ColumnMap,
    Json,
    PublishedAt,
    RootGroup,
    parse_columns,
    parse_overrides,
    print_result,
)
from cmt.common.scratch import scratch_folder
from cmt.errors import DamageError, RoundError, StreamError
from cmt.text.display import MISSING, counted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cmt.rounds.care.forgetting import Candidate
    from cmt.workspace import Workspace

app = typer.Typer(
    cls=RootGroup, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False
)
model = typer.Typer(no_args_is_help=True, help="The frozen language model.")
data = typer.Typer(no_args_is_help=True, help="The training data.")
bank = typer.Typer(no_args_is_help=True, help="The memory bank.")


def main() -> None:
    """Entry point of the console script."""
    # torch, transformers and LanceDB allocate a million long-lived objects: a collection every 700
    # allocations, and one at exit, would take as long as the imports
    gc.set_threshold(100_000, 10, 10)
    atexit.register(gc.freeze)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(
                errors="backslashreplace"
            )  # a terminal without UTF-8 gets escapes, not a traceback
    try:
        app(prog_name="cmt")
    finally:
        signal.signal(
            signal.SIGINT, signal.SIG_IGN
        )  # a Ctrl-C while torch exits, which takes seconds, is no traceback


def _print_version(requested: bool) -> None:
    if requested:
        typer.echo(f"cmt {cmt.__version__}")
        raise typer.Exit


@app.callback(epilog="Example: cmt --set selection.top_k=4 ask 'Who is the mayor of Port Ellery?'")
def options(
    ctx: typer.Context,
    params: Annotated[Path, typer.Option(metavar="FILE", help="The project's parameters.")] = Path(
        "params.yaml"
    ),
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="SECTION.KEY=VALUE", help="Override a parameter; can be repeated."
        ),
    ] = None,
    _: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
) -> None:
    """Keep a frozen language model up to date with a stream of documents."""
    ctx.obj = CliContext(params, parse_overrides(set_ or []))


app.command(epilog="Example: cmt init news-project --from feed.xml")(init)


@model.command("pull", epilog="Example: cmt model pull --json")
def model_pull(ctx: typer.Context, as_json: Json = False) -> None:
    """Download, check and convert the language model `lm.source`, once."""
    source = ctx.obj.params.lm.source
    with ctx.obj.stage("pull") as progress:
        folder = ctx.obj.workspace.pull(on_progress=progress.at)
    print_result({"source": source, "path": folder}, f"{source} is in {folder}", as_json=as_json)


@data.command("pull", epilog="Example: cmt --set train.source=hub:rajpurkar/squad data pull")
def data_pull(ctx: typer.Context, as_json: Json = False) -> None:
    """Fetch and check the training data that train.source or train.mix names."""
    from cmt.stream.limits import Limits
    from cmt.training.sources import installed_sources, pull_sources

    params = ctx.obj.workspace.params
    with ctx.obj.stage("pull"):
        counts = pull_sources(params.train, limits=Limits(params.stream))
    rows = [
        {
            "source": source,
            "path": file,
            "documents": counts[source][0],
            "questions": counts[source][1],
        }
        for source, file in installed_sources(params.train).items()
    ]
    lines = [
        f"{row['documents']:,} documents and {row['questions']:,} questions are in {row['path']}"
        for row in rows
    ]
    print_result(
        {"sources": rows} if params.train.mix else rows[0], "\n".join(lines), as_json=as_json
    )


@app.command(epilog="Example: cmt ingest news.csv --map text=story --dry-run")
def ingest(  # noqa: PLR0913 - the options of a command
    ctx: typer.Context,
    paths: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="PATH...", help="Files, folders, patterns, - for stdin. Default: stream.source."
        ),
    ] = None,
    format_: Annotated[
        str | None,
        typer.Option("--format", metavar="FORMAT", help="Default: by the content of each file."),
    ] = None,
    period: Annotated[
        str | None,
        typer.Option(metavar="PERIOD", help="day, week, month, or a number of documents a slice."),
    ] = None,
    publisher: Annotated[
        str | None,
        typer.Option(
            "--source",
            metavar="NAME",
            help="Publisher of the documents. Default: the name of the file or folder.",
        ),
    ] = None,
    map_: ColumnMap = None,
    published_at: PublishedAt = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would be ingested; write nothing.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Validate files and folders row by row and add new rows as slices."""
    columns = parse_columns(map_)
    if paths and len(paths) > 1 and "-" in paths:
        raise typer.BadParameter(
            "- (stdin) cannot be combined with files: ingest them separately", param_hint="PATH"
        )
    params = ctx.obj.params
    source = params.stream.source  # a file, a folder or a pattern
    if not paths and params.sources and not (source.exists() or glob(str(source))):
        raise StreamError(
            f"{source} not found: name files, or run `cmt sync` for the project's sources"
        )
    with ctx.obj.stage("ingest"), contextlib.ExitStack() as stack:
        if paths == ["-"]:
            file = stack.enter_context(scratch_folder(ctx.obj.project.state)) / "stdin"
            with file.open("wb") as target:
                shutil.copyfileobj(sys.stdin.buffer, target)
            paths = [str(file)]
        result = ctx.obj.workspace.ingest(
            source=paths,
            file_format=format_,
            period=int(period) if period and period.isdecimal() else period,
            publisher=publisher,
            columns=columns,
            published_at=published_at,
            dry_run=dry_run,
        )
    print_result(result, lambda: output.write_ingested(result), as_json=as_json)
    if dry_run and result.rejected_fraction == 1 and not result.waiting:
        raise StreamError("no row can be ingested: see above")  # as without --dry-run


app.command(epilog="Example: cmt sync news --dry-run")(sync)


@app.command(epilog="Example: cmt update --all")
def update(
    ctx: typer.Context,
    slice_: Annotated[
        str | None,
        typer.Option(
            "--slice", metavar="SLICE", help="The slice. Default: the oldest pending one."
        ),
    ] = None,
    every: Annotated[
        bool, typer.Option("--all", help="Every pending slice, oldest first, refused ones last.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Run a round: compress a slice, upsert its memories, evaluate, then commit or restore the
    bank.
    """
    from cmt.evaluation.gate.judgement import changed_answers

    if slice_ and every:
        raise typer.BadParameter("use --slice or --all, not both", param_hint="--slice")
    workspace: Workspace = ctx.obj.workspace
    rounds = []
    # 1. the rounds; a refused or failed one does not stop the others
    with ctx.obj.stage("load") as progress:
        if not slice_ and not workspace.project.store.slices():
            raise StreamError(
                f"no slice in {workspace.params.stream.path}: `cmt ingest` documents first"
            )
        for slice_id in [slice_] if slice_ else workspace.pending()[: None if every else 1]:
            progress.title = slice_id
            progress.stage("open")
            rounds.append(workspace.update(slice_id=slice_id, progress=progress))
    # 2. the result
    nothing = "nothing to do: every slice has a round"
    if not rounds and workspace.activate_if_complete():
        compressor = workspace.project.compressor_digest[:12]
        nothing = f"every slice has a round; compressor {compressor} answers now"
    show = partial(output.write_rounds, rounds, partial(changed_answers, workspace.project.state))
    print_result({"rounds": rounds}, show if rounds else nothing, as_json=as_json)
    if problems := [round_.problem for round_ in rounds if round_.problem]:
        raise RoundError("; ".join(problems))


@app.command(epilog="Example: cmt --set train.questions=2000 train")
def train(
    ctx: typer.Context,
    plan: Annotated[
        bool,
        typer.Option(
            "--plan", help="Run a few steps, print what the training will take; write nothing."
        ),
    ] = False,
    as_json: Json = False,
) -> None:
    """Train a compressor for the language model, or continue from the last checkpoint."""
    if plan:
        with ctx.obj.stage("plan"), contextlib.redirect_stdout(sys.stderr):
            measured = ctx.obj.workspace.plan_training()
        record = asdict(measured) | {
            "pairs_per_hour": measured.pairs_per_hour,
            "curve": measured.curve(),
        }
        print_result(record, lambda: output.write_plan(measured), as_json=as_json)
        return
    with (
        ctx.obj.stage("train"),
        contextlib.redirect_stdout(sys.stderr),
    ):  # the Trainer prints its log
        folder, scored = ctx.obj.workspace.train()
    scores = f"F1 {scored.scores.f1:.1f} on {scored.scores.n} held-out questions"
    line = f"the compressor is in {folder}, {scores}; set compressor.path to use it"
    print_result({"path": folder, "held_out": scored.to_json()}, line, as_json=as_json)


@app.command(epilog="Example: cmt --set compressor.window=16 codebook --bytes 36")
def codebook(
    ctx: typer.Context,
    parts: Annotated[
        int | None,
        typer.Option(
            "--bytes",
            min=1,
            metavar="N",
            help="Bytes of a vector, a divisor of the LM's hidden size. Default: a 16th of it.",
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Fit the codebook of memory vectors (bank.codes: auto, pq) to training documents
    (train.source).
    """
    with ctx.obj.stage("codebook") as progress:
        fitted = ctx.obj.workspace.fit_codebook(parts=parts, progress=progress)
    path = ctx.obj.workspace.params.compressor.path
    line = f"codebook {fitted.name} is in {path}; bank.codes auto and pq use it in a new bank"
    print_result({"codes": fitted.name, "path": path}, line, as_json=as_json)


app.command(epilog="Example: cmt ask 'Who is the mayor of Port Ellery?' --as-of 2031-02-15")(ask)
app.command(epilog="Example: cmt history 'Who is the mayor of Port Ellery?'")(history)
app.command(epilog="Example: cmt chat --as-of 2031-02-15")(chat)


@app.command(epilog="Example: cmt evaluate --questions 200 --json")
def evaluate(
    ctx: typer.Context,
    questions: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="A sample of N, drawn with the seed. Default: all."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Score CMT, the LM without memory, and the LM with the best text in its prompt on the stream's
    questions.
    """
    workspace: Workspace = ctx.obj.workspace
    available = workspace.project.store.all_questions().num_rows
    if not available:
        raise StreamError(
            f"the stream in {workspace.params.stream.path} has no questions: `cmt ingest` some "
            "first"
        )
    systems = 3 if workspace.params.evaluation.baselines else 1
    with ctx.obj.stage("evaluate", systems * min(questions or available, available)) as progress:
        evaluation = workspace.evaluate(limit=questions, on_progress=progress.advance)
    print_result(evaluation.to_json(), lambda: output.write_evaluation(evaluation), as_json=as_json)


@app.command(epilog="Example: cmt rounds --json")
def rounds(ctx: typer.Context, as_json: Json = False) -> None:
    """List the rounds with their scores."""
    ledger_rounds = ctx.obj.project.ledger.rounds()
    print_result(
        {"rounds": ledger_rounds}, lambda: output.write_rounds(ledger_rounds), as_json=as_json
    )


@app.command(epilog="Example: cmt rollback 2031-02/0001")
def rollback(
    ctx: typer.Context,
    round_id: Annotated[str, typer.Argument(metavar="ROUND")],
    as_json: Json = False,
) -> None:
    """Restore the bank to the version before a round; that round and all later ones are pending
    again.
    """
    with ctx.obj.stage("rollback"):
        # checked in the ledger first, so that a wrong name loads no LM
        committed = [
            r.round_id
            for r in ctx.obj.project.ledger.rounds()
            if r.state in ("committed", "rolling_back")
        ]
        if round_id not in committed:
            names = ", ".join(dict.fromkeys(committed)) or "none"
            raise RoundError(f"no committed round {round_id!r}; there are: {names}")
        round_ = ctx.obj.workspace.rollback(round_id)
    line = (
        f"the bank is restored to the version before {round_id}; that round and all later "
        "ones are pending"
    )
    print_result(round_, line, as_json=as_json)


app.command(epilog="Example: cmt changes --reject 3f2a9c01b7de")(changes)


@app.command(epilog="Example: cmt forget --source 'The Courier' --purge")
def forget(  # noqa: PLR0913 - the options of a command
    ctx: typer.Context,
    doc_ids: Annotated[list[str] | None, typer.Argument(metavar="[DOC_ID]...")] = None,
    source: Annotated[
        str | None,
        typer.Option(metavar="SOURCE", help="All documents of the stream with this source."),
    ] = None,
    matching: Annotated[
        str | None,
        typer.Option(
            metavar="QUERY", help="All documents of the bank whose text has every word of QUERY."
        ),
    ] = None,
    purge: Annotated[
        bool,
        typer.Option(
            "--purge",
            help="Also remove the texts and all older versions from everything that the "
            "project wrote.",
        ),
    ] = False,
    everywhere: Annotated[
        bool,
        typer.Option(
            "--everywhere",
            help="Refuse near-copies from every source, not only the documents' own.",
        ),
    ] = False,
    undo: Annotated[
        bool,
        typer.Option(
            "--undo", help="Purge forgotten documents, then let their texts be ingested again."
        ),
    ] = False,
    listed: Annotated[bool, typer.Option("--list", help="List the forgotten documents.")] = False,
    yes: Annotated[
        bool, typer.Option("--yes", help="Forget the found documents without asking.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Remove documents' memories for good: no rollback, later round or ingest restores them or
    near-copies.

    --source and --matching print the documents that they find; on a terminal they ask, elsewhere
    they need --yes.
    """
    workspace: Workspace = ctx.obj.workspace
    searched = bool(source or matching)
    if listed:
        if any((doc_ids, searched, purge, everywhere, undo, yes)):
            raise typer.BadParameter(
                "it takes no document and no other option", param_hint="--list"
            )
        _list_forgotten(workspace, as_json=as_json)
        return
    _check_forget(doc_ids, searched=searched, undo=undo, other=purge or everywhere)
    # 1. the documents; the user confirms what a search finds
    wanted = list(dict.fromkeys(doc_ids or []))
    if searched:
        candidates = workspace.forgettable(source=source, matching=matching, purge=purge)
        if not _agreed(candidates, yes=yes, purge=purge, as_json=as_json):
            return
        wanted = list(dict.fromkeys(candidate.doc_id for candidate in candidates))
    # 2. forget them
    with ctx.obj.stage("purge" if purge or undo else "forget"):
        report = workspace.forget_all(wanted, purge=purge, everywhere=everywhere, undo=undo)
    single = {"doc_id": wanted[0]} if len(wanted) == 1 else {}
    record = single | asdict(report) | {"forgotten": not undo}
    print_result(record, partial(output.write_forgotten, report, undo=undo), as_json=as_json)


def _check_forget(doc_ids: list[str] | None, *, searched: bool, undo: bool, other: bool) -> None:
    """Raise BadParameter if the options of `cmt forget` contradict each other. `searched`: whether
    --source or --matching is given, `other`: --purge or --everywhere.
    """
    if undo and (searched or other):
        raise typer.BadParameter(
            "--undo takes only doc_ids: `cmt forget --list` prints them", param_hint="--undo"
        )
    if not (doc_ids or searched):
        raise typer.BadParameter(
            "name a document, or use --source or --matching", param_hint="DOC_ID"
        )
    if doc_ids and searched:
        raise typer.BadParameter(
            "name documents, or let --source and --matching find them", param_hint="DOC_ID"
        )


def _list_forgotten(workspace: "Workspace", *, as_json: bool) -> None:
    documents = workspace.forgotten_documents()
    if documents:
        show = partial(output.write_forgotten_documents, documents)
        print_result({"documents": documents}, show, as_json=as_json)
    else:
        print_result({"documents": documents}, "nothing is forgotten", as_json=as_json)


def _agreed(candidates: "Sequence[Candidate]", *, yes: bool, purge: bool, as_json: bool) -> bool:
    """Print the documents that a search found; return whether they may be forgotten."""
    if candidates and not as_json:
        rows = [
            [
                each.published_at.date(),
                each.doc_id,
                each.title or each.begins,
                each.source or MISSING,
            ]
            for each in candidates
        ]
        output.write_table(["date", "doc_id", "title", "source"], rows, left=4)
    if not candidates:
        reason = "no document matches"
    elif yes or _confirmed(len(candidates), purge=purge, as_json=as_json):
        return True
    else:
        reason = "run the command again with --yes"
    separator = ":" if candidates else ","
    record = {"documents": candidates, "forgotten": False}
    print_result(record, f"nothing was forgotten{separator} {reason}", as_json=as_json)
    return False


@app.command(epilog="Example: cmt verify --json")
def verify(ctx: typer.Context, as_json: Json = False) -> None:
    """Check language model, compressor, slices, ledger and banks for damage; exit with 1 if any is
    damaged.
    """
    with ctx.obj.progress as progress:
        reports = ctx.obj.workspace.verify(progress=progress)
    problems = sum(len(report.problems) for report in reports)
    print_result(
        {"parts": reports, "problems": problems},
        lambda: output.write_verified(reports),
        as_json=as_json,
    )
    if problems:
        parts = ", ".join(report.part for report in reports if report.problems)
        raise DamageError(f"{counted(problems, 'problem')} in {parts}: see above")


@app.command(epilog="Example: cmt lineage 2031-01/0001")
def lineage(
    ctx: typer.Context,
    name: Annotated[
        str,
        typer.Argument(
            metavar="ROUND|VERSION|ANSWER|DOCUMENT",
            help="A round, a version of the registry, the id of an answer, or a document.",
        ),
    ],
    as_json: Json = False,
) -> None:
    """Trace a round, a registered compressor, an answer or a document: its inputs, runs and
    outcome.
    """
    from cmt.rounds.care.lineage import lineage

    found = lineage(ctx.obj.project, name)
    if as_json:
        return output.write_json({"lineage": found})
    for one in found:
        output.write_table([one.name, ""], [*one.facts.items()], left=2)


@app.command(epilog="Example: cmt recompress")
def recompress(ctx: typer.Context, as_json: Json = False) -> None:
    """Fill the bank of the champion slice by slice, check its answers, and make it the active
    bank.
    """
    from cmt.rounds.recompression import recompress

    with ctx.obj.stage("load") as progress:

        def on_slice(slice_id: str, left: int) -> None:
            progress.title = f"{slice_id} ({left:,} left)"

        result = recompress(ctx.obj.project, progress=progress, on_slice=on_slice)
    line = (
        f"{result.slices:,} slices, {result.documents:,} documents in {result.seconds:,.1f} "
        "s; compressor "
    )
    line += f"{result.compressor[:12]} {'answers now' if result.moved else 'answered before'}"
    print_result(result, line, as_json=as_json)


@bank.command("stats", epilog="Example: cmt bank stats --json")
def bank_stats(ctx: typer.Context, as_json: Json = False) -> None:
    """Count rows, documents and bytes."""
    result = ctx.obj.project.active.stored().stats()
    print_result(result, lambda: output.write_bank_stats(result), as_json=as_json)


@bank.command("optimize", epilog="Example: cmt bank optimize --keep-days 30")
def optimize_banks(
    ctx: typer.Context,
    keep_days: Annotated[
        float | None,
        typer.Option(
            min=0,
            metavar="DAYS",
            help="Drop older versions, which no rollback can then restore. Default: none.",
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Rebuild the indexes and compact the files, in the banks of all compressors."""
    from cmt.rounds.care.maintenance import optimize

    with ctx.obj.progress as progress:
        result = optimize(ctx.obj.project, keep_days=keep_days, progress=progress)
    print_result(result, lambda: output.write_bank_stats(result), as_json=as_json)


def _confirmed(documents: int, *, purge: bool, as_json: bool) -> bool:
    """Whether the user agrees; False if stdin and stderr are not a terminal."""
    if as_json or not (sys.stdin.isatty() and sys.stderr.isatty()):
        return False
    what = "purge, with all earlier versions of the bank," if purge else "forget"
    try:
        return typer.confirm(f"{what} {documents:,} documents?", err=True)
    except typer.Abort:  # Ctrl-C, or the end of the input
        raise KeyboardInterrupt from None


# in the order of --help, after the commands above
app.command(epilog="Example: cmt serve --port 8000")(serve)
app.command(epilog="Example: cmt --params /home/me/news/params.yaml mcp")(mcp)
app.command("try", epilog="Example: cmt try --port 8000")(try_newspaper)
app.command(epilog="Example: cmt baselines --rows closed,rag-bm25-1,cmt --questions 100")(baselines)
app.command(epilog="Example: cmt report --out report/index.html")(report)
app.add_typer(bank, name="bank")
app.add_typer(model, name="model")
app.add_typer(data, name="data")
app.add_typer(registry, name="registry")
app.add_typer(token, name="token")
