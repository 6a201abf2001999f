"""Says why a sweep has ended early, and which trainings are missing or do not count because its file was edited."""

from __future__ import annotations

from collections.abc import Sequence

from tskd_tune.records.entries.conclusion import conclusion
from tskd_tune.records.entries.row import Row
from tskd_tune.records.runs.counted import added_trials, edited, not_read, unread
from tskd_tune.records.runs.run_folder import RunFolder
from tskd_tune.reports.findings.comparison import Comparison
from tskd_tune.reports.findings.records import ArmFindings


def concluded(
    run: RunFolder, rows: Sequence[Row], arms: Sequence[ArmFindings], compared: Comparison
) -> tuple[str, ...]:
    """Say why a sweep ended early, on how many seeds its verdicts rest, and what edits of its file change.

    Args:
        run: the run.
        rows: the rows of the run.
        arms: the arms of the rows.
        compared: the comparisons of the arms.
    """
    found, by_hand = conclusion(run.store), edited(run, rows, added_trials(run))
    by_hand = [*([not_read(run)] if unread(run) else []), *by_hand]
    if found is None:
        return tuple(by_hand)
    few = [f"'{arm.arm}' {arm.headline.n} of {arm.headline.of}" for arm in arms if arm.headline.n < arm.headline.of]
    on_few = bool(few) and compared.verdicts is not None
    rest = [f"The verdicts rest on fewer seeds than declared: {', '.join(few)}."] if on_few else []
    return (found.sentence, *rest, *by_hand)
