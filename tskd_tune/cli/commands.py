"""The command line: the application with all its commands.

The options of an experiment are keys of its YAML file. ``--set`` is the only flag that changes these keys.
"""

from tskd_tune.cli import (  # noqa: F401 (each registers its commands)
    cluster_commands,
    planning_commands,
    reading_commands,
    study_commands,
    training_commands,
)
from tskd_tune.cli.app import app, main

__all__ = ["app", "main"]
