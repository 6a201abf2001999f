"""The statistics: from numbers by seed to means, intervals, tests and verdicts. It knows no run."""
