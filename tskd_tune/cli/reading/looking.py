"""The commands that show or copy the results of a run: ``report`` and ``export``."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tskd_tune.cli.reading import comparing_searches
from tskd_tune.cli.reading.results import show_results
from tskd_tune.cli.terminal import put_json, say, show
from tskd_tune.errors import InputError, RunError, UnwritableError, did_you_mean
from tskd_tune.paths import StoragePlace
from tskd_tune.records.entries.row import Row
from tskd_tune.records.runs.finding import group_at
from tskd_tune.records.runs.run_folder import RunFolder
from tskd_tune.reports.findings.review_shares import with_review_shares
from tskd_tune.reports.findings.summary import Findings, summary
from tskd_tune.reports.forms import exports, paper, paper_forms
from tskd_tune.reports.forms.cost_forms import cost_notes, costs_as_csv
from tskd_tune.reports.forms.latex import latex, latex_costs
from tskd_tune.reports.forms.markdown import markdown, markdown_costs
from tskd_tune.reports.forms.plain import as_json, plain
from tskd_tune.reports.page.report import write_report


@dataclass(frozen=True)
class Wish:
    """The wanted report: its format (None: on the terminal and as files), the table for CSV, the paper's table.

    ``cost`` tells whether the table of costs is wanted, alone in a format. ``against`` is another searched run or group
    that the run is compared with. ``settings`` replace keys of ``compare``; then no file is written. ``to_wandb`` tells
    whether the report is also saved on W&B.
    """

    form: str | None = None
    what: str | None = None
    paper: str | None = None
    cost: bool = False
    against: str | None = None
    settings: tuple[str, ...] = ()
    to_wandb: bool = False

    def refuse_for_group(self, group: str) -> None:
        """Refuse what a group of replicates has not.

        Raises:
            InputError: a table of a single run is wanted.
        """
        given = [f"--paper {self.paper}"] * (self.paper is not None)
        given += [f"--set {setting}" for setting in self.settings]
        given += [f"--what {self.what}"] * (self.what not in (None, "search"))
        given += ["--cost"] * self.cost
        given += ["--wandb"] * self.to_wandb
        if given:
            raise InputError(
                f"{given[0]}: '{group}' is a group of replicates of a search, which has only the curve of the search;"
                f" leave {given[0]} out, or give one of its runs"
            )

    @classmethod
    def of(
        cls,
        as_json: bool,
        form: str | None,
        what: str | None,
        paper: str | None,
        *,
        cost: bool = False,
        against: str | None = None,
        settings: Sequence[str] = (),
        to_wandb: bool = False,
    ) -> Wish:
        """Return the wanted report from a command's options.

        Raises:
            InputError: the options contradict each other.
        """
        form = None if form is None else str(form)
        if as_json and form not in {None, "json"}:
            raise InputError(f"--json: cannot be combined with --format {form}; give one of them")
        if what is not None and (form != "csv" or paper is not None):
            raise InputError(
                "--what: applies only to --format csv without --paper; the other formats contain every table"
            )
        if cost and (what is not None or paper is not None or against is not None):
            other = "--against" if against is not None else "--paper" if paper is not None else "--what"
            raise InputError(f"--cost: shows the table of costs, and {other} shows another one; give one of them")
        if against is not None and (what is not None or paper is not None or settings or to_wandb):
            raise InputError(
                "--against: compares two searches, and has one table; leave --what, --paper, --set and --wandb out, or"
                " --against"
            )
        if settings and (paper is not None or to_wandb):
            other = "--wandb" if paper is None else "--paper"
            raise InputError(f"--set: shows exploratory verdicts on this terminal, so it does not go with {other}")
        table = None if what is None else str(what)
        return cls("json" if as_json else form, table, paper, cost, against, tuple(settings), to_wandb)


def report(run: str, storage: StoragePlace, wish: Wish = Wish()) -> None:
    """Show the results of a run. Unless a format or a table of the paper is wanted, write the report's files again.

    Of a group of replicates, show the curve of the search; against another search, show the difference of both.

    Raises:
        InputError: there is no such run, or no such table.
        RunError: the run's records cannot be read, or its folder cannot be written.
    """
    if wish.against is not None:
        comparing_searches.show_comparison(run, wish.against, storage, wish.form)
        return
    if members := group_at(run, storage):
        wish.refuse_for_group(run)
        comparing_searches.show_group(run, storage, members, wish.form)
        return
    folder = RunFolder.open(run, storage)
    if wish.paper is not None:
        _show_paper(folder, wish.paper, wish.form)
    elif wish.form is not None:
        found = with_review_shares(folder, summary(folder, wish.settings))
        if wish.cost:
            _put_costs(found, wish.form)
        else:
            _put(found, wish.form, wish.what)
    else:
        unwritten = None if wish.settings else _unwritten(folder)
        show_results(folder, wish.settings, cost=wish.cost)
        if unwritten is not None:
            raise RunError(
                f"{folder.place}: report.html and report.md were not written ({unwritten}), but the results above are"
                " whole; permit writing there, or let the owner of the folder write the report"
            )


def _unwritten(folder: RunFolder) -> str | None:
    """Write the files of a report; return why they cannot be written, such as into the run of another user."""
    try:
        write_report(folder)
    except UnwritableError as error:
        return getattr(error.__cause__, "strerror", None) or str(error)
    return None


def _put(found: Findings, form: str, what: str | None) -> None:
    """Write a report on stdout in one format, and nothing else.

    Raises:
        InputError: the table of a search is wanted of another run.
    """
    if what == "search" and found.curve is None:
        raise InputError(f"--what search: '{found.run}' is no search with trials of a known value; give another --what")
    if form == "json":
        put_json(as_json(found))
    elif form == "csv":
        say(exports.as_csv(found, what or "arms").rstrip("\n"))
    else:
        say((markdown(found) if form == "md" else latex(found)).rstrip("\n"))


def _put_costs(found: Findings, form: str) -> None:
    """Write the table of costs alone on stdout in one format."""
    if form == "json":
        put_json({"costs": plain(found.costs), "notes": cost_notes(found.costs)})
    elif form == "csv":
        say(costs_as_csv(found.costs).rstrip("\n"))
    else:
        say((markdown_costs if form == "md" else latex_costs)(found.costs).rstrip("\n"))


def _show_paper(folder: RunFolder, name: str, form: str | None) -> None:
    """Write a table of the paper with the run's arms beside its cells."""
    table = paper.beside(summary(folder), paper.named(name))
    if form == "json":
        put_json(paper_forms.as_json(table))
    elif form is not None:
        forms = {"md": paper_forms.markdown, "latex": paper_forms.latex, "csv": paper_forms.as_csv}
        say(forms[form](table).rstrip("\n"))
    else:
        show(paper_forms.rich_table(table))
        for line in paper_forms.notes(table):
            say(line)


def export(run: str, arm: str, file: Path, seed: int | None, storage: StoragePlace) -> None:
    """Copy the final student of an arm to a new file.

    Raises:
        InputError: there is no such run, arm or seed, or the file exists or cannot be made.
        RunError: the file of the student is missing in the run's folder.
    """
    folder = RunFolder.open(run, storage)
    row = _chosen(folder.rows(), arm, seed)
    source = folder.bring(folder.student_path(row.run, row.seed))
    if not source.exists():
        place = folder.store.place(str(source.relative_to(folder.path)))
        raise RunError(f"{place}: the student is gone; restore it, or train the arm again under another name")
    _copy(source, file)
    say(f"{file}: {row.experiment['student']['name']} of '{row.arm}', seed {row.seed}, after epoch {row.epochs - 1}")


def _chosen(rows: Sequence[Row], arm: str, seed: int | None) -> Row:
    names = {row.arm for row in rows} | {row.run for row in rows}
    if arm not in names:
        raise InputError(f"ARM: no training of '{arm}' is finished{did_you_mean(arm, {row.arm for row in rows})}")
    done = [row for row in rows if arm in (row.arm, row.run) and row.status == "done"]
    if not done:
        raise InputError(f"ARM: no training of '{arm}' ended well, so there is no final student; choose another arm")
    if seed is None:
        seed = min(row.seed for row in done)
    chosen = [row for row in done if row.seed == seed]
    if not chosen:
        raise InputError(f"--seed: '{arm}' has no finished seed {seed}, but {sorted({row.seed for row in done})}")
    if len(chosen) > 1:
        runs = ", ".join(row.run for row in chosen)
        raise InputError(f"ARM: '{arm}' is the label of several trials ({runs}); give the id of one of them")
    return chosen[0]


def _copy(source: Path, file: Path) -> None:
    """Copy to a new file; an existing file is never overwritten."""
    try:
        with file.open("xb") as target, source.open("rb") as student:
            try:
                shutil.copyfileobj(student, target)
            except BaseException:
                file.unlink()
                raise
    except FileExistsError as error:
        raise InputError(f"{file}: exists and is not overwritten; give another FILE") from error
    except OSError as error:
        raise InputError(f"{file}: cannot be written ({error.strerror}); give another FILE") from error
