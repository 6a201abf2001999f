"""The ``plan`` command: which epochs memorize and which review."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from tskd_tune.cli.preparing.course import Course
from tskd_tune.cli.terminal import put_json, say
from tskd_tune.errors import InputError
from tskd_tune.plain import Document
from tskd_tune.words import count


def plan(
    file: Path | None, *, epochs: int | None, k: int | None, delta: int | None, settings: Sequence[str], as_json: bool
) -> None:
    """Show the plan of a file, or of three numbers with the paper's milestones scaled to the epochs.

    Raises:
        InputError: neither the file nor the numbers were given, or both; or no review falls within the training.
    """
    given = [name for name, value in (("--epochs", epochs), ("--k", k), ("--delta", delta)) if value is not None]
    if file is not None and given:
        raise InputError(f"plan: was given FILE and {', '.join(given)}; leave one out, or use --set with FILE")
    if file is not None:
        courses, under = _of_file(file, settings)
    elif epochs is None or k is None or delta is None:
        missing = [name for name in ("--epochs", "--k", "--delta") if name not in given]
        verb = "is" if len(missing) == 1 else "are"
        raise InputError(f"plan: {', '.join(missing)} {verb} missing; give FILE, or all of --epochs, --k and --delta")
    else:
        courses, under = {"": _of_numbers(epochs, k, delta, settings)}, {}
    if as_json:
        put_json(_plain(courses, under))
        return
    for arm, course in courses.items():
        course.draw(arm)
    if under:
        seeds = ", ".join(map(str, under["teachers"]))
        say(
            f"{count(len(under['teachers']), 'teacher')} (seeds {seeds}): {count(under['points'], 'point')} x"
            f" {count(under['seeds'], 'seed')} = {count(under['runs'], 'run')}"
        )


def _of_file(file: Path, settings: Sequence[str]) -> tuple[dict[str, Course], Document]:
    """Return the course of each arm, and the numbers of a sweep with several teachers."""
    from tskd_tune.cli.preparing.arms import arms_of, course_of, teachers_in  # they import torch

    courses = {arm: course_of(experiment) for arm, experiment in arms_of(file, settings).items()}
    return courses, teachers_in(file, settings)


def _of_numbers(epochs: int, k: int, delta: int, settings: Sequence[str]) -> Course:
    if not settings:
        return Course.of_numbers(epochs, k, delta)
    from tskd_tune.cli.preparing.arms import course_of, of_numbers  # they import torch

    return course_of(of_numbers(epochs, k, delta, settings))


def _plain(courses: Mapping[str, Course], under: Document) -> object:
    if list(courses) == [""]:
        return courses[""].plain()
    return {"arms": [{"arm": arm, **course.plain()} for arm, course in courses.items()], **under}
