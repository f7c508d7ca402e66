"""`make demo`: the bundled newspaper through a Prefect server, a worker and the deployment, with a
table of scores.

One flow run adapts every month that is pending; a row is printed as soon as its round is committed.
A second flow run asks closed-book and RAG the same sample of questions as the memory. A month that
is adapted is not adapted again.
"""

import signal
import time
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from filelock import FileLock, Timeout

from cmt.bank.rounds import flat_scores
from cmt.cli.output import console, write_line
from cmt.cli.progress_bar import ProgressBar
from cmt.common.storage import read_json, write_json
from cmt.errors import CmtError, RoundError
from cmt.rounds.budget import FEWEST_QUESTIONS
from cmt.text.display import format_optional
from cmt.workspace import Workspace, open
from flows.artifacts import EVALUATION_FILE
from flows.local.prefect import local_prefect

ROOT = Path(__file__).parents[2]
HOME = ROOT / ".prefect/demo"
# sample of all months' questions that memory, closed-book and RAG are asked at the end
FINAL_QUESTIONS = 60
# time limit for measuring a month, in seconds: `make demo` asks as many questions as fit
MONTH_SECONDS = 40
# key of a row → title, width (negative: left-justified), decimals
COLUMNS = {
    "slice": ("slice", -14, 0),
    "documents": ("documents", 9, 0),
    "adapt_seconds": ("adapt, s", 8, 1),
    "questions": ("questions", 9, 0),
    "em": ("EM", 5, 1),
    "f1": ("F1", 5, 1),
    "interval": ("95 %", 11, 0),
    "closed_f1": ("closed-book F1", 14, 1),
    "rag_f1": ("RAG top-1 F1", 12, 1),
    "recall": ("recall@K", 8, 3),
    "measure_seconds": ("measure, s", 10, 1),
}


def main() -> int:
    """Run the demo; the exit status: 0, 1 with a message, 130 or more when it was interrupted."""
    # a shell ignores SIGINT for background jobs, and the worker would inherit that and never stop
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:  # nohup ignores SIGHUP on purpose
            signal.signal(number, _terminate)
    HOME.parent.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(f"{HOME}.lock", timeout=0):
            demo()
            return 0
    except Timeout:
        message = (
            f"another demo is running in this folder (it holds {HOME}.lock): wait for it, or end it"
        )
    except CmtError as error:
        message = str(error)
    except KeyboardInterrupt:
        write_line(
            "interrupted: `make demo` resumes with the round that was not finished", stderr=True
        )
        return 130
    console(stderr=True).print(
        f"error: {message}", style="red", soft_wrap=True
    )  # the message may have several lines
    return 1


def _terminate(number: int, _: FrameType | None) -> NoReturn:
    raise SystemExit(128 + number)


def demo() -> None:
    """Everything between a fresh clone and metrics/demo.json. Raises CmtError."""
    started = time.monotonic()
    # 1. the base LM and the slices
    workspace = open(params=ROOT / "params.yaml")
    with ProgressBar(console(stderr=True)) as progress:
        progress.stage("pull")
        workspace.pull(on_progress=progress.at)
        progress.stage("ingest")
        workspace.ingest()
    # 2. a round for every pending slice, and the comparison at the end
    slice_ids = [slice_.slice_id for slice_ in workspace.project.store.slices()]
    pending = workspace.pending()
    final = None if pending else _final_scores(workspace)
    table = _Table(workspace, slice_ids, already=set(slice_ids) - set(pending))
    with nullcontext() if final else local_prefect(root=ROOT, home=HOME) as prefect:
        table.print_committed()
        if prefect and pending:
            prefect.run(
                "cmt/online-update", on_poll=table.print_committed, measure_seconds=MONTH_SECONDS
            )
            table.print_committed()
        if table.missing:
            raise RoundError(
                f"no committed round for {table.missing[0]}: see `cmt rounds` and "
                f"{HOME / 'worker.log'}"
            )
        if prefect:
            prefect.run("cmt/evaluate", limit=FINAL_QUESTIONS)
            final = _final_scores(workspace)
    if final is None:
        raise RoundError(f"the evaluation left no scores: see {HOME / 'worker.log'}")
    # 3. the compressor in MLflow's registry
    if workspace.params.tracking.enabled:
        _register(workspace)
    # 4. the last row, and the file
    rows = table.rows
    rows[-1] |= {name: final[name] for name in ("closed_f1", "rag_f1")}
    console().print(_line({"slice": "all months"} | final), style="bold", soft_wrap=True)
    _finish(workspace, rows, final, seconds=round(time.monotonic() - started, 1))


class _Table:
    """The rows of the committed rounds, printed in the order of the slices."""

    def __init__(self, workspace: Workspace, slice_ids: list[str], *, already: set[str]) -> None:
        self._workspace, self._already = workspace, already
        self.missing = slice_ids
        self.rows: list[dict[str, Any]] = []
        console().print(
            _line({name: title for name, (title, *_) in COLUMNS.items()}),
            style="bold",
            soft_wrap=True,
        )

    def print_committed(self) -> None:
        """Print the rounds that were committed since the last call."""
        if not self.missing:
            return
        committed = {
            round_.slice_id: round_
            for round_ in self._workspace.rounds()
            if round_.state == "committed"
        }
        while self.missing and self.missing[0] in committed:
            slice_id, *self.missing = self.missing
            round_ = committed[slice_id]
            row = {"slice": slice_id} | {
                name: getattr(round_, name) for name in ("documents", "rows", "questions")
            }
            names = ("em", "f1", "f1_low", "f1_high", "closed_f1", "rag_f1", "recall")
            scores = flat_scores(round_.scores)
            row |= {name: scores.get(name) for name in names}
            row |= {
                name: round(getattr(round_, name), 1)
                for name in ("adapt_seconds", "measure_seconds")
            }
            self.rows.append(row | {"seconds": round(sum(round_.seconds.values()), 1)})
            note = "  already there" if slice_id in self._already else ""
            console().print(_line(self.rows[-1]) + note, soft_wrap=True)


def _line(row: Mapping[str, Any]) -> str:
    if isinstance(row.get("f1_low"), float):
        row = {**row, "interval": f"{row['f1_low']:.1f} – {row['f1_high']:.1f}"}
    cells = []
    for name, (_, width, decimals) in COLUMNS.items():
        value = row.get(name)
        cell = format_optional(value, f".{decimals}f" if isinstance(value, float) else "")
        cells.append(cell.ljust(-width) if width < 0 else cell.rjust(width))
    return "  ".join(cells)


def _final_scores(workspace: Workspace) -> dict[str, Any] | None:
    """Scores of the last `cmt/evaluate` as one row; None when it was of another bank, sample, or
    never run.
    """
    try:
        record = read_json(workspace.project.state / EVALUATION_FILE, dict[str, Any])
        if (
            record["bank_digest"] != workspace.project.active.stored().digest()
            or record["limit"] != FINAL_QUESTIONS
        ):
            return None
    except (OSError, ValueError, LookupError):
        return None
    systems = {system["row"]: system for system in record["rows"]}
    memory = systems["cmt"]
    return {
        "questions": memory["n"],
        "em": memory["em"],
        "f1": memory["f1"],
        "f1_low": memory["ci"][0],
        "f1_high": memory["ci"][1],
        "recall": memory["recall"],
        **{f"{name}_f1": systems[name]["f1"] for name in ("closed", "rag")},
        "measure_seconds": round(sum(system["seconds"] for system in systems.values()), 1),
    }


def _register(workspace: Workspace) -> None:
    """Register the compressor in use, without scores; champion if there was none. A failure is a
    warning.
    """
    from cmt.rounds.promotion import promote_version

    folder, project = workspace.params.compressor.path, ROOT / "params.yaml"
    try:
        version = workspace.project.registry.add(
            folder, project=project, params=workspace.params, scores={}, held_out=""
        )
        promote_version(workspace.project, version)
    except CmtError as error:
        write_line(
            f"warning: the compressor is not registered: {error}", style="yellow", stderr=True
        )


def _finish(
    workspace: Workspace, rows: list[dict[str, Any]], final: dict[str, Any], *, seconds: float
) -> None:
    """Write metrics/demo.json and print the last two lines."""
    digest = workspace.project.active.stored().digest()
    write_json(
        ROOT / "metrics/demo.json",
        {"rounds": rows, "final": final, "bank_digest": digest, "seconds": seconds},
    )
    last = [round_ for round_ in workspace.rounds() if round_.state == "committed"][-1].bank_digest
    same = (
        "as the last round left it"
        if digest == last
        else f"changed since the last round, which left {last}"
    )
    documents = sum(row["documents"] for row in rows)
    adapt = sum(row["adapt_seconds"] for row in rows)
    lines = [
        f"{documents} articles adapted in {adapt:.1f} s; EM and F1 (0–100) of as many "
        "questions a month as fit into "
        f"{MONTH_SECONDS} s, at least {FEWEST_QUESTIONS}; baselines on {final['questions']} of "
        "all months",
        f"bank digest {digest}, {same}; metrics/demo.json written; {seconds:.0f} s",
    ]
    console().print("\n".join(lines), soft_wrap=True)


if __name__ == "__main__":
    raise SystemExit(main())
