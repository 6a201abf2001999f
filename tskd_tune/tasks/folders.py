"""Where data sets and decoded images are kept."""

from __future__ import annotations

import os
from pathlib import Path

from tskd_tune.errors import InputError
from tskd_tune.paths import whole_path

DATA_VARIABLE = "TSKD_TUNE_DATA"


def data_folder() -> Path:
    """Return the folder of the environment variable ``TSKD_TUNE_DATA``, or ``data`` in the user's cache folder.

    Raises:
        InputError: the variable holds no path; or it is not set and platformdirs, which knows the user's folders, is
            not installed.
    """
    given = os.environ.get(DATA_VARIABLE)
    if given:
        try:
            return whole_path(given)
        except ValueError as error:
            raise InputError(f"{DATA_VARIABLE}: {error}") from error
    try:
        from platformdirs import user_cache_path
    except ModuleNotFoundError as error:
        raise InputError(
            f"task: the user's cache folder is unknown without platformdirs, which is not installed; install it, "
            f"or set {DATA_VARIABLE} to a folder for data"
        ) from error
    return user_cache_path("tskd-tune") / "data"


def require_writable(folder: Path) -> None:
    """Refuse a folder that cannot be written or created; the folder is not created.

    Raises:
        InputError: the nearest folder above it that exists is not one, or has no write permission.
    """
    nearest = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not nearest.is_dir() or not os.access(nearest, os.W_OK | os.X_OK):
        raise InputError(
            f"task: the data folder {folder} cannot be written (because of {nearest}); "
            f"name one that can by {DATA_VARIABLE}, or by task.root for a data set that is downloaded"
        )
