"""Ray for the length of a sweep: the cluster that ``RAY_ADDRESS`` names, or a Ray of the sweep's own."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager

import ray

QUIET = {
    # Under `uv run` Ray would build a second environment for its workers.
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    # Every checkpoint of a short epoch forces a snapshot, which is what a resume wants.
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    # A trial that takes no GPU sees none, so that it trains where its resources say.
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "1",
}


@contextmanager
def session() -> Iterator[None]:
    """Join the cluster that ``RAY_ADDRESS`` names, or start a Ray on this machine; leave it as it was found.

    Without ``RAY_ADDRESS`` a Ray that happens to run on this machine is never joined: it belongs to someone else.
    """
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    for name in ("ray", "ray.tune", "ray.train"):
        logging.getLogger(name).setLevel(logging.ERROR)
    mine = not ray.is_initialized()
    if mine:
        address = os.environ.get("RAY_ADDRESS") or "local"
        ray.init(address, log_to_driver=False, include_dashboard=False, logging_level=logging.ERROR)
    try:
        yield
    finally:
        if mine:
            ray.shutdown()
