"""A lease: one driver at a time, and a token that tells a driver that came back from the one that took over."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import psutil
import pytest

from tskd_tune.errors import InputError
from tskd_tune.paths import Address
from tskd_tune.storage import lease
from tskd_tune.storage.lease import Lease, LostLeaseError, Owner, held
from tskd_tune.storage.objects import Objects


@pytest.fixture
def objects(s3: Address) -> Objects:
    return Objects(s3 / "run")


def by(monkeypatch: pytest.MonkeyPatch, owner: Owner) -> None:
    monkeypatch.setattr(Owner, "here", classmethod(lambda cls: owner))


NEAR = Owner.here()
FAR = Owner("far-host", "far-host/boot", 7, 1.0)


def test_a_driver_is_refused_while_another_one_is_alive(objects: Objects, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Owner, "is_dead", False)
    first = Lease.take(objects)
    assert first.token == 1 and first.conditional
    with pytest.raises(InputError, match=r"process \d+ of .* trains this run; it wrote to the storage \d s ago"):
        Lease.take(objects)
    first.renew()
    first.release()
    second = Lease.take(objects)
    assert (
        second.token == 2
        and held(objects, datetime.now(UTC)).token == 2
        and not held(objects, datetime.now(UTC)).released
    )


def test_a_lease_of_another_machine_ends_with_time(objects: Objects, monkeypatch: pytest.MonkeyPatch) -> None:
    by(monkeypatch, FAR)
    lost = Lease.take(objects)
    by(monkeypatch, NEAR)
    assert held(objects, datetime.now(UTC) + timedelta(seconds=50)).is_live
    assert not held(objects, datetime.now(UTC) + timedelta(seconds=lease.SECONDS + 5)).is_live
    with pytest.raises(InputError, match="process 7 of far-host trains this run"):
        Lease.take(objects)
    monkeypatch.setattr(lease, "SECONDS", -1.0)
    assert Lease.take(objects).token == 2
    for act in (lost.renew, lost.check):
        with pytest.raises(LostLeaseError, match=r"process \d+ of .* has taken this run over.*process 7 of far-host"):
            act()


def test_a_process_of_this_machine_that_is_dead_holds_nothing(
    objects: Objects, monkeypatch: pytest.MonkeyPatch
) -> None:
    child = subprocess.Popen([sys.executable, "-c", "pass"])
    child.wait()
    by(monkeypatch, replace(Owner.here(), pid=child.pid))
    Lease.take(objects)
    by(monkeypatch, NEAR)
    assert not held(objects, datetime.now(UTC)).is_live and Lease.take(objects).token == 2
    parent = psutil.Process(os.getppid())
    alive = replace(Owner.here(), pid=parent.pid, started=parent.create_time())
    assert not alive.is_dead and replace(alive, started=1.0).is_dead, "another process has its number"
    assert Owner.here().is_dead, "it asks for the lease, so it does not work on the run"


def test_of_many_drivers_that_begin_at_once_one_wins(objects: Objects, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Owner, "is_dead", False)

    def take(number: int) -> bool:
        try:
            Lease.take(Objects(objects.address))
        except InputError:
            return False
        return True

    with ThreadPoolExecutor(6) as pool:
        assert sum(pool.map(take, range(6))) == 1


def test_a_damaged_lease_counts_as_held_until_its_time_is_over(objects: Objects) -> None:
    objects.write("lease/00000004.json", b"{")
    with pytest.raises(InputError, match="another process trains this run"):
        Lease.take(objects)
    objects.write("lease/00000004.json", json.dumps({"host": 1}).encode())
    assert not held(objects, datetime.now(UTC) + timedelta(seconds=100)).is_live
