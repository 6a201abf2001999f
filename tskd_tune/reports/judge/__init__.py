"""The statistics: means, intervals, tests and verdicts from values per seed. This package imports nothing of runs."""
