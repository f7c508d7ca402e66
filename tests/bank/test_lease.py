"""The lease of a bank: one holder at a time on any number of machines; a silent one loses it."""

import os
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import lancedb
import pytest

from cmt.bank import _lease as leases
from cmt.bank._lease import Lease, hold_lease
from cmt.bank.tables import LEASE
from cmt.errors import RoundError


@pytest.fixture(autouse=True)
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leases that run out after 0.3 s, and are renewed long before."""
    for name, seconds in (("SECONDS", 0.3), ("RENEWAL_SECONDS", 0.05), ("POLL_SECONDS", 0.01)):
        monkeypatch.setattr(leases, name, seconds)


def on(machine: str, uri: str, *, pid: int | None = None) -> Lease:
    """A lease as a process of another machine opens it."""
    lease = Lease(uri)
    lease.row = lease.row._replace(machine=machine, host=machine, pid=pid or os.getpid())
    return lease


@contextmanager
def holding(lease: Lease) -> Iterator[None]:
    """Hold `lease` without renewing it."""
    lease.acquire(timeout=60)
    yield
    lease.release()


def test_only_one_of_many_machines_writes_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        leases, "SECONDS", 60.0
    )  # also a holder that gets no processor for a second is waited for
    numbers, inside = [], []

    def write(machine: int) -> None:
        for _ in range(3):
            lease = on(f"machine {machine}", str(tmp_path))
            with holding(lease):
                inside.append(machine)
                assert inside == [machine]
                lease.check()
                numbers.append(lease.row.number)
                inside.remove(machine)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, range(4)))
    assert numbers == list(range(1, 13))


def test_a_holder_that_renews_its_lease_is_waited_for(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    other = on("north", str(tmp_path))
    with hold_lease(str(tmp_path), timeout=5) as lease:
        with pytest.raises(
            RoundError, match=rf"\(process {os.getpid()}\) still changes bank .*: wait for it"
        ):
            other.acquire(timeout=1)  # longer than a lease lasts without renewal
        lease.check()
    other.acquire(timeout=0)
    assert "is changing this bank: waiting for it" in caplog.text


def test_a_holder_that_was_silent_too_long_is_followed_and_refused(tmp_path: Path) -> None:
    slow, quick = on("slow", str(tmp_path)), on("quick", str(tmp_path))
    slow.acquire(timeout=0)
    slow.check()
    quick.acquire(timeout=5)
    assert quick.row.number > slow.row.number
    with pytest.raises(
        RoundError, match=r"quick \(process .*\) took over bank .*: it stops writing"
    ):
        slow.check()
    slow.release()  # the other lease stays
    quick.check()


def test_the_lease_of_a_process_of_this_machine_that_ended_is_taken_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(leases, "SECONDS", 600.0)
    ended = subprocess.Popen(["true"])
    ended.wait()
    on(leases.this_machine(), str(tmp_path), pid=ended.pid).acquire(timeout=0)
    Lease(str(tmp_path)).acquire(timeout=0)  # this process left it behind
    with hold_lease(str(tmp_path), timeout=0), pytest.raises(RoundError):
        Lease(str(tmp_path)).acquire(timeout=0)  # this process holds it
    on(leases.this_machine(), str(tmp_path), pid=1).acquire(timeout=0)
    with pytest.raises(RoundError):
        Lease(str(tmp_path)).acquire(timeout=0)
    assert caplog.text.count("left the bank's lease behind: taken over") == 2


@pytest.mark.parametrize("content", [b"", b"damaged", None], ids=["empty", "damaged", "missing"])
def test_a_damaged_lease_is_created_again_and_its_holder_refused(
    tmp_path: Path, content: bytes | None
) -> None:
    before, after = on("before", str(tmp_path)), on("after", str(tmp_path))
    before.acquire(timeout=0)
    for manifest in (tmp_path / f"{LEASE}.lance/_versions").iterdir():
        manifest.unlink() if content is None else manifest.write_bytes(content)
    after.acquire(timeout=0)
    after.check()
    with pytest.raises(RoundError, match="after"):
        before.check()


def test_old_versions_of_the_lease_are_dropped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases, "TIDY_EVERY", 4)
    monkeypatch.setattr(leases, "KEPT", timedelta(milliseconds=1))
    for _ in range(10):
        with holding(Lease(str(tmp_path))):
            pass
    assert len(lancedb.connect(str(tmp_path)).open_table(LEASE).list_versions()) < 8
