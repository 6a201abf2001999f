"""The command line: the application with all its commands.

The options of an experiment are keys of its YAML file. ``--set`` is the only flag that changes these keys.
"""

from tskd_tune.cli import planning_commands, reading_commands, training_commands  # noqa: F401 (each registers its commands)
from tskd_tune.cli.app import app, main

__all__ = ["app", "main"]
