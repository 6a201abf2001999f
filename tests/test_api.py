"""The front door for Python, used from another folder, as a user's own program would."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import tskd_tune
from tskd_tune.errors import InputError
from tskd_tune.reports.findings.summary import summary

TINY = {
    "task": {"name": "synthetic", "batch_size": 8, "size": 8, "train": 16, "validation": 8, "test": 8},
    "student": "resnet8",
    "review": None,
    "training": {"epochs": 1, "lr": 0.01, "device": "cpu"},
}


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stand in a folder of the user's own."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_package_offers_its_names_whatever_was_imported_before() -> None:
    """Each is asked for first, in a process of its own: those of one that has imported a module below."""
    code = """
import os, tskd_tune.sweeps.declared.schema, tskd_tune
for name in tskd_tune.__all__:
    if os.fork() == 0:
        found = getattr(tskd_tune, name)
        print(name, callable(found) or found, flush=True)
        os._exit(0)
    os.wait()
"""
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    told = dict(line.split() for line in ended.stdout.splitlines())
    assert told == {name: tskd_tune.__version__ if name == "__version__" else "True" for name in tskd_tune.__all__}


def test_the_package_lists_its_names_and_refuses_others() -> None:
    assert {*tskd_tune.__all__} <= {*dir(tskd_tune)}
    with pytest.raises(AttributeError, match="no attribute 'trian'"):
        _ = tskd_tune.trian


def test_a_file_plain_data_and_a_read_experiment_are_one(elsewhere: Path) -> None:
    (elsewhere / "mine.yaml").write_text("extends: base.yaml\nseed: 3\n")
    (elsewhere / "base.yaml").write_text(
        "task: {name: synthetic, batch_size: 8, size: 8, train: 16, validation: 8, test: 8}\n"
        "student: resnet8\nreview: null\ntraining: {epochs: 1, lr: 0.01, device: cpu}\n"
    )
    forms = ["mine.yaml", {**TINY, "seed": 3}, {"extends": "mine.yaml"}, tskd_tune.Experiment.read({**TINY, "seed": 3})]
    found = [tskd_tune.check(form) for form in forms]  # type: ignore[arg-type]
    assert [one.arms["resnet8"].plain() for one in found] == [found[0].arms["resnet8"].plain()] * 4
    assert [one.seeds for one in found] == [[3]] * 4


def test_settings_apply_to_every_form() -> None:
    forms = [TINY, tskd_tune.Experiment.read(TINY)]
    assert [tskd_tune.check(form, settings=["seed=7"]).seeds for form in forms] == [[7], [7]]
    sweep = {"experiment": dict(TINY), "search": "grid"}
    forms = [sweep, tskd_tune.Sweep.read(sweep)]
    assert [tskd_tune.check(form, settings=["seeds=[1, 2]"]).cost.runs for form in forms] == [2, 2]


def test_a_training_is_heard_of_and_reported(elsewhere: Path) -> None:
    heard: list[str] = []
    folder = tskd_tune.train(TINY, storage="kept", listener=lambda event: heard.append(event.what), track=False)
    assert folder.path.parent == elsewhere / "kept" and folder.name.startswith("experiment-")
    assert "epoch" in heard and heard[-1] == "finished"
    page = folder.path / "report.html"
    page.unlink()
    assert tskd_tune.report(folder.name, storage="kept") == summary(folder)
    assert page.exists()


def test_a_sweep_is_no_experiment_and_a_space_is_none() -> None:
    with pytest.raises(InputError, match="is a sweep"):
        tskd_tune.train("digits")
    with pytest.raises(InputError, match=r"training\.lr: has a value to search"):
        tskd_tune.train({**TINY, "training": {"lr": {"uniform": [0.1, 0.2]}}})
    with pytest.raises(InputError, match="there is no run 'nothing'"):
        tskd_tune.report("nothing")
    with pytest.raises(InputError, match="nowhere://bucket/runs.*: storage of this kind is not known"):
        tskd_tune.train(TINY, storage="nowhere://bucket/runs")


@pytest.mark.slow
def test_a_sweep_is_run_on_ray(elsewhere: Path) -> None:
    code = f"""
import tskd_tune
points = {{**{TINY!r}, "training": {{"epochs": 1, "lr": {{"choice": [0.01, 0.02]}}}}}}
folder = tskd_tune.sweep({{"experiment": points, "search": "grid"}}, "mine", track=False)
print(sorted(row.metrics["epochs"] if "epochs" in row.metrics else row.epochs for row in folder.rows()))
"""
    command = [sys.executable, "-c", code]
    ended = subprocess.run(command, capture_output=True, text=True, env=dict(os.environ), check=False)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.splitlines()[-1] == "[1, 1]"
    assert (elsewhere / "runs" / "mine" / "report.html").exists()
