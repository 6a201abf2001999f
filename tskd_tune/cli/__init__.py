"""The command line ``tskd-tune``. Only this package writes to the terminal."""

from tskd_tune.cli.commands import app, main

__all__ = ["app", "main"]
