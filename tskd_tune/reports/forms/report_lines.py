"""The findings of a run in sentences, for the terminal, Markdown, LaTeX and the page."""

from __future__ import annotations

from collections.abc import Sequence

from tskd_tune.records.entries.row import BEST_TEST_MARK
from tskd_tune.reports.findings import scale
from tskd_tune.reports.findings.cost_table import apart
from tskd_tune.reports.findings.costs import sharing
from tskd_tune.reports.findings.endings import Ending, Unfinished
from tskd_tune.reports.findings.grouping import few
from tskd_tune.reports.findings.records import Baseline
from tskd_tune.reports.findings.several_teachers import has_several
from tskd_tune.reports.findings.summary import Findings
from tskd_tune.reports.forms.short import broken_teacher_line


def verdict_lines(found: Findings) -> list[str]:
    """Return a sentence for each contrast and then the notes; or the reason why nothing is compared."""
    if found.family is None:
        return [found.family_reason]
    family = found.family.family
    notes = [note for note in found.family.notes if note != family.exploratory]  # the head begins with it
    return [*(finding.sentence for finding in family.findings), *notes]


def pooled_lines(found: Findings) -> list[str]:
    """Return a sentence for each method that was compared in several pairs, and a note on how to read them."""
    if found.family is None or not found.family.pooled:
        return []
    return [
        *(one.sentence for one in found.family.pooled),
        "They summarize the comparisons above and have no verdict of their own.",
    ]


def under_table(found: Findings) -> list[str]:
    """Return the lines under the table of arms: first the smallest difference that the design can detect."""
    visible = [found.family.family.sentence] if found.family else []
    return [*visible, *_lacking_intervals(found), *notes(found)]


def _lacking_intervals(found: Findings) -> list[str]:
    """Return each reason for a missing interval, with the arms that lack an interval for this reason."""
    arms: dict[str, list[str]] = {}
    for arm in found.arms:
        if note := arm.statistics.note:
            arms.setdefault(note, []).append(arm.arm)
    return [f"{note[0].upper()}{note[1:]} ({few(names)})." for note, names in arms.items()]


def purpose(found: Findings) -> list[str]:
    """Return a sentence on the purpose of a run, where the purpose is known."""
    search = found.confirms
    return [f"This run trains the winners of '{search}' again, with seeds that did not choose them."] if search else []


def notes(found: Findings) -> list[str]:
    """Return the sentences under the table: how to read the table, and which errors occurred."""
    lines = ["Mean ± sample standard deviation over seeds; a run's value is that of its last epoch."]
    if any(has_several(arm.rows) for arm in found.arms):
        lines.append("Under several teachers, the value of a seed is its mean over the teachers.")
    if found.search and found.method:
        lines.append(f"Method: {found.method}.")
    if found.search:
        lines.append(f"Sorted by {found.search.metric} ({found.search.mode}), never by a test metric.")
    if has_best_test(found):
        lines.append(f"† {BEST_TEST_MARK}.")
    if found.baselines:
        lines.append(_ratio_line(found.baselines))
    lines += [f"‡ {said}" for said in unlike(found)]
    if any(arm.beyond for arm in found.arms):
        lines.append(scale.NOTE)
    return [*found.concluded, *lines, *found.damage]


def unlike(found: Findings) -> list[str]:
    """Return why times and memory of the arms are not alike, in sentences."""
    return [said for said in (sharing(found.arms), apart(found.costs)) if said]


def has_best_test(found: Findings) -> bool:
    """Tell whether any arm has a best test epoch, and each such arm has one for every finished seed."""
    measured = [arm for arm in found.arms if arm.best_test.n]
    return bool(measured) and all(arm.best_test.n == arm.headline.n for arm in measured)


def _ratio_line(baselines: Sequence[Baseline]) -> str:
    first = baselines[0]
    if len(baselines) == 1:
        return f"Time ratios are relative to '{first.arm}', {first.why}."
    arms = ", ".join(f"'{base.arm}'" for base in baselines)
    return (
        "Time ratios compare arms of one task and student, with the first arm without a review, otherwise the first"
        f" arm: {arms}."
    )


def ending_lines(found: Findings) -> list[str]:
    """Return a sentence with the reason for each teacher that broke and each run that did not end as planned."""
    failed = [end for end in found.failed if not end.broke]
    broke = [end for end in found.failed if end.broke]
    return [
        *map(broken_teacher_line, found.broken_teachers),
        *(_ending(end, "failed") for end in failed),
        *(f"{_ending(end, 'broke')}{_whole_error(end)}" for end in broke),
        *(_ending(end, "was stopped") for end in found.stopped),
        *map(_unfinished, found.unfinished),
    ]


def _ending(end: Ending, word: str) -> str:
    return (
        f"{end.arm}, {_seeds(end.seeds)} (trial {end.run}) {word} after {end.epochs} of "
        f"{end.epochs_planned} epochs: {end.reason}"
    )


def _whole_error(end: Ending) -> str:
    errors = f"; the whole error: {', '.join(end.errors)}" if end.errors else ""
    return f" (`tskd-tune resume` trains it again{errors})"


def _unfinished(training: Unfinished) -> str:
    arm = f"{training.arm}, seed" if training.arm else "seed"
    of = f" of {training.epochs_planned}" if training.epochs_planned else ""
    return (
        f"{arm} {training.seed} (trial {training.run}) is unfinished after {training.epochs}{of} epochs: the"
        " training runs now, or was interrupted; `tskd-tune resume` continues it"
    )


def _seeds(seeds: Sequence[int]) -> str:
    return f"seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}"


def method_lines(found: Findings) -> list[str]:
    """Return a line for each distiller that trained, with the source of the method and of its implementation."""
    return [f"{method.name}: {method.source}" for method in found.methods]


def warning_lines(found: Findings) -> list[str]:
    """Return each warning of the runs once, with the arms that have this warning."""
    return [f"{item.sentence} ({few(item.arms)})" for item in found.warnings]


def version_lines(found: Findings) -> list[str]:
    """Return a line for each set of versions, and a line for the commits."""
    lines = [", ".join(f"{name} {number}" for name, number in versions.items()) for versions in found.versions]
    commits = [commit or "unknown (the code was no git checkout)" for commit in found.commits]
    return lines + ([f"commit {', '.join(commits)}"] if commits else [])
