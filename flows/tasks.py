"""The task decorator and the workspace that all flows share. Tasks pass names and numbers, never
tensors.
"""

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any, ParamSpec, TypeVar, cast

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.tasks import exponential_backoff

from cmt.errors import BankError, DamageError, ServiceError, StreamError
from cmt.stream.admission.report import without_values
from cmt.workspace import Workspace, open

PARAMS = os.environ.get("CMT_PARAMS", "params.yaml")  # the default project of a flow run

# the root logger is at WARNING, which would drop the INFO lines that extra_loggers in prefect.toml
# forwards
logging.getLogger("cmt").setLevel(logging.INFO)

P = ParamSpec("P")
R = TypeVar("R")


@lru_cache(maxsize=1)
def workspace(params: str) -> Workspace:
    """The workspace of a params.yaml, opened once per process: the first task that needs the LM
    loads it.
    """
    return open(params=params)


@contextmanager
def quoting_no_rows() -> Iterator[None]:
    """Leave the values of rows out of errors of reading a source: Prefect keeps errors, and no
    purge reaches them.
    """
    try:
        yield
    except StreamError as error:
        if type(error) is not StreamError:  # its subclasses are about whole sources
            raise
        raise StreamError(without_values(str(error))) from None


def is_transient(_task: Any, _run: Any, state: Any) -> bool:
    """Whether a retry can help: storage and services recover, damaged data or a refused round do
    not.
    """
    error = state.result(raise_on_failure=False)
    return isinstance(error, OSError | BankError | ServiceError) and not isinstance(
        error, DamageError
    )


# the bank and the state folder keep results by content, so Prefect caches nothing
def cmt_task(name: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Decorator: the function as a task of that name, retried after transient errors."""
    decorator: Callable[[Callable[P, R]], Callable[P, R]] = cast(Any, task)(
        name=name,
        cache_policy=NO_CACHE,
        retries=3,
        retry_delay_seconds=exponential_backoff(backoff_factor=2),
        retry_jitter_factor=0.5,
        retry_condition_fn=is_transient,
    )
    return decorator
