"""Importance where the truth is known, from studies as a search leaves them behind."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest
import yaml
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from tskd_tune.records.runs.run_folder import RunFolder
from tskd_tune.reports.findings.importance import importance, lines
from tskd_tune.reports.findings.summary import summary
from tskd_tune.reports.forms.markdown import markdown
from tskd_tune.reports.forms.plain import as_json, plain
from tskd_tune.reports.forms.report_lines import notes
from tskd_tune.sweeps.messages.trial_config import TrialConfig
from tskd_tune.sweeps.searching.search import SEARCHERS
from tskd_tune.sweeps.space.search_space import SearchSpace
from tskd_tune.words import count

optuna.logging.set_verbosity(optuna.logging.WARNING)
SPACE = "{a: {uniform: [0, 1]}, b: {uniform: [0, 1]}, c: {choice: [x, y, z]}}"
BRANCHES = """
review: {choice: {none: null, tskd: {k: {int: [1, 9]}, lambda: {loguniform: [0.1, 3000]}}}}
lr: {uniform: [0, 1]}
"""
Truth = Callable[[dict[str, Any]], float]


@pytest.fixture
def searched(tmp_path: Path) -> Any:
    """Run a random search of some function by hand; its folder holds the study that our searcher mirrors."""

    def make(
        text: str, truth: Truth, trials: int, goals: dict[str, str] | None = None, expected: int = 0, name: str = "s"
    ) -> RunFolder:
        document = {"search": {"name": "optuna", "metric": "val_top1", "objectives": goals}}
        folder = RunFolder.create(tmp_path, name, "sweep", document, expected=expected)
        searcher, _ = SEARCHERS.build(
            "optuna",
            SearchSpace(yaml.safe_load(text)),
            lambda point: TrialConfig(point.label, point.values, point.experiment),
            goals or {"val_top1": "max"},
            folder.path / "study.journal",
            trials=trials,
            sampler="random",
        )
        for place in range(trials):
            values = searcher.suggest(f"t{place}")["point"]
            cost = [{"cost": {"train_seconds": values.get("b", 0.0) * 10 + 1}}]
            result = {"epoch": 0, "epochs": 1, "val_top1": truth(values), "rows": cost}
            searcher.on_trial_complete(f"t{place}", result)
        return folder

    return make


def of(folder: RunFolder) -> dict[str, Any]:
    found = importance(folder, "val_top1", 0)
    assert found is not None
    told = plain(found)
    assert isinstance(told, dict)
    return told


def shares(group: dict[str, Any], method: str = "fanova") -> dict[str, float]:
    return {share["parameter"]: share[method] for share in group["shares"]}


def test_additive_effects_are_shared_by_their_variance(searched: Any) -> None:
    """Of 4 a + 2 b with even a and b the variances are as 16 to 4, and c has none."""
    (metric,) = of(searched(SPACE, lambda v: 4 * v["a"] + 2 * v["b"], 150))["metrics"]
    (group,) = metric["groups"]
    assert (metric["metric"], group["trials"], group["where"], group["warning"]) == ("val_top1", 150, {}, None)
    assert 0.8 < group["explained"]["low"] < group["explained"]["r2"] < group["explained"]["high"] < 1
    found = shares(group)
    assert list(found) == ["a", "b", "c"], "the largest first"
    assert found["a"] == pytest.approx(0.8, abs=0.08) and found["b"] == pytest.approx(0.2, abs=0.08)
    assert found["c"] < 0.03
    for method in ("fanova", "ped_anova"):
        assert sum(shares(group, method).values()) == pytest.approx(1.0)
        assert max(shares(group, method), key=shares(group, method).__getitem__) == "a"


def test_it_does_not_matter_whether_more_or_less_is_better(searched: Any) -> None:
    more = of(searched(SPACE, lambda v: v["a"] ** 3, 40, {"val_top1": "max"}, name="more"))
    less = of(searched(SPACE, lambda v: -(v["a"] ** 3), 40, {"val_top1": "min"}, name="less"))
    for method in ("fanova", "ped_anova"):
        ours, theirs = (shares(found["metrics"][0]["groups"][0], method) for found in (more, less))
        assert ours == pytest.approx(theirs, abs=0.02)


def test_a_logarithmic_range_is_weighed_by_its_logarithm(searched: Any) -> None:
    """The objective changes from a lambda of 1 to one of 30, a hundredth of the range but a third of its decades."""
    text = "{lambda: {loguniform: [0.1, 3000]}, b: {uniform: [0, 1]}}"

    def truth(values: dict[str, Any]) -> float:
        return min(max(math.log10(values["lambda"]) / math.log10(30), 0.0), 1.0) + 0.8 * values["b"]

    (group,) = of(searched(text, truth, 150))["metrics"][0]["groups"]
    # The variances: of the step with even log10(lambda) over 4.48 decades, and of a line of slope 0.8.
    draws = [random.Random(seed).uniform(-1, math.log10(3000)) for seed in range(20_000)]
    step = [min(max(draw / math.log10(30), 0.0), 1.0) for draw in draws]
    mean = sum(step) / len(step)
    variance = sum((each - mean) ** 2 for each in step) / len(step)
    assert shares(group)["lambda"] == pytest.approx(variance / (variance + 0.64 / 12), abs=0.1)


def test_parameters_of_a_branch_are_judged_among_the_trials_that_have_them(searched: Any) -> None:
    def truth(values: dict[str, Any]) -> float:
        return 20.0 + values["review.tskd.k"] if values["review"] == "tskd" else values["lr"] * 0.01

    (metric,) = of(searched(BRANCHES, truth, 80))["metrics"]
    everything, branch = metric["groups"]
    assert everything["where"] == {} and everything["trials"] == 80
    assert list(shares(everything)) == ["review", "lr"] and shares(everything)["review"] > 0.9
    assert branch["where"] == {"review": "tskd"} and 25 < branch["trials"] < 55
    assert set(shares(branch)) == {"lr", "review.tskd.k", "review.tskd.lambda"}, "what is fixed explains nothing"
    assert shares(branch)["review.tskd.k"] > 0.9


def test_each_objective_has_its_own(searched: Any) -> None:
    goals = {"val_top1": "max", "seconds": "min"}
    accuracy, seconds = of(searched(SPACE, lambda v: v["a"], 60, goals))["metrics"]
    assert (accuracy["metric"], seconds["metric"]) == ("val_top1", "seconds")
    assert shares(accuracy["groups"][0])["a"] > 0.9 and shares(seconds["groups"][0])["b"] > 0.9


@pytest.mark.parametrize(("trials", "warned"), [(29, True), (30, False)])
def test_below_ten_trials_a_parameter_a_warning_states_the_rule(searched: Any, trials: int, warned: bool) -> None:
    (group,) = of(searched(SPACE, lambda v: v["a"], trials))["metrics"][0]["groups"]
    assert len(group["shares"]) == 3
    if not warned:
        assert group["warning"] is None
    else:
        assert group["warning"] == (
            "29 trials for 3 parameters are fewer than 30: with fewer than 10 trials per parameter the shares are"
            " unreliable (Loeppky, Sacks and Welch 2009)"
        )


@pytest.mark.parametrize(
    ("text", "truth", "trials", "why"),
    [
        (SPACE, lambda v: v["a"], 3, "3 trials are too few to tell anything"),
        (SPACE, lambda v: 7.0, 20, "all trials gave the same value"),
        ("{c: {choice: [x]}}", lambda v: 1.0, 1, "no parameter varies"),
    ],
)
def test_what_cannot_be_told_is_said(searched: Any, text: str, truth: Truth, trials: int, why: str) -> None:
    folder = searched(text, truth, trials)
    found = of(folder)
    (group,) = found["metrics"][0]["groups"]
    assert (group["shares"], group["warning"]) == ([], why)
    assert f"val_top1, {count(trials, 'trial')}: {why}." in lines(importance(folder, "val_top1", 0))


def test_noise_is_not_ranked(searched: Any) -> None:
    chance = random.Random(0)
    folder = searched(SPACE, lambda v: 70 + chance.gauss(0, 0.3), 40)
    (group,) = of(folder)["metrics"][0]["groups"]
    assert group["shares"] == [] and group["explained"]["low"] <= 0
    (line, *_) = lines(importance(folder, "val_top1", 0))
    assert line.startswith(
        "val_top1, 40 trials: these trials do not show which parameters matter, since a model of them explains nothing"
        " of unseen trials (R² -0."
    )


def test_only_a_finished_search_with_a_study_has_one(searched: Any, tmp_path: Path) -> None:
    folder = searched(SPACE, lambda v: v["a"], 12, expected=12)
    assert importance(folder, "val_top1", 11) is None
    assert importance(folder, "val_top1", 12) is not None
    (folder.path / "study.journal").write_text("no study\n")
    assert importance(folder, "val_top1", 12) is None
    (folder.path / "study.journal").unlink()
    assert importance(folder, "val_top1", 12) is None


def test_stopped_and_failed_trials_are_left_out_and_counted(searched: Any) -> None:
    folder = searched(SPACE, lambda v: v["a"], 20)
    storage = JournalStorage(JournalFileBackend(str(folder.path / "study.journal")))
    study = optuna.load_study(study_name="sweep", storage=storage)
    like = study.trials[0]
    for state, times in ((optuna.trial.TrialState.PRUNED, 3), (optuna.trial.TrialState.FAIL, 2)):
        for _ in range(times):
            study.add_trial(optuna.create_trial(state=state, params=like.params, distributions=like.distributions))
    found = of(folder)
    assert (found["trials"], found["left_out"]) == (20, {"stopped": 3, "failed": 2})
    assert any(
        line.startswith("3 stopped and 2 failed trials are left out")
        for line in lines(importance(folder, "val_top1", 0))
    )


def test_the_same_study_gives_the_same_shares_and_is_left_alone(searched: Any) -> None:
    folder = searched(SPACE, lambda v: v["a"] * v["b"], 40)
    journal = folder.path / "study.journal"
    before = (journal.read_bytes(), journal.stat().st_mtime_ns, sorted(folder.path.iterdir()))
    first = of(folder)
    assert of(folder) == first
    assert (journal.read_bytes(), journal.stat().st_mtime_ns, sorted(folder.path.iterdir())) == before
    with journal.open("ab") as file:
        file.write(b'{"op_code": 4, "worker')
    assert of(folder) == first, "a line that is just being written is left out"


def test_it_does_not_depend_on_the_order_in_which_trials_ended(searched: Any, tmp_path: Path) -> None:
    folder = searched(SPACE, lambda v: v["a"] + v["b"] ** 2, 30)
    other = RunFolder.create(tmp_path, "other", "sweep", folder.document(), expected=0)
    storages = [JournalStorage(JournalFileBackend(str(run.path / "study.journal"))) for run in (folder, other)]
    study = optuna.load_study(study_name="sweep", storage=storages[0])
    copy = optuna.create_study(study_name="sweep", storage=storages[1], direction="maximize")
    copy.add_trials(random.Random(1).sample(study.trials, 30))
    assert of(other)["metrics"] == of(folder)["metrics"]


def test_the_report_tells_it(searched: Any) -> None:
    folder = searched(SPACE, lambda v: v["a"], 20)
    found = summary(folder)
    assert as_json(found)["importance"] == of(folder)
    text = markdown(found)
    assert "## Parameter importance" in text and "20 trials for 3 parameters are fewer than 30" in text
    assert text == markdown(summary(folder))


@pytest.mark.parametrize(
    ("left", "said"), [(None, "is missing, which the search wrote"), ("no study\n", "is no study of Optuna")]
)
def test_a_finished_search_without_its_study_says_what_is_not_known(searched: Any, left: str | None, said: str) -> None:
    folder = searched(SPACE, lambda values: values["a"], 12)
    assert not summary(folder).damage
    (folder.path / "study.journal").unlink()
    if left is not None:
        (folder.path / "study.journal").write_text(left)
    found = summary(folder)
    (damage,) = found.damage
    assert found.importance is None and f"study.journal {said}, so the importance of the parameters" in damage
    assert damage in notes(found)


def test_a_search_that_keeps_no_study_or_has_not_ended_lacks_none(tmp_path: Path) -> None:
    for name, expected in (("random", 0), ("optuna", 4)):
        document = {"search": {"name": name, "metric": "val_top1"}}
        assert not summary(RunFolder.create(tmp_path, name, "sweep", document, expected=expected)).damage
