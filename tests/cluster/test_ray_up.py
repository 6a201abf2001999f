"""A cluster that `ray up` really starts, on hosts of the tests' own: see `hosts` and `laboratory`.

The tests share one cluster and one sweep, whose last trainings wait until `test_the_sweep_ends...` lets them go.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from hosts import Network, until, why_not
from laboratory import RUN, STORAGE, Laboratory, calm_run, facts, rows_of

REASON = why_not()
pytestmark = [pytest.mark.slow, pytest.mark.skipif(bool(REASON), reason=REASON)]


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Network]:
    network = Network(tmp_path_factory.mktemp("hosts"))
    yield network
    network.close()


@pytest.fixture(scope="module")
def laboratory(network: Network) -> Iterator[Laboratory]:
    found = Laboratory(network)
    found.up()
    yield found
    print(found.told())  # pytest shows it with a test that failed


@pytest.fixture(scope="module")
def calm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The run of the same sweep on this machine, which is trained while the cluster starts."""
    folder = tmp_path_factory.mktemp("calm")
    process = calm_run(folder)
    yield folder / RUN
    process.kill()
    process.wait()


@pytest.fixture(scope="module")
def sweep(calm: Path, laboratory: Laboratory) -> Laboratory:
    """The cluster, which trains the sweep; the first trainings have ended."""
    (laboratory.share / "hold").touch()
    laboratory.submit("sweep", "sweep.yaml", "--storage", STORAGE, "--name", RUN)
    laboratory.client.kill()  # the battery of the laptop is empty
    until(laboratory.rows, "the first row", 0.3)
    laboratory.client.start()
    return laboratory


def test_whoever_has_no_token_or_another_one_is_refused(network: Network, laboratory: Laboratory) -> None:
    stranger = network.host("stranger")
    address = f"RAY_ADDRESS={laboratory.head.address}:6379"
    command = f"{address} tskd-tune sweep digits --storage /tmp/runs"
    without = stranger.run(command, check=False)
    assert without.returncode == 2 and "asks for a token" in without.stdout, without.stdout
    other = stranger.run(f"ray get-auth-token --generate && RAY_AUTH_MODE=token {command}", check=False)
    assert other.returncode == 2 and "asks for a token" in other.stdout, other.stdout
    assert "Traceback" not in without.stdout + other.stdout
    dashboard = f"import socket; socket.create_connection(('{laboratory.head.address}', 8265), timeout=5)"
    assert "refused" in stranger.run(f'python -c "{dashboard}"', check=False).stdout


def test_a_worker_that_is_cut_off_loses_nothing_and_works_again_when_it_is_back(sweep: Laboratory) -> None:
    worker, other = sweep.workers
    until(lambda: sweep.trains(worker) and sweep.trains(other), "two trials")
    begun = sweep.unfinished()
    worker.cut()
    try:
        (sweep.share / f"hold-{worker.name}").touch()  # it is asleep
        sweep.seconds["cut off until its trial has ended elsewhere"] = until(
            lambda: not begun & sweep.unfinished(), "the rows of the trials at the cut", 0.3
        )
        (sweep.share / f"hold-{worker.name}").unlink()
        # It awakes, and trains on although its trial has ended elsewhere. A Ray that misses its head for a minute ends.
        until(lambda: sweep.trains(worker) or not worker.processes("ray::"), "the trial of the worker that was cut off")
    finally:
        worker.mend()
    sweep.seconds["back until it has a trial"] = until(lambda: sweep.waits(worker), "a new trial", 0.5)


def test_a_sweep_whose_head_died_goes_on_in_a_new_cluster(sweep: Laboratory) -> None:
    sweep.head.kill()
    said = sweep.client.run(f"tskd-tune status {STORAGE}/{RUN}").stdout
    assert "first" in said
    sweep.head.start()
    sweep.up()
    sweep.submit("resume", f"{STORAGE}/{RUN}", more="--with pace.py")
    until(lambda: all(map(sweep.waits, sweep.workers)), "two trials", 0.5)


def test_the_sweep_ends_after_a_spot_notice_with_the_rows_of_a_calm_run(sweep: Laboratory, calm: Path) -> None:
    until(lambda: all(map(sweep.waits, sweep.workers)), "two trials", 0.5)
    noticed = sweep.workers[1]
    noticed.run(f"kill -TERM {noticed.processes('raylet')[0]}")
    until(lambda: not noticed.processes("ray::"), "the end of the trials on a host with a spot notice")
    (sweep.share / "hold").unlink()
    until(lambda: not sweep.unfinished(), "the rows of all trainings", 0.5)
    until((sweep.run / "report.html").exists, "the report", 0.5)
    assert "20 trials: 20 done" in sweep.client.run(f"tskd-tune status {STORAGE}/{RUN}").stdout
    report = sweep.client.run(f"tskd-tune report {STORAGE}/{RUN}").stdout
    assert "20 of 20 runs finished" in report
    until(lambda: len(rows_of(calm)) == len(sweep.rows()), "the rows of the calm run")
    assert facts(sweep.run) == facts(calm)


def test_ray_down_ends_everything(laboratory: Laboratory) -> None:
    laboratory.client.run("ray down -y cluster.local.yaml")
    assert not laboratory.head.processes()
    for worker in laboratory.workers:
        name = f"ray down until {worker.name} is empty"
        laboratory.seconds[name] = until(lambda: not worker.processes(), name, 0.5)  # noqa: B023
