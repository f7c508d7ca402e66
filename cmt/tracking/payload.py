"""What of a round goes to MLflow, and under which names."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cmt.bank.ledger import Round
from cmt.config import Params

_BASELINES = ("closed", "rag")


def round_metrics(round_: Round) -> dict[str, float]:
    """What a round measured: qa/f1, closed/f1, rag/f1 and their kin (0–100), qa/recall (0–1), counts/, seconds/."""
    points = {_score_name(name): value for name, value in round_.scores.items() if value is not None}
    points |= {f"seconds/{stage}": value for stage, value in round_.seconds.items()}
    points |= {"counts/documents": round_.documents, "counts/rows": round_.rows}
    if round_.tokens_per_second is not None:
        points["counts/tokens_per_second"] = round_.tokens_per_second
    return {name: float(value) for name, value in points.items()}


def draw_curve(history: Sequence[Round], path: Path) -> Path | None:
    """F1 and recall@K after each committed round with questions, as a PNG at `path`; None when there is none."""
    from cmt.common.plots import round_curve

    rounds = [(r.slice_id, {"rows": _rows(r.scores)}) for r in history if r.state == "committed"]
    scored = [(slice_id, scores) for slice_id, scores in rounds if scores["rows"]]
    if not scored:
        return None
    round_curve(rounds=scored, path=path)
    return path


def flat_params(params: Params) -> dict[str, str]:
    """The parameters that shape a round, by dotted key."""
    sections = params.model_dump(mode="json", exclude={"train", "tracking", "stream"})
    flat = {"seed": str(sections.pop("seed"))}
    return flat | {f"{name}.{key}": str(v) for name, section in sections.items() for key, v in section.items()}


def lineage(round_: Round) -> dict[str, str]:
    """Where a round comes from and what became of it, as tags."""
    names = ("round_id", "slice_id", "slice_digest", "compressor", "dtype", "bank_params", "params_digest")
    became = ("state", "reason", "version_before", "version_after", "bank_digest")
    values = {name: getattr(round_, name) for name in names + became}
    tags = {f"cmt.{name}": str(value) for name, value in values.items() if value not in (None, "")}
    tags["cmt.round"] = tags.pop("cmt.round_id")
    links = {"mlflow.source.git.commit": round_.git_commit.rstrip("+"), "cmt.git_commit": round_.git_commit}
    return tags | {name: value for name, value in (links | {"cmt.prefect_run": round_.prefect_run}).items() if value}


def _score_name(name: str) -> str:
    group, _, rest = name.partition("_")
    return f"{group}/{rest}" if group in _BASELINES else f"qa/{name}"


def _rows(scores: Mapping[str, float | None]) -> list[dict[str, Any]]:
    """Flat scores as the rows of an evaluation."""
    prefixes = {"cmt": "", **{name: f"{name}_" for name in _BASELINES}}
    return [
        {
            "row": name,
            "f1": scores[f"{prefix}f1"],
            "ci": [scores[f"{prefix}f1_low"], scores[f"{prefix}f1_high"]],
            "recall": scores[f"{prefix}recall"],
        }
        for name, prefix in prefixes.items()
        if f"{prefix}f1" in scores
    ]
