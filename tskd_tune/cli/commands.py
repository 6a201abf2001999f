"""The command line: the application with all its commands.

The options of an experiment are keys of its YAML file. ``--set`` is the only flag that changes these keys.
"""

import tskd_tune.cli.preparing.cluster_commands
import tskd_tune.cli.preparing.commands
import tskd_tune.cli.reading.commands
import tskd_tune.cli.study_commands
import tskd_tune.cli.training.commands  # noqa: F401 (each registers its commands)
from tskd_tune.cli.app import app, main

__all__ = ["app", "main"]
