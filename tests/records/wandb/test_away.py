"""W&B away at the start, away in the middle, never back, silent or failing: no training waits, and nothing is lost."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pytest
import wandb

from benchmarks.wandb_stub import KEY, Server
from tskd_tune.records.wandb.offline import offline_runs, upload
from tskd_tune.records.wandb.tracking import WandbTracker, settle

pytestmark = pytest.mark.usefixtures("no_wandb_account")
Trouble = Literal["gone", "hangs", 500, 429]
TROUBLES: list[Trouble] = ["gone", "hangs", 500, 429]
EPOCHS, DEADLINE = range(6), 10.0


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    served = Server()
    monkeypatch.setenv("WANDB_BASE_URL", served.url)
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    monkeypatch.setenv("WANDB_X_FILE_STREAM_TRANSMIT_INTERVAL", "0.5")
    yield served
    served.close()


def get(server: Server, trouble: Trouble) -> None:
    if trouble == "gone":
        server.close()
    else:
        server.trouble = trouble


def train(folder: Path, server: Server, trouble: Trouble, at: int) -> tuple[WandbTracker, float]:
    """Track a training; the server gets into trouble before an epoch. Return the tracker and the longest call."""
    calls = [0.0]

    def timed(work: object) -> None:
        begun = time.perf_counter()
        work()  # type: ignore[operator]
        calls.append(time.perf_counter() - begun)

    names = {"sweep": "first", "key": "first", "run": "t0", "arm": "tskd"}
    tracker = WandbTracker(folder, seed=1, deadline=DEADLINE, patience=0.5, **names)
    if at == 0:
        get(server, trouble)
    timed(lambda: tracker.start({"student": "resnet8"}))
    for epoch in EPOCHS:
        if epoch == at > 0:
            until = time.monotonic() + 300
            while not any(server.history(stream) for stream in server.streams) and time.monotonic() < until:
                time.sleep(0.05)
            assert server.streams, "the first epochs reached the server"
            get(server, trouble)
        timed(lambda epoch=epoch: tracker.log(epoch, {"phase": "general", "loss": 6.0 - epoch}))  # type: ignore[misc]
    timed(lambda: tracker.finish({"test_top1": 61.0}))
    return tracker, max(calls)


@pytest.mark.slow
@pytest.mark.parametrize("at", [0, 3], ids=["at the start", "in the middle"])
@pytest.mark.parametrize("trouble", TROUBLES)
def test_no_call_waits_the_run_is_complete_and_a_sync_sends_it_once(
    trouble: Trouble, at: int, server: Server, tmp_path: Path
) -> None:
    tracker, longest = train(tmp_path, server, trouble, at)
    assert longest < 2.0, "a call waits for the patience at most"
    settle(DEADLINE)
    assert tracker.warning is not None and "tskd-tune sync" in tracker.warning
    wandb.teardown()
    runs = offline_runs(tmp_path)
    assert len(runs) == 1 and not runs[0].uploaded
    server.open() if trouble == "gone" else server.recover()
    found = upload(runs)
    assert (found.uploaded, found.failed, found.unfinished) == (runs, [], [])
    (stream,) = server.streams
    lines = {line["epoch"]: line["loss"] for line in server.history(stream)}
    assert lines == {epoch: 6.0 - epoch for epoch in EPOCHS}
    assert server.streams[stream][-1]["complete"]
    assert [one for one in offline_runs(tmp_path) if not one.uploaded] == []
