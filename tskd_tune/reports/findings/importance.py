"""Which searched parameters matter, computed from the Optuna study that a finished search leaves behind.

fANOVA (Hutter, Hoos and Leyton-Brown 2014) is the share of the objective's variance over the space that a parameter
explains by itself; PED-ANOVA (Watanabe, Bansal and Hutter 2023, arXiv 2304.10255) asks which parameters set the best
trials apart. Both are Optuna's. Both see trials that a searcher chose, and neither knows the noise of seeds.
"""

from __future__ import annotations

import math
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from tskd_tune.records.files import read_text
from tskd_tune.records.run_folder import RunFolder

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.study import Study
    from optuna.trial import FrozenTrial

JOURNAL: Final = "study.journal"
STUDY: Final = "sweep"
FEWEST: Final = 4
# Loeppky, Sacks and Welch 2009, "Choosing the sample size of a computer experiment".
TRIALS_PER_PARAMETER: Final = 10
RULE: Final = f"shares are too unsure below {TRIALS_PER_PARAMETER} trials a parameter (Loeppky, Sacks and Welch 2009)"
METHODS: Final = ("fanova", "ped_anova")
# Of PED-ANOVA: the best tenth, but no fewer than five trials, as its authors advise, and no more than half.
BEST_SHARE, BEST_TRIALS = 0.1, 5


def importance(run: RunFolder, document: Mapping[str, Any], finished: int) -> dict[str, Any] | None:
    """Return how much each parameter matters for each objective, as plain data.

    A parameter of a branch is judged among the trials that have it, beside those that all trials have.

    Args:
        run: the folder of the run; nothing in it is touched.
        document: the sweep as resolved.
        finished: the rows that there are; before the last there is no importance.

    Returns:
        None where there is no finished search with a study, else ``rule``, ``trials`` (trained to the end),
        ``left_out`` (those ``stopped`` and ``failed``) and ``metrics``: for each objective its ``metric`` and
        ``groups``, each with ``where`` (what its trials have in common), ``trials``, ``shares`` (``parameter``,
        ``fanova`` and ``ped_anova``, the largest first; each method's sum to 1; empty where they cannot be computed)
        and ``warning`` (why they cannot, or should not be relied on; else None).
    """
    path = run.path / JOURNAL
    if not path.exists() or run.state.expected is None or finished < run.state.expected:
        return None
    study = _read(path)
    if study is None:
        return None
    states = [trial.state.name for trial in study.trials]
    trials = [trial for trial in study.trials if trial.state.name == "COMPLETE"]
    trials.sort(key=lambda trial: trial.user_attrs.get("number", trial.number))
    names = study.metric_names or [document.get("search", {}).get("metric", "val_top1")]
    return {
        "rule": RULE,
        "trials": len(trials),
        "left_out": {"stopped": states.count("PRUNED"), "failed": states.count("FAIL")},
        "metrics": [
            {"metric": name, "groups": [_group(group, study, place) for group in _groups(trials)]}
            for place, name in enumerate(names)
        ],
    }


def _read(path: Path) -> Study | None:
    """Read a study out of a copy of its journal without a torn tail; None where it is no study."""
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
            # That the names of objectives are new in Optuna is no news to a user.
            warnings.simplefilter("ignore")
            return _in_memory(stored.directions, stored.get_trials(), stored.metric_names)


def _in_memory(directions: Sequence[Any], trials: Sequence[FrozenTrial], names: list[str] | None = None) -> Study:
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(directions=list(directions))
    study.add_trials(trials)
    if names:
        study.set_metric_names(names)
    return study


def _groups(trials: Sequence[FrozenTrial]) -> list[tuple[list[str], list[FrozenTrial]]]:
    """Return the parameters to compare and the trials that have them: those of all, then those of each branch."""
    sets = list(dict.fromkeys(frozenset(trial.params) for trial in trials))
    common = frozenset.intersection(*sets) if sets else frozenset()
    wanted = [common, *(names for names in sets if names != common)]
    return [
        (sorted(names), members)
        for names in wanted
        if (members := [trial for trial in trials if names <= trial.params.keys()])
    ]


def _group(group: tuple[list[str], list[FrozenTrial]], study: Study, place: int) -> dict[str, Any]:
    names, trials = group
    varied = [name for name in names if len({str(trial.params[name]) for trial in trials}) > 1]
    fixed = {name: trials[0].params[name] for name in names if name not in varied}
    everywhere = {
        name for name in fixed if all(trial.params.get(name) == fixed[name] for trial in study.trials if trial.params)
    }
    values = [trial.values[place] for trial in trials]
    unable = _unable(varied, values)
    return {
        "where": {name: value for name, value in fixed.items() if name not in everywhere},
        "trials": len(trials),
        "shares": [] if unable else _shares(varied, trials, study.directions[place], place),
        "warning": unable or _too_few(len(trials), len(varied)),
    }


def _unable(varied: Sequence[str], values: Sequence[float]) -> str | None:
    """Say why nothing can be computed."""
    if not varied:
        return "no parameter varies"
    if len(values) < FEWEST:
        return f"{len(values)} trials are too few to tell anything"
    return "all trials gave the same value" if max(values) == min(values) else None


def _too_few(trials: int, parameters: int) -> str | None:
    needed = TRIALS_PER_PARAMETER * parameters
    if trials >= needed:
        return None
    what = "parameter" if parameters == 1 else "parameters"
    return f"{trials} trials for {parameters} {what} are fewer than {needed}: {RULE}"


def _shares(names: list[str], trials: Sequence[FrozenTrial], direction: Any, place: int) -> list[dict[str, Any]]:
    from optuna.importance import FanovaImportanceEvaluator, PedAnovaImportanceEvaluator

    study = _in_memory([direction], [_alone(trial, names, place) for trial in trials])
    best = min(0.5, max(BEST_SHARE, BEST_TRIALS / len(trials)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        by_variance = FanovaImportanceEvaluator(seed=0).evaluate(study, params=names)
        by_best = PedAnovaImportanceEvaluator(target_quantile=best).evaluate(study, params=names)
    fanova, ped_anova = _normed(by_variance), _normed(by_best)
    found = [{"parameter": name, "fanova": fanova[name], "ped_anova": ped_anova[name]} for name in names]
    return sorted(found, key=lambda share: (-(share["fanova"] or 0.0), share["parameter"]))


def _normed(found: Mapping[str, float]) -> dict[str, float | None]:
    """Return shares that sum to 1; None where no parameter explains anything."""
    total = sum(found.values())
    return {name: float(value / total) if total > 0 and math.isfinite(total) else None for name, value in found.items()}


def _alone(trial: FrozenTrial, names: Sequence[str], place: int) -> FrozenTrial:
    """Return a trial with these parameters and one objective; logarithms stand for what is searched by them.

    fANOVA weighs a parameter's range evenly: of a lambda from 0.1 to 3000 it would see hardly anything below 300.
    """
    from optuna.trial import create_trial

    pairs = {name: _linear(trial.params[name], trial.distributions[name]) for name in names}
    return create_trial(
        params={name: value for name, (value, _) in pairs.items()},
        distributions={name: distribution for name, (_, distribution) in pairs.items()},
        value=trial.values[place],
    )


def _linear(value: Any, distribution: BaseDistribution) -> tuple[Any, BaseDistribution]:
    from optuna.distributions import FloatDistribution

    if not isinstance(distribution, FloatDistribution) or not distribution.log:
        return value, distribution
    low, high = math.log(distribution.low), math.log(distribution.high)
    return min(max(math.log(value), low), high), FloatDistribution(low, high)


# Words


def lines(found: Mapping[str, Any]) -> list[str]:
    """Return the importance of a summary in sentences; none where there is none."""
    about = found.get("importance")
    if not about:
        return []
    said = [line for metric in about["metrics"] for group in metric["groups"] for line in _lines(metric, group)]
    gone = [f"{count} {how}" for how, count in about["left_out"].items() if count]
    if gone:
        said.append(f"{' and '.join(gone)} trials are left out: the shares hold among those that trained to the end.")
    return [*said, "The searcher chose the trials: what it seldom tried is judged by little."]


def _lines(metric: Mapping[str, Any], group: Mapping[str, Any]) -> list[str]:
    where = ", ".join(f"{name}={value}" for name, value in group["where"].items())
    about = f"{metric['metric']}{f' where {where}' if where else ''}, {group['trials']} trials"
    if not group["shares"]:
        return [f"{about}: {group['warning'] or 'no parameter explains anything'}."]
    said = [f"{about}: {_ranking(group['shares'], 'fanova')} of the explained variance (fANOVA)."]
    first = [max(group["shares"], key=lambda share: share[method] or 0.0)["parameter"] for method in METHODS]
    if first[0] != first[1] and group["shares"][0]["ped_anova"] is not None:
        said.append(
            f"{about}: the best trials are set apart by another, {_ranking(group['shares'], 'ped_anova')} (PED-ANOVA)."
        )
    return said + ([f"{about}: {group['warning']}."] if group["warning"] else [])


def _ranking(shares: Sequence[Mapping[str, Any]], method: str) -> str:
    known = sorted((share for share in shares if share[method] is not None), key=lambda share: -share[method])
    return ", ".join(f"{share['parameter']} {100 * share[method]:.0f} %" for share in known)
