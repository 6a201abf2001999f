"""What a sweep trains, in numbers: points, epochs and teachers."""

from __future__ import annotations

from tskd_tune.sweeps.declared.schema import Sweep
from tskd_tune.sweeps.space.teacher_seeds import under_text
from tskd_tune.words import count


def point_count(given: Sweep) -> int:
    """Return the number of points that a sweep trains: all points of a grid, or the number of a search's trials.

    An arm under several teachers is a point for each of them.

    Raises:
        InputError: a grid has a range.
    """
    return len(given.points()) if given.is_exact else int(given.search.options()["trials"])


def runs_text(points: int, seeds: int) -> str:
    """Return ``6 points x 3 seeds = 18 runs``."""
    return f"{count(points, 'point')} x {count(seeds, 'seed')} = {count(points * seeds, 'run')}"


def teachers_text(given: Sweep) -> str:
    """Say under how many teachers a grid trains; empty under one, and for a search."""
    return under_text(given.points()) if given.is_exact else ""


def epoch_count(given: Sweep) -> int:
    """Return the total number of epochs of all trainings; for a search, the largest possible number."""
    space, seeds = given.space(), len(given.all_seeds())
    if given.is_exact:
        return seeds * sum(given.experiment_at(point).training.epochs for point in given.points())
    return seeds * point_count(given) * max(given.experiment_at(point).training.epochs for point in space.corners())
