"""`cmt try`: one month of the bundled newspaper, adapted and served; what `make try` runs after the
installation.
"""

from typing import Annotated

import typer

from cmt.cli._serve import serve
from cmt.cli.context import Json
from cmt.cli.output import write_line, write_lines

FOLDER = "data/try"
QUESTIONS = (
    "Who is the mayor of Port Ellery?",
    "What does a single ticket on the Saltby ferry cost?",
    "What is the capital of Mongolia? (not in memory: no article says it)",
)


def try_newspaper(
    ctx: typer.Context,
    port: Annotated[
        int, typer.Option(metavar="PORT", min=0, max=65_535, help="0: a free port.")
    ] = 0,
    as_json: Json = False,
) -> None:
    """Adapt the first month of the bundled newspaper and serve it: an answer on a web page within a
    minute.

    Works in `data/try`, so the project's own bank stays unchanged. The round is neither evaluated
    nor tracked.
    """
    # 1. a project with its own stream and bank, and the LM and compressor of the present one
    ctx.obj.overrides |= {
        "stream.path": f"{FOLDER}/stream",
        "stream.quarantine": f"{FOLDER}/quarantine",
        "bank.uri": f"{FOLDER}/bank",
        "evaluation.questions": 0,
        "evaluation.earlier_questions": 0,
        "tracking.enabled": False,
    }
    workspace = ctx.obj.workspace
    # 2. the LM, the stream, and one round
    with ctx.obj.stage("pull") as progress:
        workspace.pull(on_progress=progress.at)
        progress.stage("ingest")
        workspace.ingest()
        first = workspace.project.store.slices()[0].slice_id
        if first in workspace.pending():
            progress.title = first
            round_ = workspace.update(slice_id=first, progress=progress)
            progress.title = ""
            message = f"{round_.documents} articles adapted in {round_.adapt_seconds:.1f} s"
        else:
            message = "the articles of the first month are adapted already"
    # 3. serve it
    if not as_json:
        write_line(message, style="bold")
        write_line("three questions to ask on the page:")
        write_lines(QUESTIONS, indent=2)
        write_line("your own documents: .venv/bin/cmt init my-project")
    serve(ctx, host="127.0.0.1", port=port, as_json=as_json)
