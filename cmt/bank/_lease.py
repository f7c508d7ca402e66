"""The lease of a bank: a row of the bank, which admits one writer at a time on any number of
machines.

The lease is acquired by compare-and-swap: a merge that replaces the row only if it is as it was
read. Lance commits one such merge at a time. The holder renews the row from a thread. The lease
expires when the row has not changed for SECONDS on the clock of the machine that waits, so clocks
are never compared. Each holder has a higher number than its predecessor; a holder that was
suspended for too long finds another number in the row, and its next write is refused.
"""

import logging
import os
import socket
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from functools import cache
from pathlib import Path
from threading import Event, Lock, Thread
from typing import NamedTuple, cast

import lancedb
import pyarrow as pa
from lancedb.table import LanceTable

from cmt.bank.schema import PRIMARY_KEY
from cmt.bank.tables import LEASE, WriteConflict, open_or_create_table, translate_errors
from cmt.errors import BankError, RoundError

log = logging.getLogger(__name__)

SECONDS = 30.0
"""Seconds without a renewal after which another process takes over."""
RENEWAL_SECONDS = 5.0
"""Seconds between two renewals."""
POLL_SECONDS = 0.5
"""Seconds between two looks at the row of another holder."""
KEPT = timedelta(minutes=10)
"""Age of the versions that are dropped."""
TIDY_EVERY = 50
"""Versions of the table from one dropping to the next."""
_ATTEMPTS = 3  # of reading a lease before it counts as damaged

_SCHEMA = pa.schema(
    [
        pa.field("name", pa.string(), nullable=False, metadata=PRIMARY_KEY),
        pa.field("number", pa.int64(), nullable=False),
        pa.field("renewals", pa.int64(), nullable=False),
        pa.field("holder", pa.string(), nullable=False),
        pa.field("machine", pa.string(), nullable=False),
        pa.field("host", pa.string(), nullable=False),
        pa.field("pid", pa.int64(), nullable=False),
    ]
)
_in_this_process: set[str] = set()  # holders whose lease is not released yet


class _Row(NamedTuple):
    """The row of a lease."""

    number: int
    """The fencing number, which grows with every holder."""
    renewals: int
    holder: str
    """A random name; "" for a free lease."""
    machine: str
    """See `this_machine`."""
    host: str
    """Name of the machine, for messages."""
    pid: int

    @property
    def is_free(self) -> bool:
        """Whether the lease was released, or its holder was a process of this machine that has
        ended.
        """
        if not self.holder:
            return True
        if self.machine != this_machine():
            return False
        return (
            self.holder not in _in_this_process
            if self.pid == os.getpid()
            else not _is_running(self.pid)
        )


@contextmanager
def hold_lease(uri: str, *, timeout: float) -> "Iterator[Lease]":
    """Hold the lease of the bank at `uri`; waits up to `timeout` seconds for another holder.

    Raises RoundError after that, and BankError if the lease cannot be written.
    """
    lease = Lease(uri)
    _in_this_process.add(lease.holder)
    ended = Event()
    thread = Thread(target=lease.renew_until, args=(ended,), name="cmt-lease", daemon=True)
    try:
        lease.acquire(timeout=timeout)
        thread.start()
        yield lease
    finally:
        ended.set()
        if thread.ident is not None:
            thread.join()
            lease.release()
        _in_this_process.discard(lease.holder)


class Lease:
    """The lease of the bank at `uri`, for one holder; see `hold_lease`."""

    def __init__(self, uri: str) -> None:
        self.uri, self.holder = uri, uuid.uuid4().hex
        self.row = _Row(0, 0, self.holder, this_machine(), socket.gethostname(), os.getpid())
        """The row that this holder last wrote, or would write."""
        self._last_number = 0  # lower bound for that of a damaged lease
        self._table: LanceTable | None = None
        self._lock = Lock()  # of the thread that renews and the thread that writes

    def acquire(self, *, timeout: float) -> None:
        """Become the holder. Raises RoundError after `timeout` seconds, and BankError."""
        started = unchanged_since = time.monotonic()
        last, warned = None, False
        while True:
            # 1. Read the holder. A row that does not change has no living holder.
            row, now = self._read_or_replace(), time.monotonic()
            if row != last:
                last, unchanged_since = row, now
            silent = now - unchanged_since >= SECONDS
            # 2. Take a free lease. Another process that was faster has changed the row.
            if row is None or row.is_free or silent:
                if self._take(row):
                    if row is not None and row.holder:
                        log.warning(
                            "%s (process %d) left the bank's lease behind: taken over",
                            row.host,
                            row.pid,
                        )
                    return
                continue
            # 3. Wait.
            if now - started >= timeout:
                raise RoundError(
                    f"{row.host} (process {row.pid}) still changes bank {self.uri}: wait for it, "
                    "or end it, and repeat"
                )
            if not warned:
                log.warning(
                    "%s is changing this bank: waiting for it (up to %d minutes)",
                    row.host,
                    timeout // 60,
                )
                warned = True
            time.sleep(POLL_SECONDS)

    def check(self) -> None:
        """Raise RoundError if another process holds the lease: what this one read of the bank may
        be outdated.
        """
        row = self._read()
        if row is None or (row.holder, row.number) != (self.holder, self.row.number):
            holder = f"{row.host} (process {row.pid})" if row else "another process"
            raise RoundError(
                f"{holder} took over bank {self.uri}, because this process was silent for "
                f"{SECONDS:g} s: it stops "
                "writing; run the command again"
            )

    def renew_until(self, ended: Event) -> None:
        """Renew the lease until `ended` is set. A failed renewal is repeated; `check` notices a
        lost lease.
        """
        while not ended.wait(RENEWAL_SECONDS):
            with suppress(BankError):
                self._renew(self.row._replace(renewals=self.row.renewals + 1))

    def release(self) -> None:
        """Free the lease at once. A lease that cannot be released expires."""
        try:
            self._renew(self.row._replace(renewals=self.row.renewals + 1, holder=""))
        except BankError as error:
            log.warning("the lease expires in %d seconds: %s", SECONDS, error)

    def _renew(self, row: _Row) -> None:
        """Replace the row of this holder by `row`; the row of another holder stays."""
        self._write(row, only_if=f"target.number = {row.number}")
        self.row = row

    def _take(self, row: _Row | None) -> bool:
        """Become the holder unless the row changed since `row` was read."""
        mine = self.row._replace(number=max(row.number if row else 0, self._last_number) + 1)
        with suppress(WriteConflict):
            if row:
                self._write(
                    mine,
                    only_if=f"target.number = {row.number} AND target.renewals = {row.renewals}",
                )
            else:
                self._write(mine, only_if="false", insert=True)
        taken = self._read() == mine  # the merge may have committed although its answer was lost
        if taken:
            self.row = mine
        return taken

    def _write(self, row: _Row, *, only_if: str, insert: bool = False) -> None:
        """Replace the stored row by `row` if it meets the condition; with `insert` also write the
        first row.
        """
        rows = pa.Table.from_pylist([{"name": "bank", **row._asdict()}], schema=_SCHEMA)
        with (
            self._lock,
            translate_errors(
                f"the lease of bank {self.uri} cannot be written", "check free space and rights"
            ),
        ):
            table = self._opened()
            merge = table.merge_insert("name").when_matched_update_all(where=only_if)
            if insert:
                merge = merge.when_not_matched_insert_all()
            merge.execute(rows)
            if table.version % TIDY_EVERY == 0:
                # an error is ignored: the lease is written, and a later write tries again
                what = "old versions of the lease cannot be dropped"
                with suppress(BankError), translate_errors(what):
                    table.optimize(cleanup_older_than=KEPT)

    def _read(self) -> _Row | None:
        """The newest row; None before the first holder."""
        with self._lock, translate_errors(f"the lease of bank {self.uri} cannot be read"):
            table = self._opened()
            table.checkout_latest()  # type: ignore[no-untyped-call]
            rows = table.search().select(list(_Row._fields)).limit(1).to_list()
            return _Row(**{name: rows[0][name] for name in _Row._fields}) if rows else None

    def _read_or_replace(self) -> _Row | None:
        """The row; a lease that stays unreadable is created again, and its holder loses it."""
        for _ in range(_ATTEMPTS - 1):
            with suppress(BankError):
                return self._read()
            time.sleep(POLL_SECONDS)
        try:
            return self._read()
        except BankError as error:
            log.warning("%s; it is created again", error)
        connection = lancedb.connect(self.uri)
        with (
            self._lock,
            translate_errors(
                f"the lease of bank {self.uri} cannot be written", "check space and rights"
            ),
        ):
            if LEASE in connection.list_tables().tables:
                connection.drop_table(LEASE)
            self._table, self._last_number = None, int(time.time())  # above every earlier number
        return self._read()

    def _opened(self) -> LanceTable:
        if self._table is None:
            connection = lancedb.connect(self.uri)
            try:
                self._table = open_or_create_table(connection, LEASE, _SCHEMA)
            except ValueError:  # on object storage another machine may have created it meanwhile
                self._table = cast(LanceTable, connection.open_table(LEASE))
        return self._table


@cache
def this_machine() -> str:
    """Identifier of this machine since its start. A container counts as a machine, because it has
    its own pids.
    """
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:  # not Linux
        return f"{socket.gethostname()} {uuid.getnode():012x}"


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):  # another user's process, or an invalid pid
        return True
    return True
