"""Compares plain data whose floats may differ by rounding: releases of SciPy round intervals differently."""

from __future__ import annotations

import math
from typing import Any

RELATIVE = 1e-8


def near(found: Any, wanted: Any) -> bool:
    """Tell whether two values have the same form and content, floats and texts of floats to eight digits."""
    if isinstance(wanted, dict):
        same = isinstance(found, dict) and list(found) == list(wanted)
        return same and all(near(found[key], value) for key, value in wanted.items())
    if isinstance(wanted, list):
        same = isinstance(found, list) and len(found) == len(wanted)
        return same and all(map(near, found, wanted))
    if isinstance(wanted, float) and isinstance(found, float):
        return math.isclose(found, wanted, rel_tol=RELATIVE)
    if isinstance(wanted, str) and isinstance(found, str) and found != wanted:
        try:
            return math.isclose(float(found), float(wanted), rel_tol=RELATIVE)
        except ValueError:
            return False
    return bool(found == wanted)
