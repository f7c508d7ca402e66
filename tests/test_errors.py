import inspect

import pytest

from cmt import errors
from cmt.errors import CmtError

CLASSES = [item for _, item in inspect.getmembers(errors, inspect.isclass)]
ADDRESS = "postgresql://ann:hunter2@db:5432/mlflow"


@pytest.mark.parametrize("error", CLASSES, ids=lambda error: error.__name__)
def test_every_error_is_a_cmt_error_that_holds_no_password(error: type[Exception]) -> None:
    with pytest.raises(CmtError, match="start it") as caught:
        raise error(f"{ADDRESS} cannot be reached: start it")
    assert "hunter2" not in f"{caught.value} {caught.value!r} {caught.value.args}"
    assert "db:5432/mlflow" in str(caught.value)
