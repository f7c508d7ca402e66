import inspect

import pytest

from cmt import errors
from cmt.errors import CmtError

CLASSES = [item for _, item in inspect.getmembers(errors, inspect.isclass)]
ADDRESS = "postgresql://ann:hunter2@db:5432/mlflow"


@pytest.mark.parametrize("error", CLASSES, ids=lambda error: error.__name__)
def test_every_error_is_caught_as_cmt_error(error: type[Exception]) -> None:
    with pytest.raises(CmtError, match="what to do"):
        raise error("what is wrong: what to do")


def test_the_module_docstring_lists_every_error() -> None:
    assert len(CLASSES) == 9
    assert all(error.__name__ in str(errors.__doc__) for error in CLASSES)


@pytest.mark.parametrize("error", CLASSES, ids=lambda error: error.__name__)
def test_no_error_holds_a_password(error: type[Exception]) -> None:
    shown = error(f"{ADDRESS} cannot be reached: start it")
    assert "hunter2" not in f"{shown} {shown!r} {shown.args}"
    assert "db:5432/mlflow" in str(shown)
