"""The memory as an MLflow model: the code that `mlflow models serve` runs, stored with every
registered version.

The LM, which is too big to store with every version, and the bank, which grows, come from a
project. The environment variable CMT_PARAMS names its params.yaml; the default is the project that
registered the version.
"""

import os
from datetime import date
from threading import Lock
from typing import Any

import pandas as pd  # at run time: MLflow evaluates the type hints of predict
from mlflow.exceptions import MlflowException
from mlflow.models import set_model
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE, TEMPORARILY_UNAVAILABLE
from mlflow.pyfunc.model import PythonModel
from pydantic import ValidationError

from cmt.answering.answer import check_length
from cmt.errors import CmtError
from cmt.serving._schemas import Answered, Ask, explain
from cmt.workspace import open


class Memory(PythonModel):
    """Answers questions as of a date or now, with sources."""

    def load_context(self, context: Any) -> None:
        """Open the project with the compressor of this version. BankError if the bank is of another
        compressor.
        """
        params = os.environ.get("CMT_PARAMS") or context.model_config["params"]
        self._project = open(
            params=params, overrides={"compressor.path": str(context.artifacts["compressor"])}
        ).project
        self._project.active.bank()
        self._lock = Lock()

    def predict(
        self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> pd.DataFrame:
        """A row for each question. Calls are serialised, because the LM is not thread-safe."""
        longest = self._project.params.serving.question_characters
        rows = model_input.to_dict("records")
        requests = [_validate(number, row, longest=longest) for number, row in enumerate(rows)]
        questions = [request.question for request in requests]
        dates = [request.as_of for request in requests]
        with self._lock:
            try:
                answerer = self._project.active.answerer()
                answers = answerer.answer(questions, as_of=dates)
            except CmtError as error:
                raise MlflowException(str(error), TEMPORARILY_UNAVAILABLE) from error
        compressor = answerer.model.digest
        records = [
            Answered.of(answer, as_of, compressor=compressor).model_dump(mode="json")
            for answer, as_of in zip(answers, dates, strict=True)
        ]
        return pd.DataFrame(
            records, columns=["answer", "verdict", "known", "confidence", "sources"]
        )


def _validate(number: int, row: dict[Any, Any], *, longest: int) -> Ask:
    # pandas represents a missing date as None, NaN or NaT
    fields = {
        name: value
        for name, value in row.items()
        if not (pd.api.types.is_scalar(value) and pd.isna(value))
    }
    fields = {
        name: value.isoformat() if isinstance(value, date) else value
        for name, value in fields.items()
    }
    try:
        request = Ask.model_validate(fields)
        check_length(request.question, longest=longest)
    except ValidationError as error:
        raise MlflowException(
            f"row {number}: {explain(error.errors())[0]}", INVALID_PARAMETER_VALUE
        ) from None
    except ValueError as error:
        raise MlflowException(f"row {number}: question: {error}", INVALID_PARAMETER_VALUE) from None
    return request


set_model(Memory())
