"""Prometheus metrics: requests, seconds to an answer, abstentions, waiting questions, rows of the
bank.
"""

import math
from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from cmt.errors import CmtError
from cmt.serving._schemas import Answered


class Metrics:
    """The metrics of one server; `rows` counts the bank, and `waiting` the questions in the queue,
    at every scrape.
    """

    def __init__(self, *, rows: Callable[[], int], waiting: Callable[[], int] = int) -> None:
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "cmt_requests", "HTTP requests.", ["method", "route", "status"], registry=self._registry
        )
        self._seconds = Histogram(
            "cmt_answer_seconds",
            "Seconds from a question to its answer, including the time in the queue.",
            buckets=(0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 60.0),
            registry=self._registry,
        )
        self._abstentions = Counter(
            "cmt_abstentions", "Questions answered with 'not in memory'.", registry=self._registry
        )
        banked = Gauge(
            "cmt_bank_rows",
            "Memories in the bank; NaN when there is no bank.",
            registry=self._registry,
        )
        banked.set_function(lambda: _count(rows))
        queue = Gauge(
            "cmt_waiting_questions", "Questions that wait in the queue.", registry=self._registry
        )
        queue.set_function(waiting)

    def count_request(self, *, method: str, route: str, status: int) -> None:
        """Count a request. `route` is the template of its path; both labels must come from a
        bounded set.
        """
        self._requests.labels(method, route, str(status)).inc()

    def count_answer(self, answer: Answered, *, seconds: float) -> None:
        """Count an answer."""
        self._seconds.observe(seconds)
        if not answer.known:
            self._abstentions.inc()

    def exposition(self) -> bytes:
        """All metrics in Prometheus' text format."""
        return generate_latest(self._registry)


def _count(rows: Callable[[], int]) -> float:
    try:
        return rows()
    except CmtError:
        return math.nan
