"""Events of the pipeline in Prefect, with their figures; triggers start other deployments from
them.
"""

from typing import TYPE_CHECKING, Any

from prefect.events import emit_event

if TYPE_CHECKING:
    from cmt.bank.rounds import Round
    from cmt.evaluation.drift import Drift
    from cmt.rounds.promotion import Promotion

COMMITTED, REFUSED = "cmt.round.committed", "cmt.round.refused"
DRIFT, PROMOTED = "cmt.drift.detected", "cmt.compressor.promoted"


def emit_round(round_: "Round") -> None:
    """Emit the event of a committed or refused round."""
    names = (
        "number",
        "documents",
        "rows",
        "judgement",
        "reason",
        "questions",
        "canaries",
        "compressor",
        "mlflow_run",
    )
    figures = {name: getattr(round_, name) for name in names}
    figures |= {
        "slice": round_.slice_id,
        "set_aside": list(round_.set_aside),
        "bank_version": round_.version_after,
    }
    figures |= {name: round_.memory_scores.get(name) for name in ("em", "f1", "recall")}
    event = COMMITTED if round_.state == "committed" else REFUSED
    _emit(event, f"cmt.slice.{round_.slice_id}", round_.slice_id, figures)


def emit_drift(drift: "Drift") -> None:
    """Emit the event of drift: the newest questions are answered worse than earlier ones."""
    _emit(DRIFT, f"cmt.slice.{drift.slice_id}", str(drift), drift.to_json())


def emit_promotion(promotion: "Promotion") -> None:
    """Emit the event of a promoted compressor."""
    figures = promotion.figures.to_json() if promotion.figures else {}
    payload = {"version": promotion.version, "reason": promotion.reason, **figures}
    _emit(PROMOTED, f"cmt.compressor.{promotion.version}", f"version {promotion.version}", payload)


def _emit(event: str, resource: str, name: str, payload: dict[str, Any]) -> None:
    labels = {"prefect.resource.id": resource, "prefect.resource.name": name}
    emit_event(event=event, resource=labels, payload=payload)
