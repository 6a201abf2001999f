"""The commands that prepare a run: ``init``, ``list``, ``schema``, ``plan``, ``check`` and ``cluster init``."""
