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


def test_the_tree_in_the_docstring_has_every_error() -> None:
    tree = errors.__doc__ or ""
    assert [error.__name__ for error in CLASSES if error.__name__ not in tree] == []


@pytest.mark.parametrize("error", [errors.NotFoundError, errors.UnknownDocumentError])
def test_what_a_project_lacks_is_a_lookup_error(error: type[Exception]) -> None:
    with pytest.raises(LookupError, match="no such thing"):
        raise error("no such thing")
