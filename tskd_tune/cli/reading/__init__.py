"""The commands that show what a run has done: ``runs``, ``status``, ``report``, ``export`` and ``sync``."""
