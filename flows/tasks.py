"""What all flows share. Tasks pass names and numbers to each other, never tensors."""

import logging
from functools import lru_cache, partial
from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.tasks import exponential_backoff

from cmt.errors import BankError, ServiceError
from cmt.workspace import Workspace, open

# the root logger's WARNING would swallow what extra_loggers in prefect.toml is to show
logging.getLogger("cmt").setLevel(logging.INFO)


@lru_cache(maxsize=1)
def workspace(params: str) -> Workspace:
    """The workspace of a params.yaml, opened once a process: the LM is loaded by the first task that needs it."""
    return open(params=params)


def may_pass(_task: Any, _run: Any, state: Any) -> bool:
    """Whether another try can help: storage and services recover, a damaged slice or a refused round does not."""
    return isinstance(state.result(raise_on_failure=False), OSError | BankError | ServiceError)


# what a step leaves behind lies in the bank and the state folder, under content keys: Prefect has nothing to cache
step = partial(
    task,
    cache_policy=NO_CACHE,
    retries=3,
    retry_delay_seconds=exponential_backoff(backoff_factor=2),
    retry_jitter_factor=0.5,
    retry_condition_fn=may_pass,
)
