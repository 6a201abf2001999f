"""The environment that Ray and its workers are started with."""

from __future__ import annotations

import logging
import os

from tskd_tune.errors import InputError, TskdTuneError
from tskd_tune.paths import whole
from tskd_tune.sweeps.on_ray import ray_private

QUIET = {
    # Under `uv run` Ray would build a second environment for its workers.
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
    # In a job of Ray, the variables of `for_cluster` may be those of the job too, which Ray would refuse.
    "RAY_OVERRIDE_JOB_RUNTIME_ENV": "1",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    # `Growing` limits the trials that wait; Ray Tune would keep the limit of the start as machines join.
    "TUNE_MAX_PENDING_TRIALS_PG": "1000",
    # An epoch without a validation has no metric (`evaluation.validation`); `check` refuses a scheduler that needs it.
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",
    "RAY_AIR_NEW_OUTPUT": "0",
    # The row and the error file of a broken trial say why it broke; Tune would print each traceback on the terminal.
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
    # A trial without GPU resources must find no GPU, so that it trains on the CPU.
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "1",
}
# Ray sets these itself where the user has not.
BY_RAY = {"RAY_CLIENT_MODE", "RAY_USAGE_STATS_ENABLED"}
OURS = {*QUIET, *BY_RAY, "RAY_ADDRESS"}
# Where an object storage is. Credentials are not among them: Ray would show them on its dashboard.
OF_STORAGE = ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_REGION", "AWS_DEFAULT_REGION", "FSSPEC_S3_ENDPOINT_URL")
OWN_FOLDERS = ("TSKD_TUNE_DATA", "TSKD_TUNE_CACHE")
FOLDERS = (
    *OWN_FOLDERS,
    *(f"WANDB_{name}" for name in ("DIR", "CACHE_DIR", "CONFIG_DIR", "DATA_DIR", "ARTIFACT_DIR")),
    *("NETRC", "TORCH_HOME", "HF_HOME", "HF_HUB_CACHE", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "RAY_TMPDIR", "TMPDIR"),
)


def prepare() -> None:
    """Silence Ray, and make the folders of the environment absolute, because workers run in another folder.

    Raises:
        InputError: a variable names no folder.
    """
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    for name in ("ray", "ray.tune", "ray.train"):
        logging.getLogger(name).setLevel(logging.ERROR)
    logging.getLogger(ray_private.STATE_LOGGER).addFilter(_without_traceback)
    logging.getLogger(ray_private.CONTROLLER_LOGGER).addFilter(_is_not_ours)
    ray_private.hear_worker_output(_unheard)
    for name in FOLDERS:
        if os.environ.get(name):
            try:
                os.environ[name] = whole(os.environ[name])
            except ValueError as error:
                raise InputError(f"{name}: {error}") from error
    if os.environ.get("PYTHONPATH"):
        os.environ["PYTHONPATH"] = os.pathsep.join(map(os.path.abspath, os.environ["PYTHONPATH"].split(os.pathsep)))


def _unheard(data: object, ignore_prefix: bool = False) -> None:
    """Keep Ray's output of a dead worker off the terminal: the row and its file say what happened."""
    logging.getLogger("ray").debug("%s", data)


def _without_traceback(record: logging.LogRecord) -> bool:
    """Shorten Tune's message about a state that it cannot save to one line; rows do not need this state."""
    if record.exc_info and record.exc_info[1] is not None:
        record.msg, record.args, record.exc_info = f"{record.getMessage()}{record.exc_info[1]}", None, None
    return True


def _is_not_ours(record: logging.LogRecord) -> bool:
    """Keep an error that this package raises on purpose off the terminal, as the sweep ends with its sentence."""
    return not (record.exc_info and isinstance(record.exc_info[1], TskdTuneError))


def for_cluster() -> dict[str, str]:
    """Return the environment variables for workers of a cluster, which do not inherit this environment."""
    return {name: os.environ[name] for name in (*OWN_FOLDERS, *OF_STORAGE) if os.environ.get(name)}
