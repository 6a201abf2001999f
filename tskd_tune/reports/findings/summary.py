"""All results of a run: means, standard deviations, intervals, verdicts, costs and failures.

A standard deviation is the sample standard deviation over seeds (n - 1 in the denominator). A number from one seed is
marked.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from tskd_tune.documents import apply_settings
from tskd_tune.errors import InputError
from tskd_tune.metrics import Metric, Mode, Part, heading, measured, metric_of
from tskd_tune.records.entries.design import Design, read_design
from tskd_tune.records.entries.leaks import leaks
from tskd_tune.records.entries.row import Row, TeacherRecord
from tskd_tune.records.entries.teaching import Teaching, lines, teachings
from tskd_tune.records.protocols.protocol import Terms, kept
from tskd_tune.records.runs.counted import set_apart
from tskd_tune.records.runs.run_folder import RunFolder
from tskd_tune.records.storing.files import damaged_document
from tskd_tune.reports.findings.arms import arm_findings, gathered, labels_apart
from tskd_tune.reports.findings.collapses import with_collapses
from tskd_tune.reports.findings.comparison import Comparison, Headline, Verdicts, compare
from tskd_tune.reports.findings.concluding import concluded
from tskd_tune.reports.findings.confirmed import confirmed
from tskd_tune.reports.findings.contradictions import doubted
from tskd_tune.reports.findings.cost_table import ArmCost, arm_costs
from tskd_tune.reports.findings.costs import with_cost_ratios
from tskd_tune.reports.findings.declared import Declared
from tskd_tune.reports.findings.endings import Counts, Ending, Unfinished, counts_of, endings
from tskd_tune.reports.findings.frozen import (
    NOT_FROZEN,
    Frozen,
    Present,
    frozen,
    given_in_place_of,
    of_options,
    stated,
)
from tskd_tune.reports.findings.grouping import distinct
from tskd_tune.reports.findings.head import Head, head
from tskd_tune.reports.findings.importance import Importance, importance, lost_study
from tskd_tune.reports.findings.measures import measures_of
from tskd_tune.reports.findings.methods import methods
from tskd_tune.reports.findings.over_images import with_images
from tskd_tune.reports.findings.own_code import edited_code
from tskd_tune.reports.findings.pairs import Trained
from tskd_tune.reports.findings.pareto import Front, Searched, fronts
from tskd_tune.reports.findings.records import ArmFindings, Baseline, Deviations, Method, Warned
from tskd_tune.reports.findings.search_curve import SearchCurve, curve_of, search_trials
from tskd_tune.reports.findings.teachers import worse_teachers

SETTABLE: Final = tuple(f"compare.{key}" for key in ("margin", "rule", "baseline", "pairs", "controls", "allow"))
"""The keys that a report may be given; how seeds may be added is no choice of a report."""


@dataclass(frozen=True)
class Findings:
    """All results of a run so far.

    Attributes:
        run: the name of the run.
        kind: ``sweep`` or ``train``.
        created: when the run was begun, as ISO 8601.
        confirms: the search whose winners the run trains again; None for other runs.
        head: question, task, networks, seeds and devices.
        runs: the number of runs, and how they ended.
        search: the objectives of a search; None for a grid or a single training.
        headline: the metric by which the arms are compared or ranked, as named in rows; empty without rows.
        measures: the metrics of the rows, the task's headline first.
        family: the verdicts of a grid; None where nothing is compared.
        family_reason: why nothing is compared; empty otherwise.
        baselines: the baseline of the cost ratios, for each task and student.
        arms: the arms in the order of their trials; for a search, the best arm first.
        costs: what each arm cost, in the order of the trials.
        pareto: the Pareto fronts.
        importance: the importance of the parameters of a finished search.
        curve: the best of n trials of a search, by its first metric; None for other runs.
        failed: the trainings that failed, including the trainings that broke.
        stopped: the trainings that the scheduler stopped.
        unfinished: the trainings that have begun and have no row.
        teachers: the teachers of the rows.
        broken_teachers: the teachers whose training broke.
        methods: the distillers that were trained, and their sources.
        settings: the differences from the preset.
        warnings: the warnings of the rows, and warnings of teachers that are worse than their students.
        versions: each set of package versions that made rows.
        commits: each commit of the code; None where the code was no checkout.
        method: the search, the scheduler and what ends the sweep early; empty for a single training and in older runs.
        concluded: sentences on a sweep that ended early (why, what is not trained, and the seeds of each arm), and on
            trainings that are missing or do not count because the file of the sweep was edited.
        damage: a sentence on each part of the run's files that could not be read.
        leaks: sentences on images that two sets share, and on teachers that saw the validation images.
        frozen: sentences on what was changed in the protocol that was frozen at the start, on other confirmations of
            the same search, on what contradicts the rows, and on code that was edited between trainings.
        rows: the rows, by trial and seed.
    """

    run: str
    kind: str
    created: str
    confirms: str | None
    head: Head
    runs: Counts
    search: Searched | None
    headline: str
    measures: tuple[Metric, ...]
    family: Verdicts | None
    family_reason: str
    baselines: tuple[Baseline, ...]
    arms: tuple[ArmFindings, ...]
    costs: tuple[ArmCost, ...]
    pareto: tuple[Front, ...]
    importance: Importance | None
    curve: SearchCurve | None
    failed: tuple[Ending, ...]
    stopped: tuple[Ending, ...]
    unfinished: tuple[Unfinished, ...]
    teachers: tuple[TeacherRecord, ...]
    broken_teachers: tuple[Teaching, ...]
    methods: tuple[Method, ...]
    settings: tuple[Deviations, ...]
    warnings: tuple[Warned, ...]
    versions: tuple[Mapping[str, str], ...]
    commits: tuple[str | None, ...]
    method: str
    concluded: tuple[str, ...]
    damage: tuple[str, ...]
    leaks: tuple[str, ...]
    frozen: tuple[str, ...]
    rows: tuple[Row, ...]

    @property
    def metric(self) -> Metric:
        """The metric of the headline."""
        return metric_of(self.headline, self.measures)

    def heading(self, name: str) -> str:
        """Return the heading of a metric's column; the name is as in rows. Without rows the heading is ``metric``."""
        return heading(name, self.measures) if name else "metric"

    def on(self, part: Part) -> str:
        """Return the name in rows of the headline's metric on the training, validation or test set."""
        return measured(part, self.metric)


def summary(run: RunFolder, settings: Sequence[str] = ()) -> Findings:
    """Return the results of a run so far; the rows are read once.

    A training that broke has a row and is in ``failed``; a resume trains it again. A training that has begun and has no
    row is in ``unfinished``. Damaged lines are left out and listed in ``damage``.

    Args:
        run: the run.
        settings: keys of ``compare`` in place of those of ``sweep.yaml``, each ``compare.key=value``. Verdicts that
            were not declared in this way before there were results are exploratory.

    Raises:
        RunError: the rows cannot be read.
        InputError: ``compare`` in ``sweep.yaml`` was edited and cannot be tested, or a setting is wrong.
    """
    trained = sorted(run.rows(), key=lambda row: row.key)
    rows, apart = set_apart(run, trained)
    given, measures = _document(run, settings), measures_of(rows)
    search = searched_by(given.document, measures)
    name, mode = (search.metric, search.mode) if search else _headline(rows, measures)
    headline = Headline(name, metric_of(name, measures))
    counts, open_ = counts_of(run, rows, len(given.document.all_seeds))
    seeds = 0 if counts.finished == counts.expected else len(given.document.seeds or [1])
    arms = [arm_findings(group, headline, seeds) for group in gathered(rows, search is not None)]
    arms, baselines = with_cost_ratios(with_collapses(labels_apart(arms), headline))
    protocol = doubted(_frozen(run, given, name, rows), run, trained, headline)
    now = [arm for arm in arms if arm.rows[0].arm not in apart]
    compared = with_images(run, now, _compared(given, now, headline, counts, protocol), name)
    shares, study = _studied(run, search, counts.finished)
    return Findings(
        run=run.name,
        kind=run.state.kind,
        created=run.state.created,
        confirms=run.state.confirms,
        head=head(run, rows, len(arms)),
        runs=counts,
        search=search,
        headline=name,
        measures=measures,
        family=compared.verdicts,
        family_reason=compared.reason,
        baselines=tuple(baselines),
        arms=tuple(_ranked(arms, search.mode) if search else arms),
        costs=arm_costs(arms),
        pareto=fronts(search, arms, name, mode),
        importance=shares,
        curve=curve_of([found] if (found := search_trials(search, given.document, rows)) is not None else []),
        failed=endings(rows, "failed"),
        stopped=endings(rows, "stopped"),
        unfinished=open_,
        teachers=tuple(distinct(row.teacher for row in rows if row.teacher)),
        broken_teachers=tuple(one for one in teachings(lines(run.store)) if one.state == "broken"),
        methods=methods(rows),
        settings=_settings(arms),
        warnings=(*_warnings(rows), *(worse_teachers(arms, measures[0]) if measures else ())),
        versions=tuple(distinct(row.versions for row in rows)),
        commits=tuple(distinct(row.commit for row in rows)),
        method=(read_design(run.path) or Design()).method,
        concluded=concluded(run, trained, arms, compared),
        damage=(*filter(None, [given.damaged]), *run.damage(), *study),
        leaks=leaks(run.store, rows),
        frozen=(*protocol.said, *edited_code(rows)),
        rows=tuple(rows),
    )


def _studied(run: RunFolder, search: Searched | None, finished: int) -> tuple[Importance | None, list[str]]:
    """Return the importance of a search's parameters, and a sentence where its study is gone."""
    if search is None:
        return None, []
    found = importance(run, search.metric, finished)
    return found, lost_study(run, search.name, found, finished)


def document_of(run: RunFolder) -> tuple[Declared, str]:
    """Return the resolved document; where the file is damaged, an empty document and a sentence."""
    given = _document(run, [])
    return given.document, given.damaged


@dataclass(frozen=True)
class _Given:
    """The document of a sweep or a training, as its file says and as the options of the report say, and its damage."""

    kind: str
    file: Declared
    document: Declared
    damaged: str = ""


def _document(run: RunFolder, settings: Sequence[str]) -> _Given:
    """Return the resolved document; where the file is damaged, an empty document and a sentence.

    Raises:
        InputError: a setting is no key of ``compare``, or has a wrong value.
    """
    for setting in settings:
        key = setting.partition("=")[0]
        if key not in SETTABLE and not key.startswith("compare.controls."):
            raise InputError(f"--set {setting}: a report takes one of {', '.join(SETTABLE)}, as in compare.margin=0.5")
    try:
        read = run.document()
        file = Declared.read(read, run.store.place("sweep.yaml"))
    except InputError as error:
        return _Given(run.state.kind, Declared(), Declared(), damaged_document(run.place, error))
    asked = Declared.read(apply_settings(read, settings), "--set") if settings else file
    return _Given(run.state.kind, file, asked)


def searched_by(document: Declared, measures: Sequence[Metric]) -> Searched | None:
    """Return the objectives of a search; without a metric in the file, the task's headline on the validation set."""
    if document.search is None or not document.is_search:
        return None
    found = document.search
    metric = found.metric or (measured("validation", measures[0]) if measures else "")
    return Searched(found.name, metric, found.mode or metric_of(metric, measures).mode, found.objectives)


def _headline(rows: Sequence[Row], measures: Sequence[Metric]) -> tuple[str, Mode]:
    """Return the task's headline on the test set; on the validation set where the test set was never evaluated."""
    if not measures:
        return "", "max"
    measured_names = {name for row in rows for name in row.metrics}
    validation, test = (measured(part, measures[0]) for part in ("validation", "test"))
    only_validation = validation in measured_names and test not in measured_names
    return (validation if only_validation else test), measures[0].mode


def protocol_of(run: RunFolder, headline: Headline, rows: Sequence[Row]) -> Frozen:
    """Return what is said of the protocol of a run, and of what contradicts its rows."""
    return doubted(_frozen(run, _document(run, []), headline.name, rows), run, rows, headline)


def _frozen(run: RunFolder, given: _Given, headline: str, rows: Sequence[Row]) -> Frozen:
    """Say what was changed since the start of a sweep, and which other confirmations of its search there are."""
    if given.damaged or run.state.kind != "sweep":
        return NOT_FROZEN
    own = kept(run)
    last = own.lines[-1].terms if own and own.lines else Terms(metric=headline)
    # Before a training is done, a metric of the test set may be missing in all rows.
    metric = headline if any(row.status == "done" for row in rows) else last.metric
    family = [(arm, baseline) for arm, baseline in last.family]
    file, asked = (
        stated(one, metric=metric, family=family, experiments=last.experiments) for one in (given.file, given.document)
    )
    present = Present(asked, sum(row.ended for row in rows), given_in_place_of(file, asked))
    if own is None:
        return of_options(file, present) if present.given else NOT_FROZEN
    return confirmed(run, own, given.document.all_seeds, frozen(own, present))


def _compared(
    given: _Given, arms: Sequence[ArmFindings], headline: Headline, counts: Counts, protocol: Frozen
) -> Comparison:
    """Compare the arms of a grid; a search and a single training have no comparisons.

    Raises:
        InputError: an option of the report names an arm or a key that there is not.
    """
    if given.damaged:
        return Comparison(None, given.damaged)
    document = given.document
    document.comparing.refuse_unknown(given.file.comparing, {arm.arm: arm.rows[0].experiment for arm in arms})
    if given.kind == "train":
        return Comparison(None, "A single training: there is nothing to compare it with.")
    if document.is_search:
        reason = (
            "A search ranks its trials by the metric that chose them: confirm the best trials on fresh seeds, in a grid"
        )
        return Comparison(None, f"{reason}, to compare them.")
    trained = [Trained(arm.arm, arm.setting, arm.reviewed, arm.rows, arm.collapsed) for arm in arms]
    return compare(trained, document, headline, counts, protocol)


def _ranked(arms: Sequence[ArmFindings], mode: Mode) -> list[ArmFindings]:
    """Sort points by the searched metric. Points that were stopped come last, the longest trained first."""
    sign = -1.0 if mode == "max" else 1.0

    def rank(arm: ArmFindings) -> tuple[bool, int, float, str]:
        if arm.headline.mean is not None:
            return False, 0, sign * arm.headline.mean, arm.run
        epochs, mean = (arm.stopped_at.epochs, arm.stopped_at.mean) if arm.stopped_at else (0, None)
        return True, -epochs, sign * (mean or 0.0), arm.run

    return sorted(arms, key=rank)


def _settings(arms: Sequence[ArmFindings]) -> tuple[Deviations, ...]:
    """Group the arms that have the same preset and the same deviations."""
    keys = distinct((arm.preset, arm.deviations) for arm in arms)
    return tuple(
        Deviations(preset, own, tuple(arm.arm for arm in arms if (arm.preset, arm.deviations) == (preset, own)))
        for preset, own in keys
    )


def _warnings(rows: Sequence[Row]) -> list[Warned]:
    sentences = distinct(sentence for row in rows for sentence in row.warnings)
    return [
        Warned(sentence, tuple(distinct(row.arm for row in rows if sentence in row.warnings))) for sentence in sentences
    ]
