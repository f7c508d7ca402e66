"""`make demo`: the bundled newspaper, month by month, through a Prefect server, a worker and the deployment.

A month whose round is there is not run again; when all are, no server is started.
"""

import signal
import time
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from filelock import FileLock, Timeout

from cmt.bank.ledger import Round
from cmt.cli.output import console
from cmt.cli.progress_bar import ProgressBar
from cmt.common.storage import write_json
from cmt.common.text import format_optional
from cmt.errors import CmtError, RoundError
from cmt.workspace import Workspace, open
from flows.local_prefect import Services, services

ROOT = Path(__file__).parents[1]
HOME = ROOT / ".prefect" / "demo"
DEPLOYMENT = "cmt/online-update"
# column of the table and key of metrics/demo.json → title, width
COLUMNS = {
    "slice": ("slice", -14),
    "documents": ("documents", 9),
    "rows": ("bank rows", 9),
    "em": ("EM", 6),
    "f1": ("F1", 6),
    "closed_f1": ("closed-book F1", 14),
    "rag_f1": ("RAG top-1 F1", 12),
    "recall": ("recall@K", 8),
    "seconds": ("seconds", 8),
}


def main() -> int:
    """Run the demo; the exit status: 0, 1 with a message, 130 or more when it was interrupted."""
    # in a shell's background it is ignored, and so would the worker that has to stop by it
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:  # as nohup wants it
            signal.signal(number, _terminate)
    HOME.parent.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(f"{HOME}.lock", timeout=0):
            demo()
    except Timeout:
        return _failed(f"another demo is running in this folder, it holds {HOME}.lock: wait for it, or end it")
    except CmtError as error:
        return _failed(str(error))
    except KeyboardInterrupt:
        console(stderr=True).print("interrupted: `make demo` goes on with the round that was not finished")
        return 130
    return 0


def demo() -> None:
    """Everything between a fresh clone and metrics/demo.json. Raises CmtError."""
    started = time.monotonic()
    workspace = open(params=ROOT / "params.yaml")
    with ProgressBar(console(stderr=True)) as display:
        display.stage("pull")
        workspace.pull(on_progress=display.at)
        display.stage("ingest")
        workspace.ingest()
    waiting = workspace.pending()
    with services(root=ROOT, home=HOME) if waiting else nullcontext() as prefect:
        rows = _rounds(workspace, waiting, prefect)
    _finish(workspace, rows, seconds=round(time.monotonic() - started, 1))


def _rounds(workspace: Workspace, waiting: list[str], prefect: Services | None) -> list[dict[str, Any]]:
    """A row a round, printed as soon as it is there."""
    out, rows = console(), []
    out.print(_line({name: title for name, (title, _) in COLUMNS.items()}), style="bold", soft_wrap=True)
    for slice_id in [slice_.slice_id for slice_ in workspace.store.slices()]:
        if prefect and slice_id in waiting:
            prefect.run(DEPLOYMENT, slice_id)
        rows.append(_row(_committed(workspace, slice_id)))
        note = "" if slice_id in waiting else "  already there"
        out.print(_line(rows[-1]) + note, soft_wrap=True)
    return rows


def _committed(workspace: Workspace, slice_id: str) -> Round:
    for round_ in workspace.rounds():
        if round_.slice_id == slice_id and round_.state == "committed":
            return round_
    raise RoundError(f"the flow run of {slice_id} left no committed round: see `cmt rounds` and {HOME / 'worker.log'}")


def _finish(workspace: Workspace, rows: list[dict[str, Any]], *, seconds: float) -> None:
    digest = workspace.stored_bank.digest()
    last = [round_ for round_ in workspace.rounds() if round_.state == "committed"][-1].bank_digest
    write_json(ROOT / "metrics" / "demo.json", {"rounds": rows, "bank_digest": digest, "seconds": seconds})
    same = "as the last round left it" if digest == last else f"changed since the last round, which left {last}"
    console().print(f"bank digest {digest}, {same}; metrics/demo.json written; {seconds:.0f} s", soft_wrap=True)


def _row(round_: Round) -> dict[str, Any]:
    """A round in metrics/demo.json."""
    counts = {"slice": round_.slice_id, "documents": round_.documents, "rows": round_.rows}
    scores = {name: round_.scores.get(name) for name in ("em", "f1", "closed_f1", "rag_f1", "recall")}
    return {**counts, **scores, "seconds": round(sum(round_.seconds.values()), 1)}


def _line(row: Mapping[str, Any]) -> str:
    cells = []
    for name, (_, width) in COLUMNS.items():
        cell = _cell(row[name], digits=3 if name == "recall" else 1)
        cells.append(cell.ljust(-width) if width < 0 else cell.rjust(width))
    return "  ".join(cells)


def _cell(value: Any, *, digits: int) -> str:
    return format_optional(value, f".{digits}f" if isinstance(value, float) else "")


def _failed(message: str) -> int:
    console(stderr=True).print(f"error: {message}", style="red", soft_wrap=True)
    return 1


def _terminate(number: int, _: FrameType | None) -> NoReturn:
    raise SystemExit(128 + number)


if __name__ == "__main__":
    raise SystemExit(main())
