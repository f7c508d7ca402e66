"""`cmt baselines` measures the memory and other systems; `cmt report` shows all measurements on one
page.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cmt.cli import output
from cmt.cli.context import Json, print_result
from cmt.text.display import MISSING, format_optional

if TYPE_CHECKING:
    from cmt.evaluation.baselines import SystemResult

_HELP = (
    "Of closed, full, rag-bm25-1, rag-bm25-3, rag-dense-1, rag-dense-3, rag-hybrid-1, "
    "rag-hybrid-3, cmt. Default: all."
)


def baselines(
    ctx: typer.Context,
    rows: Annotated[str | None, typer.Option(metavar="NAME,…", help=_HELP)] = None,
    questions: Annotated[
        int, typer.Option(min=1, metavar="N", help="A sample of at most N.")
    ] = 200,
    as_json: Json = False,
) -> None:
    """Compare systems and their costs on the same questions; `cmt report` shows the result too."""
    from cmt.report.baselines import measure_baselines

    names = None if rows is None else [name.strip() for name in rows.split(",")]
    with ctx.obj.stage("load") as progress:
        results, lineage = measure_baselines(
            ctx.obj.project, names, limit=questions, progress=progress
        )
    record = {"rows": [result.to_json() for result in results], "lineage": lineage}
    columns = ["row", "EM", "F1", "95 %", "behind cmt", "recall"]
    columns += ["adapt, s", "s a question", "peak, GB", "stored, MB", "tokens a question"]
    print_result(
        record, lambda: output.write_table(columns, list(map(_row, results))), as_json=as_json
    )


def report(
    ctx: typer.Context,
    out: Annotated[Path, typer.Option(metavar="FILE", help="The page.")] = Path(
        "report/index.html"
    ),
    as_json: Json = False,
) -> None:
    """Write one HTML page: rounds, baselines, the worst questions, and the inputs of every
    number.
    """
    from cmt.report.page import write_report

    with ctx.obj.stage("load") as progress:
        record = write_report(ctx.obj.project, out, progress=progress)
    content = (
        f"{record['rounds']} rounds, {len(record['systems'])} systems, "
        f"{record['worst_questions']} worst questions"
    )
    print_result(record, f"{out}: {content}, {record['bytes'] / 1e6:.1f} MB", as_json=as_json)


def _row(result: "SystemResult") -> list[str]:
    scores, cost = result.scores, result.cost
    return [
        result.system,
        f"{scores.em:.1f}",
        f"{scores.f1:.1f}",
        "{:.1f} – {:.1f}".format(*scores.ci),
        MISSING if result.behind is None else "{:.1f} ({:.1f} – {:.1f})".format(*result.behind),
        format_optional(scores.recall, ".3f"),
        format_optional(cost.adapt_seconds, ".1f"),
        f"{cost.seconds_per_question:.3f}",
        format_optional(None if cost.peak_bytes is None else cost.peak_bytes / 1e9, ".2f"),
        f"{cost.stored_bytes / 1e6:.2f}",
        f"{cost.tokens_per_question:.0f}",
    ]
