"""The ``plan`` command: which epochs memorize and which review."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tskd_tune import documents, local
from tskd_tune.cli.drawing import timeline
from tskd_tune.cli.terminal import console, put_json, say, show, warn
from tskd_tune.errors import InputError
from tskd_tune.experiment import Experiment
from tskd_tune.sweep.schema import Sweep

# A plan does not depend on these; they make the numbers of the command line a whole experiment.
ANY = {"task": {"name": "synthetic"}, "teacher": {"name": "resnet8"}, "student": {"name": "resnet8"}}
# A drawing in a file shows a hundred epochs a line.
PAGE_WIDTH = 107


def plan(
    file: Path | None, *, epochs: int | None, k: int | None, delta: int | None, settings: Sequence[str], as_json: bool
) -> None:
    """Show the plan of a file, or of three numbers with the paper's milestones scaled to the epochs.

    Raises:
        InputError: neither or both were given, or no review falls within the training.
    """
    numbers = {"--epochs": epochs, "--k": k, "--delta": delta}
    missing = [name for name, value in numbers.items() if value is None]
    if file is not None:
        given = [name for name in numbers if name not in missing]
        if given:
            raise InputError(f"plan: was given FILE and {', '.join(given)}; leave one out, or use --set with FILE")
        arms = arms_of(file, settings)
    elif missing:
        raise InputError(f"plan: {', '.join(missing)} is missing; give FILE, or all of --epochs, --k and --delta")
    else:
        document = {**ANY, "review": {"k": k, "delta": delta}, "training": {"epochs": epochs}}
        arms = {"": Experiment.read(documents.apply_settings(document, settings))}
    if as_json:
        put_json(_plain(arms))
        return
    for arm, experiment in arms.items():
        _draw(arm, experiment)


def arms_of(file: Path, settings: Sequence[str]) -> dict[str, Experiment]:
    """Return the experiments of a file by the label of their arm; a single experiment goes by the empty label.

    Of a search, whose points are not known beforehand, these are the corners of its space.

    Raises:
        InputError: the file is wrong.
    """
    if not is_sweep(file):
        return {"": local.read(file, settings)}
    sweep = Sweep.load(file, settings)
    return {point.label: sweep.experiment_at(point) for point in sweep.space().corners()}


def is_sweep(file: Path) -> bool:
    """Tell whether a YAML file has the form of a sweep.

    Raises:
        InputError: the file cannot be read.
    """
    return "experiment" in documents.load(file).data


def facts(experiment: Experiment) -> dict[str, Any]:
    """Return the plan of an experiment as plain data."""
    found = experiment.plan()
    return {
        "epochs": experiment.training.epochs,
        "milestones": experiment.training.milestones or [],
        "k": None if experiment.review is None else experiment.review.k,
        "delta": None if experiment.review is None else experiment.review.delta,
        "memorize": [] if found is None else [*found.memory_epochs],
        "review": [] if found is None else [*found.review_epochs],
        "warnings": experiment.warnings(),
    }


def _plain(arms: dict[str, Experiment]) -> dict[str, Any]:
    if list(arms) == [""]:
        return facts(arms[""])
    return {"arms": [{"arm": arm, **facts(experiment)} for arm, experiment in arms.items()]}


def _draw(arm: str, experiment: Experiment) -> None:
    found = experiment.plan()
    title = f"{arm}: " if arm else ""
    if found is None:
        say(f"{title}{experiment.training.epochs} epochs without a review")
        return
    memories, reviews = len(found.memory_epochs), len(found.review_epochs)
    first, last = found.review_epochs[0], found.review_epochs[-1]
    where = f"from epoch {first} to {last}" if reviews > 1 else f"at epoch {first}"
    plural = "reviews" if reviews > 1 else "review"
    say(f"{title}{experiment.training.epochs} epochs, {memories} memories, {reviews} {plural} {where}")
    terminal = console()
    show(timeline(experiment, terminal.width if terminal.is_terminal else PAGE_WIDTH))
    warn(experiment.warnings())
