"""Which searched parameters matter, computed from the Optuna study that a finished search leaves behind.

fANOVA (Hutter, Hoos and Leyton-Brown 2014) is the share of the objective's variance over the space that a parameter
explains by itself. PED-ANOVA (Watanabe, Bansal and Hutter 2023, arXiv 2304.10255) measures which parameters distinguish
the best trials from the others. Optuna computes both. Both use trials that a searcher chose, and neither accounts for
the noise of seeds. Parameters are ranked only where a model of the trials predicts trials that it has not seen.
"""

from __future__ import annotations

import math
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tskd_tune.plain import Json
from tskd_tune.records.runs.run_folder import RunFolder
from tskd_tune.records.storing.files import read_text
from tskd_tune.reports.findings.surrogate import Explained, explained
from tskd_tune.words import count

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.study import Study, StudyDirection
    from optuna.trial import FrozenTrial

JOURNAL: Final = "study.journal"
STUDY: Final = "sweep"
FEWEST: Final = 4
# Loeppky, Sacks and Welch 2009, "Choosing the sample size of a computer experiment".
TRIALS_PER_PARAMETER: Final = 10
RULE: Final = (
    f"with fewer than {TRIALS_PER_PARAMETER} trials per parameter the shares are unreliable (Loeppky, Sacks and Welch"
    " 2009)"
)
# PED-ANOVA's best trials: the best 10 %, at least five trials (as its authors advise), and at most 50 %.
BEST_SHARE, BEST_TRIALS = 0.1, 5


@dataclass(frozen=True)
class Share:
    """The importance of a parameter by both measures; None where no parameter explains any variance."""

    parameter: str
    fanova: float | None
    ped_anova: float | None


@dataclass(frozen=True)
class Group:
    """The trials of a branch, or of all branches, and the importance of each of their parameters.

    Attributes:
        where: the values that only the trials of this branch have.
        trials: the number of trials.
        shares: the shares, the largest first; each measure sums to 1. Empty where the shares cannot be computed.
        warning: why the shares cannot be computed, mean nothing, or are not reliable; None otherwise.
        explained: how much the forest of fANOVA explains of trials that it has not seen; None where there is no forest.
    """

    where: Mapping[str, Json]
    trials: int
    shares: tuple[Share, ...]
    warning: str | None
    explained: Explained | None = None


@dataclass(frozen=True)
class Objective:
    """One objective of a search, and the groups of trials for which importance is computed."""

    metric: str
    groups: tuple[Group, ...]


@dataclass(frozen=True)
class LeftOutTrials:
    """How many trials did not train to the end."""

    stopped: int
    failed: int


@dataclass(frozen=True)
class Importance:
    """The importance of the parameters of a finished search, from the ``trials`` that trained to the end."""

    rule: str
    trials: int
    left_out: LeftOutTrials
    metrics: tuple[Objective, ...]


def importance(run: RunFolder, metric: str, finished: int) -> Importance | None:
    """Return the importance of each parameter for each objective; None where there is no finished search with a study.

    The importance of a branch's parameter is computed from the trials of this branch, together with the parameters
    that all trials have.

    Args:
        run: the folder of the run; no file in the folder is changed.
        metric: the metric of a search with a single objective.
        finished: the number of rows; None is returned until the last row is there.
    """
    if run.state.expected is None or finished < run.state.expected:
        return None
    path = run.bring(run.path / JOURNAL)
    if not path.exists():
        return None
    study = _read(path)
    if study is None:
        return None
    states = [trial.state.name for trial in study.trials]
    trials = [trial for trial in study.trials if trial.state.name == "COMPLETE"]
    trials.sort(key=lambda trial: trial.user_attrs.get("number", trial.number))
    names = study.metric_names or [metric]
    return Importance(
        rule=RULE,
        trials=len(trials),
        left_out=LeftOutTrials(stopped=states.count("PRUNED"), failed=states.count("FAIL")),
        metrics=tuple(
            Objective(name, tuple(_group(group, study, place) for group in _groups(trials)))
            for place, name in enumerate(names)
        ),
    )


def lost_study(run: RunFolder, searcher: str, found: Importance | None, finished: int) -> list[str]:
    """Say that the study of a finished search of Optuna is gone or damaged; no sentence where it was read.

    Args:
        run: the folder of the run.
        searcher: the name of the searcher; only Optuna's keeps a study.
        found: what `importance` found.
        finished: the number of rows.
    """
    if searcher != "optuna" or found is not None or run.state.expected is None or finished < run.state.expected:
        return []
    path = run.bring(run.path / JOURNAL)
    how = "is no study of Optuna" if path.exists() else "is missing, which the search wrote"
    return [f"{run.place}/{JOURNAL} {how}, so the importance of the parameters is not known; restore it from a copy"]


def _read(path: Path) -> Study | None:
    """Read a study from a copy of its journal, without an incomplete last line; None where the file is no study."""
    import optuna
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    text = read_text(path)
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / JOURNAL
        copy.write_text(text[: text.rfind("\n") + 1], encoding="utf-8")
        try:
            stored = optuna.load_study(study_name=STUDY, storage=JournalStorage(JournalFileBackend(str(copy))))
        except (KeyError, ValueError):
            return None
        with warnings.catch_warnings():
            # Optuna warns that names of objectives are experimental. The warning does not help a user.
            warnings.simplefilter("ignore")
            return _in_memory(stored.directions, stored.get_trials(), stored.metric_names)


def _in_memory(
    directions: Sequence[StudyDirection], trials: Sequence[FrozenTrial], names: list[str] | None = None
) -> Study:
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(directions=list(directions))
    study.add_trials(trials)
    if names:
        study.set_metric_names(names)
    return study


def _groups(trials: Sequence[FrozenTrial]) -> list[tuple[list[str], list[FrozenTrial]]]:
    """Return the parameters to compare and the trials that have them: first for all trials, then for each branch."""
    sets = list(dict.fromkeys(frozenset(trial.params) for trial in trials))
    common = frozenset.intersection(*sets) if sets else frozenset()
    wanted = [common, *(names for names in sets if names != common)]
    return [
        (sorted(names), members)
        for names in wanted
        if (members := [trial for trial in trials if names <= trial.params.keys()])
    ]


def _group(group: tuple[list[str], list[FrozenTrial]], study: Study, place: int) -> Group:
    names, trials = group
    varied = [name for name in names if len({str(trial.params[name]) for trial in trials}) > 1]
    fixed = {name: trials[0].params[name] for name in names if name not in varied}
    everywhere = {
        name for name in fixed if all(trial.params.get(name) == fixed[name] for trial in study.trials if trial.params)
    }
    values = [trial.values[place] for trial in trials]
    unable, told = _unable(varied, values), None
    if not unable:
        points = [[_linear(trial.params[name], trial.distributions[name]) for name in varied] for trial in trials]
        told = explained(points, values)
        unable = None if told.is_something else _nothing(told)
    return Group(
        where={name: value for name, value in fixed.items() if name not in everywhere},
        trials=len(trials),
        shares=() if unable else _shares(varied, trials, study.directions[place], place),
        warning=unable or _too_few(len(trials), len(varied)),
        explained=told,
    )


def _nothing(found: Explained) -> str:
    return (
        "these trials do not show which parameters matter, since a model of them explains nothing of unseen trials"
        f" ({_r2(found)})"
    )


def _r2(found: Explained) -> str:
    return f"R² {found.r2:.2f}, 95 % interval {found.low:.2f} to {found.high:.2f}"


def _unable(varied: Sequence[str], values: Sequence[float]) -> str | None:
    """Say why the importance cannot be computed; None where it can be computed."""
    if not varied:
        return "no parameter varies"
    if len(values) < FEWEST:
        return f"{count(len(values), 'trial')} {'is' if len(values) == 1 else 'are'} too few to tell anything"
    return "all trials gave the same value" if max(values) == min(values) else None


def _too_few(trials: int, parameters: int) -> str | None:
    needed = TRIALS_PER_PARAMETER * parameters
    if trials >= needed:
        return None
    return f"{count(trials, 'trial')} for {count(parameters, 'parameter')} are fewer than {needed}: {RULE}"


def _shares(
    names: list[str], trials: Sequence[FrozenTrial], direction: StudyDirection, place: int
) -> tuple[Share, ...]:
    from optuna.importance import FanovaImportanceEvaluator, PedAnovaImportanceEvaluator

    study = _in_memory([direction], [_alone(trial, names, place) for trial in trials])
    best = min(0.5, max(BEST_SHARE, BEST_TRIALS / len(trials)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        by_variance = FanovaImportanceEvaluator(seed=0).evaluate(study, params=names)
        by_best = PedAnovaImportanceEvaluator(target_quantile=best).evaluate(study, params=names)
    fanova, ped_anova = _normed(by_variance), _normed(by_best)
    found = [Share(name, fanova[name], ped_anova[name]) for name in names]
    return tuple(sorted(found, key=lambda share: (-(share.fanova or 0.0), share.parameter)))


def _normed(found: Mapping[str, float]) -> dict[str, float | None]:
    """Return shares that sum to 1; None where no parameter explains any variance."""
    total = sum(found.values())
    return {name: float(value / total) if total > 0 and math.isfinite(total) else None for name, value in found.items()}


def _alone(trial: FrozenTrial, names: Sequence[str], place: int) -> FrozenTrial:
    """Return a trial with these parameters and one objective. Parameters on a log scale are replaced by logarithms.

    fANOVA weighs a parameter's range evenly: for a lambda from 0.1 to 3000, only 10 % of the weight is below 300.
    """
    from optuna.trial import create_trial

    pairs = {name: _linear(trial.params[name], trial.distributions[name]) for name in names}
    return create_trial(
        params={name: value for name, (value, _) in pairs.items()},
        distributions={name: distribution for name, (_, distribution) in pairs.items()},
        value=trial.values[place],
    )


def _linear(value: Json, distribution: BaseDistribution) -> tuple[Json, BaseDistribution]:
    from optuna.distributions import FloatDistribution

    if not isinstance(distribution, FloatDistribution) or not distribution.log or not isinstance(value, int | float):
        return value, distribution
    low, high = math.log(distribution.low), math.log(distribution.high)
    return min(max(math.log(value), low), high), FloatDistribution(low, high)


# Words


def lines(found: Importance | None) -> list[str]:
    """Return the importance in sentences; no sentence where there is no importance."""
    if found is None:
        return []
    said = [line for one in found.metrics for group in one.groups for line in _lines(one.metric, group)]
    left_out = (("stopped", found.left_out.stopped), ("failed", found.left_out.failed))
    gone = [f"{trials} {how}" for how, trials in left_out if trials]
    if gone:
        are = "trial is" if sum(trials for _, trials in left_out) == 1 else "trials are"
        said.append(f"{' and '.join(gone)} {are} left out: the shares hold among those that trained to the end.")
    return [*said, "The searcher chose the trials, so few trials support the values that were seldom tried."]


def _lines(metric: str, group: Group) -> list[str]:
    where = ", ".join(f"{name}={value}" for name, value in group.where.items())
    about = f"{metric}{f' where {where}' if where else ''}, {count(group.trials, 'trial')}"
    if not group.shares:
        return [f"{about}: {group.warning or 'no parameter explains anything'}."]
    by_variance = {share.parameter: share.fanova for share in group.shares}
    by_best = {share.parameter: share.ped_anova for share in group.shares}
    said = [f"{about}: {_ranking(by_variance)} of the explained variance (fANOVA)."]
    if group.explained:
        said.append(f"{about}: the model explains unseen trials with {_r2(group.explained)}.")
    if _first(by_variance) != _first(by_best) and group.shares[0].ped_anova is not None:
        said.append(f"{about}: the best trials are set apart by another, {_ranking(by_best)} (PED-ANOVA).")
    return said + ([f"{about}: {group.warning}."] if group.warning else [])


def _first(shares: Mapping[str, float | None]) -> str:
    return max(shares, key=lambda name: shares[name] or 0.0)


def _ranking(shares: Mapping[str, float | None]) -> str:
    known = {name: share for name, share in shares.items() if share is not None}
    return ", ".join(f"{name} {100 * known[name]:.0f} %" for name in sorted(known, key=lambda name: -known[name]))
