"""The results of a run on the terminal."""

from __future__ import annotations

from collections.abc import Sequence

from tskd_tune.cli.terminal import say, show
from tskd_tune.paths import in_shell
from tskd_tune.records.runs.run_folder import ROWS, RunFolder
from tskd_tune.records.wandb.offline import offline_of
from tskd_tune.reports.findings import importance, pareto, search_curve
from tskd_tune.reports.findings.review_shares import with_review_shares
from tskd_tune.reports.findings.summary import Findings, summary
from tskd_tune.reports.forms import report_lines
from tskd_tune.reports.forms.cost_forms import cost_notes, rich_cost_table
from tskd_tune.reports.forms.head_lines import head_lines
from tskd_tune.reports.forms.tables import rich_table


def show_results(folder: RunFolder, settings: Sequence[str] = (), *, cost: bool = False) -> None:
    """Show the verdicts and the table of a run, and the places of its report, rows and W&B runs.

    Args:
        folder: the run.
        settings: keys of ``compare`` in place of those of the run; then no file holds what is shown.
        cost: whether to show what each arm cost, too.
    """
    found = summary(folder, settings)
    for line in [*head_lines(found), *report_lines.verdict_lines(found), *report_lines.pooled_lines(found)]:
        say(line)
    show(rich_table(found))
    searched = [
        *pareto.lines(found.pareto, found.measures),
        *search_curve.lines(found.curve, found.measures),
        *importance.lines(found.importance),
    ]
    endings = [*report_lines.ending_lines(found), *report_lines.warning_lines(found)]
    for line in [*report_lines.under_table(found), *searched, *endings]:
        say(line)
    if cost:
        _show_costs(with_review_shares(folder, found))
    if settings:
        say("no file was written: the report in the run's folder is that of the run's own file")
        return
    say(f"report: {folder.store.place('report.html')}")
    say(f"rows: {_rows_of(folder)}")
    if not all(one.uploaded for one in offline_of(folder)):
        say(f"W&B runs are kept offline; send them with: tskd-tune sync {in_shell(folder.place)}")


def _show_costs(found: Findings) -> None:
    if found.costs:
        show(rich_cost_table(found.costs))
    for line in cost_notes(found.costs):
        say(line)


def _rows_of(folder: RunFolder) -> str:
    """Return where the rows can be read: a run on a storage has a readable copy once a driver has ended."""
    if folder.remote is None or folder.remote.shows(ROWS):
        return folder.store.place(ROWS)
    return (
        f"{folder.rows_path} (of this machine; {folder.store.place(ROWS)} is written when a process that trains the run"
        " ends)"
    )
