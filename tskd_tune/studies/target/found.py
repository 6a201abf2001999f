"""What the study of the target says: the judge's findings, the dose of the prediction, and what the reviews did."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from tskd_tune.plain import Json
from tskd_tune.records.runs.run_folder import RunFolder
from tskd_tune.records.storing.lines import HistoryLine
from tskd_tune.reports.findings.comparison import Verdicts
from tskd_tune.reports.findings.effects import gap_change
from tskd_tune.reports.findings.records import ArmFindings
from tskd_tune.reports.findings.summary import Findings
from tskd_tune.reports.judge import statistics
from tskd_tune.reports.judge.records import Finding
from tskd_tune.reports.judge.sentences import title_of
from tskd_tune.studies.found import Cell, Chart, Figure, Found, NamedTable, Table

# The arms of the dose differ from one another in `prediction_scale` alone.
DOSE: Mapping[str, object] = {"kind": "absolute_increment", "gradient": "attach"}
STATIC = 0.0
SMOKE = "no verdict"
DIGITS = 12
"""The decimals of a difference; those behind them are rounding."""


@dataclass(frozen=True)
class Reviews:
    """What the review epochs of an arm showed, seed by seed.

    Attributes:
        lines: the history of each training: of a seed, or of a seed under one of several teachers.
        loss: seed -> L_ST of each review, not multiplied by lambda; under several teachers the mean over them.
        gap: seed -> the mean gap to the teacher's maps at each review, likewise.
    """

    lines: Sequence[Sequence[HistoryLine]]
    loss: Mapping[int, Sequence[float]]
    gap: Mapping[int, Sequence[float]]

    @classmethod
    def of(cls, *trials: Sequence[HistoryLine]) -> Reviews:
        """Gather the lines of each trial by their seeds; trials that share a seed have several teachers."""
        every = [
            [line for line in lines if line.seed == seed]
            for lines in trials
            for seed in dict.fromkeys(line.seed for line in lines)
        ]
        return cls(every, *(_by_seed(every, name) for name in ("review_loss", "teacher_gap")))

    @property
    def unit(self) -> str:
        """What a history is: a ``seed``, or a ``training`` under several teachers."""
        return "seed" if len(self.loss) == len(self.lines) else "training"


def reviews_of(run: RunFolder, arm: ArmFindings) -> Reviews:
    """Read the histories of an arm, which may have a trial for each seed."""
    return Reviews.of(*(run.history(trial) for trial in arm.runs))


def _by_seed(every: Sequence[Sequence[HistoryLine]], name: str) -> dict[int, list[float]]:
    """Return seed -> a number of each review; of several histories of a seed the mean."""
    found: dict[int, list[list[float]]] = {}
    for history in every:
        found.setdefault(history[0].seed, []).append(_numbers(history, name))
    return {seed: [fmean(of_review) for of_review in zip(*own, strict=False)] for seed, own in found.items()}


def _numbers(history: Sequence[HistoryLine], name: str) -> list[float]:
    return [number for line in history if (number := line.number(name)) is not None]


def found(results: Findings, reviews: Mapping[str, Reviews]) -> Found:
    """Return what was found.

    Args:
        results: the results of the sweep, as its report has them.
        reviews: the label of each arm -> its reviews.
    """
    doses = dose_arms(results.arms)
    verdicts, unit = results.family, results.metric.unit
    return Found(
        sentences=(*_judged(results), *_gaps(reviews)),
        figures=(
            _dose_figure(doses, verdicts, unit),
            _comparisons_figure(verdicts, unit),
            _reviews_figure(doses, reviews),
        ),
        tables=(
            NamedTable(
                "verdicts",
                "The verdicts",
                "The same comparisons, tests and words as in the report of the sweep.",
                comparisons(verdicts),
            ),
            NamedTable(
                "arms",
                "The arms",
                "Loss and gap: means over seeds of the review loss, without lambda, and of the gap to the maps of the"
                " teacher, at the first and at the last review.",
                _arms(results, reviews),
            ),
        ),
        counted=_counted(results, reviews),
    )


def _judged(results: Findings) -> list[str]:
    """Return what the judge says, in its own words; the reason where nothing is compared."""
    verdicts = results.family
    if verdicts is None:
        return [results.family_reason]
    family = verdicts.family
    return [*(finding.sentence for finding in family.findings), *verdicts.notes, family.sentence]


def _gaps(reviews: Mapping[str, Reviews]) -> list[str]:
    changes = [gap_change(arm, own.lines, own.unit) for arm, own in reviews.items()]
    return [change.sentence for change in changes if change is not None]


# The dose


def dose_arms(arms: Sequence[ArmFindings]) -> dict[float, ArmFindings]:
    """Return prediction scale -> the arm that reviews increments with it, attached, by ascending scale."""
    found: dict[float, ArmFindings] = {}
    for arm in arms:
        target = _target(arm)
        scale = target.get("prediction_scale")
        if arm.review.get("sequence") == "increment" and DOSE.items() <= target.items() and _is_number(scale):
            found[float(str(scale))] = arm
    return dict(sorted(found.items()))


def _target(arm: ArmFindings) -> Mapping[str, Json]:
    target = arm.review.get("target")
    return target if isinstance(target, dict) else {}


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def dose(arms: Mapping[float, ArmFindings], verdicts: Verdicts | None) -> Table:
    """Return the difference of each dose to the static target, with its interval, as the judge has them.

    The static target itself has a difference of 0 without an interval. A dose that is not compared with the static
    target has no difference.
    """
    columns = ("prediction scale", "arm", "seeds", "difference", "low", "high", "verdict")
    static = arms[STATIC].arm if STATIC in arms else None
    rows: list[tuple[Cell, ...]] = []
    for scale, arm in arms.items():
        if arm.arm == static:
            rows.append((scale, arm.arm, arm.headline.n, 0.0, None, None, "the static target"))
            continue
        finding = _finding(verdicts, arm.arm, static)
        values = _compared(finding) if finding is not None else (None, None, None, None, "not compared")
        rows.append((scale, arm.arm, *values))
    return Table(columns, tuple(rows))


def _finding(verdicts: Verdicts | None, arm: str, baseline: str | None) -> Finding | None:
    findings = () if verdicts is None else verdicts.family.findings
    same = (one for one in findings if (one.contrast.arm, one.contrast.baseline) == (arm, baseline))
    return next(same, None)


def _compared(finding: Finding) -> tuple[int, float | None, float | None, float | None, str]:
    """Return the seeds, the difference, both ends of its interval, and the verdict."""
    interval = finding.evidence.interval
    ends = (None, None) if interval is None else (_plain(interval.low), _plain(interval.high))
    return finding.contrast.n, _plain(finding.contrast.difference), *ends, finding.verdict or SMOKE


def _plain(number: float | None) -> float | None:
    """Return a number without the rounding of its last bits, which would show no difference as -4.7e-15."""
    return None if number is None else round(number, DIGITS) + 0.0


def _dose_figure(arms: Mapping[float, ArmFindings], verdicts: Verdicts | None, unit: str) -> Figure:
    return Figure(
        "dose",
        "The dose of the prediction",
        "The difference to the static target (scale 0) with its interval, paired by seed. Scale 1 is TSKD's dynamic"
        " target. Only the verdicts say whether a difference is a finding.",
        dose(arms, verdicts),
        Chart(
            "points",
            "prediction scale",
            "difference",
            low="low",
            high="high",
            x_title="prediction_scale",
            y_title=f"minus scale 0{_of(unit)}",
            reference=0.0,
        ),
    )


def _of(unit: str) -> str:
    return " in percentage points" if unit == "%" else f" in {unit}" if unit else ""


# Comparisons and reviews


def comparisons(verdicts: Verdicts | None) -> Table:
    """Return all comparisons of the sweep, as the judge has them."""
    columns = ("comparison", "seeds", "difference", "low", "high", "verdict", "adjusted p")
    findings = () if verdicts is None else verdicts.family.findings
    return Table(columns, tuple((title_of(one.contrast), *_compared(one), one.holm_p) for one in findings))


def _comparisons_figure(verdicts: Verdicts | None, unit: str) -> Figure:
    return Figure(
        "comparisons",
        "All comparisons",
        "Differences with their intervals, paired by seed; the comparisons were declared before the run.",
        comparisons(verdicts),
        Chart(
            "intervals",
            "comparison",
            "difference",
            low="low",
            high="high",
            y_title=f"difference{_of(unit)}",
            reference=0.0,
        ),
    )


def _reviews_figure(arms: Mapping[float, ArmFindings], reviews: Mapping[str, Reviews]) -> Figure:
    columns = ("prediction scale", "what", "seeds", "last review / first review", "low", "high")
    rows: list[tuple[Cell, ...]] = []
    for what, by_seed in (("review loss L_ST", "loss"), ("gap to the teacher", "gap")):
        for scale, arm in arms.items():
            numbers: Mapping[int, Sequence[float]] = getattr(reviews[arm.arm], by_seed)
            rows.append((scale, what, *changes(numbers)))
    return Figure(
        "reviews_by_dose",
        "What the reviews did",
        "The review loss and the mean gap to the teacher's maps at the last review, as a part of those at the first"
        " review; means over seeds with their 95 % intervals. Where the loss falls and the gap stays, the extractors"
        " learned and the student did not.",
        Table(columns, tuple(rows)),
        Chart(
            "points",
            "prediction scale",
            "last review / first review",
            "what",
            low="low",
            high="high",
            x_title="prediction_scale",
            y_title="last review / first review",
            reference=1.0,
        ),
    )


def changes(by_seed: Mapping[int, Sequence[float]]) -> tuple[int, float | None, float | None, float | None]:
    """Return the number of seeds with two reviews, and the mean of last / first over them with its interval."""
    ratios = {seed: own[-1] / own[0] for seed, own in by_seed.items() if len(own) > 1 and own[0] > 0}
    if not ratios:
        return 0, None, None, None
    interval = statistics.arm(ratios).interval
    ends = (None, None) if interval is None else (interval.low, interval.high)
    return len(ratios), fmean(ratios.values()), *ends


def _arms(results: Findings, reviews: Mapping[str, Reviews]) -> Table:
    columns = (
        "arm",
        "seeds",
        f"{results.heading(results.headline)}, mean",
        "sd",
        "reviews",
        "lambda, mean",
        "first loss",
        "last loss",
        "first gap",
        "last gap",
    )
    rows: list[tuple[Cell, ...]] = []
    for arm in results.arms:
        own = reviews[arm.arm]
        ends = [_mean_at(part, place) for part in (own.loss, own.gap) for place in (0, -1)]
        rows.append((arm.arm, arm.headline.n, arm.headline.mean, arm.headline.sd, arm.reviews, arm.lambda_.mean, *ends))
    return Table(columns, tuple(rows))


def _mean_at(by_seed: Mapping[int, Sequence[float]], place: int) -> float | None:
    """Return the mean over seeds of the number at this place of the reviews; None without reviews."""
    values = [numbers[place] for numbers in by_seed.values() if numbers]
    return fmean(values) if values else None


def _counted(results: Findings, reviews: Mapping[str, Reviews]) -> Table:
    findings = () if results.family is None else results.family.family.findings
    few = [arm for arm in results.arms if arm.reviewed and gap_change(arm.arm, reviews[arm.arm].lines) is None]
    budgets = {arm.reviews for arm in results.arms if arm.reviewed}
    rows = (
        ("trainings that failed or diverged; they count in no comparison", len(results.failed)),
        ("trainings that were stopped", len(results.stopped)),
        ("trainings without a result", len(results.unfinished)),
        ("comparisons without a verdict", sum(one.verdict is None for one in findings)),
        ("numbers of reviews beside that of the first arm that reviews; 0: matched budgets", max(0, len(budgets) - 1)),
        ("arms with fewer than three reviews, of which loss and gap say nothing", len(few)),
    )
    return Table(("what", "number"), rows)
