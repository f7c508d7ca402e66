"""`cmt …`: each command opens the workspace, does one thing and reports it.

stdout has the report alone, with --json nothing but JSON; progress, warnings and errors go to stderr. Exit status: 0,
1 failed, 2 bad usage, 130 interrupted. What takes long to import is imported by the command that needs it.
"""

import contextlib
import io
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cmt.cli import output
from cmt.cli.bank import bank
from cmt.cli.compare import baselines
from cmt.cli.context import CliContext, Commands, Json, instant, overrides, report
from cmt.cli.registry import registry
from cmt.cli.report import reports
from cmt.cli.serve import serve
from cmt.common.text import plain
from cmt.errors import RoundError, StreamError

if TYPE_CHECKING:
    from cmt.workspace import Workspace

app = typer.Typer(cls=Commands, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
model = typer.Typer(no_args_is_help=True, help="The base language model.")
data = typer.Typer(no_args_is_help=True, help="The training data.")


def main() -> None:
    """Entry point of the console script."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a terminal without UTF-8 gets escapes, not a traceback
    app(prog_name="cmt")


def _version(wanted: bool) -> None:
    if wanted:
        from cmt import __version__

        typer.echo(f"cmt {__version__}")
        raise typer.Exit


@app.callback(epilog="Example: cmt --set selection.top_k=4 ask 'Who is the mayor of Port Ellery?'")
def options(
    ctx: typer.Context,
    params: Annotated[Path, typer.Option(metavar="FILE", help="The project's parameters.")] = Path("params.yaml"),
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="SECTION.KEY=VALUE", help="Override one; can be repeated.")
    ] = None,
    _: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")] = False,
) -> None:
    """Keep a frozen language model in step with a stream of documents."""
    ctx.obj = CliContext(params, overrides(set_ or []))


@model.command("pull", epilog="Example: cmt model pull --verify")
def model_pull(
    ctx: typer.Context,
    verify: Annotated[bool, typer.Option("--verify", help="Read every weight and compare the digest.")] = False,
    as_json: Json = False,
) -> None:
    """Fetch, check and convert the base LM, unless it is there."""
    from cmt.lm import weights

    workspace: Workspace = ctx.obj.workspace
    lm = workspace.params.lm
    with ctx.obj.display as display:
        display.stage("pull")
        folder = workspace.pull(on_progress=display.at)
        if verify:
            display.stage("verify")
            weights.verify(source=lm.source, path=lm.path)
    line = f"{lm.source} is in {folder}{', every weight as it was pulled' if verify else ''}"
    report({"source": lm.source, "path": folder, "verified": verify}, line, as_json=as_json)


@data.command("pull", epilog="Example: cmt --set train.source=hub:rajpurkar/squad data pull")
def data_pull(ctx: typer.Context, as_json: Json = False) -> None:
    """Fetch and check what `cmt train` reads: train.source."""
    from cmt.training.data import load_training_data, pull_training_data

    train = ctx.obj.workspace.params.train
    with ctx.obj.display as display:
        display.stage("pull")
        file = pull_training_data(source=train.source, path=train.path)
        documents, questions = map(len, load_training_data(file))
    found = {"source": train.source, "path": file, "documents": documents, "questions": questions}
    report(found, f"{documents:,} documents and {questions:,} questions are in {file}", as_json=as_json)


@app.command(epilog="Example: cmt ingest news.jsonl --format jsonl --period month")
def ingest(
    ctx: typer.Context,
    path: Annotated[Path | None, typer.Argument(metavar="PATH", help="File or folder. Default: stream.source.")] = None,
    format_: Annotated[
        str | None, typer.Option("--format", help="jsonl, parquet, squad, streamingqa or archivalqa.")
    ] = None,
    period: Annotated[str | None, typer.Option(help="day, week, month, or a number of documents a slice.")] = None,
    as_json: Json = False,
) -> None:
    """Check a source row by row, and add what is new as slices."""
    from cmt.stream.periods import period_unit

    wanted = int(period) if period and period.isdecimal() else period
    if wanted is not None:
        period_unit(wanted)  # 0 is no period, and must not fall back on stream.period
    with ctx.obj.display as display:
        display.stage("ingest")
        found = ctx.obj.workspace.ingest(source=path, format=format_, period=wanted)
    report(found, lambda: output.write_ingested(found), as_json=as_json)


@app.command(epilog="Example: cmt update --all")
def update(
    ctx: typer.Context,
    slice_: Annotated[str | None, typer.Option("--slice", help="This slice. Default: the oldest that waits.")] = None,
    every: Annotated[bool, typer.Option("--all", help="Every slice that waits, oldest first.")] = False,
    as_json: Json = False,
) -> None:
    """Run a round: compress a slice, bank it, evaluate, and commit or put the bank back."""
    if slice_ and every:
        raise typer.BadParameter("name a slice or say --all, not both", param_hint="--slice")
    done = []
    with ctx.obj.display as display:
        display.stage("load")
        for slice_id in [slice_] if slice_ else _waiting(ctx.obj.workspace, every=every):
            display.title = slice_id
            display.stage("open")
            done.append(ctx.obj.workspace.update(slice_id=slice_id, progress=display))
            if done[-1].state == "refused":
                break
    nothing = "nothing to do: every slice has its round"
    report({"rounds": done}, (lambda: output.write_rounds(done)) if done else nothing, as_json=as_json)
    if done and done[-1].state == "refused":
        raise RoundError(f"round {done[-1].round_id} was refused and the bank put back: {done[-1].reason}")


@app.command(epilog="Example: cmt --set train.questions=2000 train")
def train(ctx: typer.Context, as_json: Json = False) -> None:
    """Train a compressor for the base LM, or go on from the last checkpoint."""
    with ctx.obj.display as display, contextlib.redirect_stdout(sys.stderr):  # the Trainer prints its log
        display.stage("train")
        folder, scored = ctx.obj.workspace.train()
    line = f"the compressor is in {folder}, held-out F1 {scored.scores.f1:.1f}; compressor.path puts it to use"
    report({"path": folder, "held_out": scored.to_json()}, line, as_json=as_json)


@app.command(epilog="Example: cmt ask 'Who is the mayor of Port Ellery?' --as-of 2031-02-15")
def ask(
    ctx: typer.Context,
    question: Annotated[str, typer.Argument(metavar="QUESTION")],
    as_of: Annotated[
        str | None,
        typer.Option(metavar="DATE", help="As things stood at the end of that day (UTC), or at a date-time with zone."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Answer from memory, and name the articles that the answer rests on."""
    asked, moment = plain(question), instant(as_of) if as_of is not None else None
    if not asked:
        raise typer.BadParameter("the question is empty", param_hint="QUESTION")
    with ctx.obj.display as display:
        display.stage("ask")
        answer = ctx.obj.workspace.ask(asked, as_of=moment, closed_book=True)
    report(output.answer_json(answer, moment), lambda: output.write_answer(answer), as_json=as_json)


@app.command(epilog="Example: cmt evaluate --questions 200 --json")
def evaluate(
    ctx: typer.Context,
    questions: Annotated[int | None, typer.Option(min=1, help="A sample of so many. Default: all.")] = None,
    batch_size: Annotated[
        int | None, typer.Option(min=1, help="Questions answered at once. Default: answering.batch_size.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Ask the stream's questions of the memory, of the LM alone, and of the LM with the best full text."""
    workspace: Workspace = ctx.obj.workspace
    there = sum(slice_.n_questions for slice_ in workspace.store.slices())
    if not there:
        raise StreamError(f"the stream in {workspace.params.stream.path} has no questions: `cmt ingest` some first")
    ways = 3 if workspace.params.evaluation.baselines else 1
    with ctx.obj.display as display:
        display.stage("evaluate", ways * min(questions or there, there))
        found = workspace.evaluate(limit=questions, batch_size=batch_size, on_progress=display.advance)
    report(found.to_json(), lambda: output.write_evaluation(found), as_json=as_json)


@app.command(epilog="Example: cmt rounds --json")
def rounds(ctx: typer.Context, as_json: Json = False) -> None:
    """List the rounds with their scores."""
    found = ctx.obj.workspace.ledger.rounds()
    report({"rounds": found}, lambda: output.write_rounds(found), as_json=as_json)


@app.command(epilog="Example: cmt rollback 2031-02/0001")
def rollback(
    ctx: typer.Context, round_id: Annotated[str, typer.Argument(metavar="ROUND")], as_json: Json = False
) -> None:
    """Put the bank back to before a round; that round and all later ones wait again."""
    with ctx.obj.display as display:
        display.stage("rollback")
        round_ = ctx.obj.workspace.rollback(round_id)
    line = f"the bank is as it was before {round_id}; that round and all later ones wait for `cmt update` again"
    report(round_, line, as_json=as_json)


@app.command(epilog="Example: cmt forget pec-0005")
def forget(ctx: typer.Context, doc_id: Annotated[str, typer.Argument(metavar="DOC_ID")], as_json: Json = False) -> None:
    """Remove a document's memories; no rollback, no later round and no other bank of this stream brings them back.

    Older versions of the bank have them until `cmt bank optimize --keep-days 0`, and the slices keep the document.
    """
    with ctx.obj.display as display:
        display.stage("forget")
        removed = ctx.obj.workspace.forget(doc_id)
    line = f"{doc_id} is forgotten: {removed} row{'s' if removed != 1 else ''} removed"
    report({"doc_id": doc_id, "rows": removed}, line, as_json=as_json)


def _waiting(workspace: "Workspace", *, every: bool) -> list[str]:
    if not workspace.store.slices():
        raise StreamError(f"no slice in {workspace.params.stream.path}: `cmt ingest` documents first")
    waiting = workspace.pending()
    return waiting if every else waiting[:1]


# added last, so that --help lists the way of the data first
app.command(epilog="Example: cmt serve --port 8000")(serve)
app.command(epilog="Example: cmt baselines --rows closed,rag-bm25-1,cmt --questions 100")(baselines)
app.add_typer(reports)
app.add_typer(bank, name="bank")
app.add_typer(model, name="model")
app.add_typer(data, name="data")
app.add_typer(registry, name="registry")
