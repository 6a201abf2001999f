"""The forms of ``report`` for searches: a group of replicates, and two searched methods at equal numbers of trials."""

from __future__ import annotations

from tskd_tune.cli.terminal import put_json, say, show
from tskd_tune.errors import InputError
from tskd_tune.paths import StoragePlace
from tskd_tune.records.runs.finding import group_at
from tskd_tune.records.runs.run_folder import RunFolder
from tskd_tune.reports.findings.search_comparison import compared
from tskd_tune.reports.findings.searches import Method, method
from tskd_tune.reports.forms import search_forms
from tskd_tune.reports.forms.grids import drawn
from tskd_tune.reports.forms.plain import plain


def read_method(given: str, storage: StoragePlace, members: list[StoragePlace] | None = None) -> Method:
    """Read a searched run or a group of replicates, given by name, path or address.

    Raises:
        InputError: there is no such run or group, or it is no search.
        RunError: the records cannot be read, or the storage refuses or fails.
    """
    members = group_at(given, storage) if members is None else members
    if members:
        name = str(given).rstrip("/").rpartition("/")[2]
        return method(name, [RunFolder.open(place) for place in members])
    folder = RunFolder.open(given, storage)
    return method(folder.name, [folder])


def show_group(given: str, storage: StoragePlace, members: list[StoragePlace], form: str | None = None) -> None:
    """Show the curve of a group of replicates.

    Raises:
        InputError: the replicates are no searches, or the format is not for searches.
        RunError: the records cannot be read.
    """
    _refuse_form(form)
    found = read_method(given, storage, members)
    if form == "json":
        put_json(search_forms.method_json(found))
    elif form == "csv":
        say(search_forms.method_csv(found).rstrip("\n"))
    elif form == "md":
        say(search_forms.method_markdown(found).rstrip("\n"))
    else:
        for line in search_forms.method_lines(found):
            say(line)


def show_comparison(run: str, against: str, storage: StoragePlace, form: str | None = None) -> None:
    """Compare two searched runs or groups of replicates at equal numbers of trials.

    Raises:
        InputError: there is no such run, it is no search, the metrics differ, or the format is not for searches.
        RunError: the records cannot be read.
    """
    _refuse_form(form)
    ours, theirs = read_method(run, storage), read_method(against, storage)
    found = compared(ours, theirs)
    if form == "json":
        put_json(plain(found))
    elif form == "csv":
        say(search_forms.comparison_csv(found).rstrip("\n"))
    elif form == "md":
        say(search_forms.comparison_markdown(found, ours.metric).rstrip("\n"))
    else:
        heading = f"best {found.metric} of n trials"
        show(drawn(heading, *search_forms.comparison_table(found, ours.metric)))
        for line in search_forms.comparison_lines(found):
            say(line)


def _refuse_form(form: str | None) -> None:
    if form == "latex":
        raise InputError("--format latex: has no table of searches; give md, csv or json")
