"""The token with which the machines of a cluster identify themselves; it never stands in a cluster file."""

from __future__ import annotations

import os
import secrets
import stat
from pathlib import Path

from tskd_tune.errors import InputError

BYTES = 32


def token_file() -> Path:
    """Return where Ray looks for the token of this user."""
    return Path.home() / ".ray" / "auth_token"


def ensure_token() -> bool:
    """Make the token of this user if there is none; tell whether it was made.

    Raises:
        InputError: the file cannot be written, or other users of this machine can read it.
    """
    path = token_file()
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        problem = token_problem()
        if problem is not None:
            raise InputError(problem) from None
        return False
    except OSError as error:
        raise InputError(
            f"{path}: the token cannot be written ({error.strerror}); make the folder writable for this user"
        ) from error
    with os.fdopen(handle, "w") as file:
        file.write(secrets.token_hex(BYTES))
    return True


def token_problem() -> str | None:
    """Say what is wrong with the token of this user, in a sentence; None if nothing is."""
    path = token_file()
    try:
        found = path.stat()
    except OSError:
        return f"{path}: there is no token, so the cluster could not ask for it; make it by `tskd-tune cluster init`"
    if not stat.S_ISREG(found.st_mode) or not found.st_size:
        return f"{path}: the token is empty; remove the file, and make a token by `tskd-tune cluster init`"
    if stat.S_IMODE(found.st_mode) & 0o077:
        return f"{path}: other users of this machine can read the token; run `chmod 600 {path}`"
    return None
