"""Runs of MLflow: one parent run per stream, one child run per round, one run per training.

Metrics carry the round's own date and number, so recording a round again changes its run and
duplicates nothing. A round that runs again after a rollback is another run.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cmt.bank.rounds import Round
from cmt.common.digests import sha256_hex
from cmt.common.storage import relative
from cmt.config import Params, TrackingParams
from cmt.tracking._payload import describe, flat_params, lineage, round_metrics
from cmt.tracking._session import MlflowSession

if TYPE_CHECKING:
    from mlflow.entities import Run
    from transformers import TrainerCallback

_STATUS = {"started": "RUNNING", "committed": "FINISHED", "refused": "FAILED"}
STARTED_BY = "cmt.started_by"  # tag of the run of a training: the event that started it


class Tracker:
    """Records rounds and trainings in MLflow."""

    def __init__(self, params: TrackingParams, root: Path) -> None:
        self.session, self.root = MlflowSession(params, root), root

    def log_round(
        self, round_: Round, *, params: Params, history: Sequence[Round], artifacts: Sequence[Path]
    ) -> str:
        """Record a round as a child run of its stream; returns the id of the child run.

        `history`: rounds of the ledger, which the description of the stream lists. Missing
        `artifacts` are skipped. Raises ServiceError within seconds if MLflow cannot be reached or
        written.
        """
        session = self.session
        stream, bank = relative(params.stream.path, self.root), relative(params.bank.uri, self.root)
        metrics = round_metrics(round_)
        with session.translate_errors():
            # 1. the parent: one run for stream and bank, named after the sources
            names = [source.name for source in params.sources] or [params.stream.source.name]
            parent = session.run(
                f"{', '.join(names)} ({stream})",
                tags={"cmt.stream": stream, "cmt.bank": bank},
                key=sha256_hex("stream", stream, bank),
            )
            # 2. the child: one run for this attempt at the round
            child = session.run(
                f"round-{round_.number:04d} {round_.slice_id}",
                tags={"mlflow.parentRunId": parent.info.run_id},
                key=sha256_hex(
                    *(
                        "round",
                        parent.info.run_id,
                        round_.round_id,
                        *round_.identity,
                        round_.params_digest,
                    ),
                    round_.started_at,
                ),
                started=round_.started_at,
            )
            # 3. metrics, lineage, the slice and files
            session.log(
                child,
                metrics,
                step=round_.number,
                at=round_.finished_at,
                params=flat_params(params),
                tags=lineage(round_) | describe([round_]),
            )
            session.log_dataset(
                child, name=round_.slice_id, digest=round_.slice_digest, folder=stream
            )
            tags = describe(
                [r for r in history if r.number <= round_.number and r.state == "committed"]
            )
            session.log(parent, metrics, step=round_.number, at=round_.finished_at, tags=tags)
            for file in filter(Path.exists, artifacts):
                session.client.log_artifact(child.info.run_id, str(file))
            session.end(child, _STATUS.get(round_.state, "KILLED"), round_.finished_at)
            session.end(parent, "FINISHED", round_.finished_at)
        return str(child.info.run_id)

    def mark_rolled_back(self, rounds: Sequence[Round]) -> None:
        """Update the runs of rounds that were rolled back. ServiceError as for `log_round`."""
        with self.session.translate_errors():
            for round_ in rounds:
                if round_.mlflow_run:
                    run = self.session.client.get_run(round_.mlflow_run)
                    self.session.log(run, {}, step=round_.number, tags=lineage(round_))
                    self.session.end(run, _STATUS.get(round_.state, "KILLED"), round_.finished_at)

    def log_training(self, params: Params) -> "TrainerCallback":
        """A callback that logs the curves of a new or resumed training; an unreachable MLflow is a
        warning.
        """
        from transformers import TrainerCallback

        session = self.session

        class Curves(TrainerCallback):  # type: ignore[misc] # transformers is not followed
            run: "Run | None" = None

            def on_train_begin(self, _: Any, state: Any, *__: Any, **___: Any) -> None:
                if not state.is_world_process_zero:  # one of several processes
                    return
                with session.log_errors():
                    self.run = training_run(session, params)
                    session.client.update_run(self.run.info.run_id, status="RUNNING")

            def on_log(
                self, _: Any, state: Any, __: Any, logs: dict[str, Any] | None = None, **___: Any
            ) -> None:
                if not self.run:
                    return
                metrics = {
                    f"train/{name}": float(v)
                    for name, v in (logs or {}).items()
                    if isinstance(v, int | float)
                }
                with session.log_errors():
                    session.log(self.run, metrics, step=state.global_step)

            def on_train_end(self, *_: Any, **__: Any) -> None:
                if self.run:
                    with session.log_errors():
                        session.end(self.run, "FINISHED")

        return Curves()

    def finish_training(
        self, *, params: Params, scores: Mapping[str, float | None], started_by: str = ""
    ) -> None:
        """End the run of a training with its held-out `scores` and what started it. ServiceError as
        `log_round`.
        """
        with self.session.translate_errors():
            run = training_run(self.session, params)
            metrics = {
                f"heldout/{name}": value for name, value in scores.items() if value is not None
            }
            self.session.log(run, metrics, step=0)
            if started_by:
                self.session.client.set_tag(run.info.run_id, STARTED_BY, started_by)
            self.session.end(run, "FINISHED")


def training_run(session: MlflowSession, params: Params) -> "Run":
    """The run of a training, found by the parameters that shape the weights."""
    digest = params.digest(
        "seed", "lm", "compressor", "aggregator", "alignment", "objective", "train"
    )
    return session.run(
        "training", tags={"cmt.params_digest": digest}, key=sha256_hex("training", digest)
    )
