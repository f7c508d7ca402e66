"""`cmt baselines`: the memory beside what it has to beat, on the stream's own questions."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from cmt.cli import output
from cmt.cli.context import Json, report

if TYPE_CHECKING:
    from cmt.evaluation.comparison import SystemResult
    from cmt.workspace import Workspace

_HELP = (
    "Of closed, full, rag-bm25-1, rag-bm25-3, rag-dense-1, rag-dense-3, rag-hybrid-1, rag-hybrid-3, uniform, salient, "
    "camels, mac, cmt. Default: all of them."
)


def baselines(
    ctx: typer.Context,
    rows: Annotated[str | None, typer.Option(metavar="NAME,…", help=_HELP)] = None,
    questions: Annotated[int, typer.Option(min=1, help="A sample of at most so many.")] = 200,
    as_json: Json = False,
) -> None:
    """Measure ways of answering on the same questions, each with its cost; `cmt report` shows them too."""
    from cmt.evaluation.comparison import Comparison, known_systems
    from cmt.evaluation.systems import SYSTEMS
    from cmt.evaluation.testbed import ComparisonData
    from cmt.report.comparison import keep

    workspace: Workspace = ctx.obj.workspace
    names = known_systems(list(SYSTEMS) if rows is None else [name.strip() for name in rows.split(",")])
    with ctx.obj.display as display:
        display.stage("load")
        data = ComparisonData.of(workspace, limit=questions, progress=display)
        found = Comparison(data).measure(names)
        keep(workspace, found, data.testbed.lineage)
    whole = {"rows": [row.to_json() for row in found], "lineage": data.testbed.lineage}
    report(whole, lambda: _write(found), as_json=as_json)


def _write(rows: "Sequence[SystemResult]") -> None:
    names = ["row", "EM", "F1", "95 %", "behind cmt", "recall", "MRR"]
    costs = ["adapt, s", "s a question", "peak, GB", "stored, MB", "tokens a question"]
    output.write_table(names + costs, [[*_scores(row), *_costs(row)] for row in rows])


def _scores(row: "SystemResult") -> list[str]:
    scores = row.scores
    behind = "–" if row.behind is None else "{:.1f} ({:.1f} – {:.1f})".format(*row.behind)
    shares = ["–" if share is None else f"{share:.3f}" for share in (scores.recall, row.mrr)]
    return [row.system, f"{scores.em:.1f}", f"{scores.f1:.1f}", "{:.1f} – {:.1f}".format(*scores.ci), behind, *shares]


def _costs(row: "SystemResult") -> list[str]:
    cost = row.cost
    return [
        "–" if cost.adapt_seconds is None else f"{cost.adapt_seconds:.1f}",
        f"{cost.seconds_per_question:.3f}",
        "–" if cost.peak_bytes is None else f"{cost.peak_bytes / 1e9:.2f}",
        f"{cost.stored_bytes / 1e6:.2f}",
        f"{cost.tokens_per_question:.0f}",
    ]
