"""The metrics, parameters and tags of a round in MLflow."""

from collections.abc import Sequence

from cmt.bank.rounds import MEMORY, Round
from cmt.common.secrets import mask_secrets
from cmt.config import Params
from cmt.text.display import MISSING, format_optional

# rounds in a description: MLflow cuts a tag at 8,000 characters, and a round's cost does not grow
# with the stream
DESCRIBED_ROUNDS = 20


def round_metrics(round_: Round) -> dict[str, float]:
    """Metrics of a round: qa/, closed/ and rag/ scores (0–100; recall 0–1), counts/, canaries/,
    calibration/, seconds/.

    seconds/adapt covers compressing and banking, seconds/measure asking questions; each stage has a
    metric of its own.
    """
    metrics = {
        f"{'qa' if system == MEMORY else system}/{name}": value
        for system, scores in round_.scores.items()
        for name, value in scores.items()
        if value is not None
    }
    metrics |= {f"seconds/{stage}": seconds for stage, seconds in round_.seconds.items()}
    metrics |= {"seconds/adapt": round_.adapt_seconds, "seconds/measure": round_.measure_seconds}
    metrics |= {
        "counts/documents": round_.documents,
        "counts/rows": round_.rows,
        "counts/changes": round_.changes,
    }
    metrics["counts/set_aside"] = len(round_.set_aside)
    if round_.questions is not None:
        metrics["counts/questions"] = round_.questions
    metrics |= {f"canaries/{name}": count for name, count in round_.canaries.items()}
    metrics |= {f"calibration/{name}": value for name, value in round_.calibration.items()}
    if round_.tokens_per_second is not None:
        metrics["counts/tokens_per_second"] = round_.tokens_per_second
    return {name: float(value) for name, value in metrics.items()}


def flat_params(params: Params) -> dict[str, str]:
    """The parameters that shape a round, by dotted key; credentials in an address are masked."""
    sections = params.model_dump(
        mode="json", exclude={"train", "tracking", "stream", "sources", "serving"}
    )
    flat = {"seed": str(sections.pop("seed"))}
    values = {
        f"{name}.{key}": str(v) for name, section in sections.items() for key, v in section.items()
    }
    return flat | {name: mask_secrets(value) for name, value in values.items()}


def lineage(round_: Round) -> dict[str, str]:
    """Origin and outcome of a round, as tags."""
    origin = ("round_id", "slice_id", "slice_digest", "compressor", "dtype", "params_digest")
    outcome = ("state", "judgement", "reason", "version_before", "version_after", "bank_digest")
    values = {name: getattr(round_, name) for name in origin + outcome} | {
        "bank_params": round_.row_format
    }
    tags = {f"cmt.{name}": str(value) for name, value in values.items() if value not in (None, "")}
    tags["cmt.round"] = tags.pop("cmt.round_id")
    links = {
        "mlflow.source.git.commit": round_.git_commit.rstrip("+"),
        "cmt.git_commit": round_.git_commit,
        "cmt.dvc_lock": round_.dvc_lock,
        "cmt.prefect_run": round_.prefect_run,
    }
    return tags | {name: value for name, value in links.items() if value}


def describe(rounds: Sequence[Round]) -> dict[str, str]:
    """The tags that MLflow's UI shows as source and description: the headline figures of the newest
    `rounds`.
    """
    source, kind = (
        ("cmt/online-update", "JOB")
        if any(r.prefect_run for r in rounds)
        else ("cmt update", "LOCAL")
    )
    lines = [
        "| slice | documents | adapted in | F1 | 95 % | questions |",
        "|---|---|---|---|---|---|",
    ]
    for round_ in rounds[-DESCRIBED_ROUNDS:]:
        scores = round_.memory_scores
        low, high = scores.get("f1_low"), scores.get("f1_high")
        interval = MISSING if low is None or high is None else f"{low:.1f} – {high:.1f}"
        f1, asked = format_optional(scores.get("f1"), ".1f"), format_optional(round_.questions)
        cells = [
            round_.slice_id,
            round_.documents,
            f"{round_.adapt_seconds:.1f} s",
            f1,
            interval,
            asked,
        ]
        lines.append(f"| {' | '.join(map(str, cells))} |")
    note = {"mlflow.note.content": "\n".join(lines)} if rounds else {}
    return {"mlflow.source.name": source, "mlflow.source.type": kind} | note
