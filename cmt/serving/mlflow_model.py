"""The memory as a model of MLflow: the code that `mlflow models serve` runs, stored beside the weights as it is.

A compressor alone answers nothing: it needs the LM, which is too big to store with every version, and the bank, which
grows. Both are those of a project: its params.yaml is the one that the environment's CMT_PARAMS names, or else the one
that the compressor was registered from.
"""

import os
from datetime import date
from threading import Lock
from typing import Any

import pandas as pd  # not for types alone: MLflow evaluates the hints of predict
from mlflow.exceptions import MlflowException
from mlflow.models import set_model
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE, TEMPORARILY_UNAVAILABLE
from mlflow.pyfunc.model import PythonModel
from pydantic import ValidationError

from cmt.errors import CmtError
from cmt.serving.schemas import Answered, Ask, explain
from cmt.workspace import Workspace, open


class Memory(PythonModel):
    """Questions, each as of a date or as of now, to answers with their sources."""

    def load_context(self, context: Any) -> None:
        """Open the project with the compressor of this version. Fails when its bank is that of another one."""
        params = os.environ.get("CMT_PARAMS") or context.model_config["params"]
        self._workspace: Workspace = open(
            params=params, overrides={"compressor.path": str(context.artifacts["compressor"])}
        )
        self._workspace.answering_bank()
        self._lock = Lock()

    def predict(self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """A row an answer: answer, known, confidence, sources. One caller at a time gets the LM."""
        asked = [_asked(place, row) for place, row in enumerate(model_input.to_dict("records"))]
        questions, dates = [one.question for one in asked], [one.as_of for one in asked]
        with self._lock:
            try:
                self._workspace.answering_bank()
                answers = self._workspace.answerer.answer(questions, as_of=dates)
            except CmtError as error:
                raise MlflowException(str(error), TEMPORARILY_UNAVAILABLE) from error
        said = [Answered.of(*pair).model_dump(mode="json") for pair in zip(answers, dates, strict=True)]
        return pd.DataFrame(said, columns=["answer", "known", "confidence", "sources"])


def _asked(place: int, row: dict[Any, Any]) -> Ask:
    # a date that is missing is None, NaN or NaT
    given = {name: value for name, value in row.items() if not (pd.api.types.is_scalar(value) and pd.isna(value))}
    given = {name: value.isoformat() if isinstance(value, date) else value for name, value in given.items()}
    try:
        return Ask.model_validate(given)
    except ValidationError as error:
        raise MlflowException(f"row {place}: {explain(error.errors())[0]}", INVALID_PARAMETER_VALUE) from None


set_model(Memory())
