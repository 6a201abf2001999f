"""What the calibration trains; apart, so that the command line reads its options without importing torch."""

from __future__ import annotations

from enum import StrEnum


class Arm(StrEnum):
    """The arm that is trained under both names."""

    TSKD = "tskd"
    PLAIN = "plain"
