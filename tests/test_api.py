"""The front door for Python, used from another folder, as a user's own program would."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import tskd_tune
from tskd_tune.errors import InputError, RunError
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


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: tskd_tune.check(None), "is given by a path .text or pathlib.Path., or as plain data, got null"),
        (lambda: tskd_tune.train(b"mine.yaml"), "an experiment is given by a path .*, got b'mine.yaml'"),
        (lambda: tskd_tune.sweep(3), "a sweep is given by a path .*, got 3"),
        (lambda: tskd_tune.report(None), "a run is given by a path .*, got null"),
        (lambda: tskd_tune.study(None), "study: the name must be text, got null"),
        (
            lambda: tskd_tune.check(TINY, settings="seed=3"),
            r"settings: must be a list of texts .*, as \['seed=3'\], got",
        ),
        (lambda: tskd_tune.check(TINY, settings={"seed": 3}), "settings: must be a list of texts key=value"),
        (lambda: tskd_tune.check(TINY, settings=[3]), "settings: each must be a text key=value, as 'seed=3', got 3"),
        (lambda: tskd_tune.train(TINY, Path("mine")), r"name: must be text, got PosixPath\('mine'\); `storage` is"),
        (lambda: tskd_tune.train(TINY, ""), "must be a plain name, but '' is empty"),
        (lambda: tskd_tune.train(TINY, "mine", storage=None), "storage: must be a path or an address, got null"),
        (lambda: tskd_tune.train(TINY, "mine", listener=None), "listener: must be a function of an Event, got null"),
    ],
)
def test_a_wrong_argument_is_a_sentence(elsewhere: Path, call: Callable[[], object], sentence: str) -> None:
    """These ended with an error of Python, one of them after the training."""
    with pytest.raises(InputError, match=sentence):
        call()
    assert not (elsewhere / "runs").exists()


def test_plain_data_may_hold_paths_and_tuples(elsewhere: Path) -> None:
    found = tskd_tune.check({**TINY, "observe": ("gradient_norms",)})
    assert [one.name for one in found.arms["resnet8"].observe] == ["gradient_norms"]
    with pytest.raises(InputError, match=f"there is no folder {elsewhere}/pictures"):
        tskd_tune.check({**TINY, "task": {"name": "image_folder", "root": Path("pictures")}})


def test_an_error_of_a_listener_is_one_of_the_package(elsewhere: Path) -> None:
    def listener(event: tskd_tune.Event) -> None:
        raise KeyError("mine")

    with pytest.raises(RunError, match=r"listener: raised an error \(KeyError: 'mine', test_api.py:\d+\); correct it"):
        tskd_tune.train(TINY, "mine", listener=listener, track=False)


def test_a_process_trains_what_a_file_says_when_it_is_called(elsewhere: Path) -> None:
    """A process kept the module of the first call, under a digest of the edited file: as a notebook does."""
    part = elsewhere / "own_part.py"
    text = (Path(__file__).parent / "outsiders" / "toy_observer.py").read_text()
    document = {**TINY, "observe": [{"name": f"{elsewhere}/own_part:Weight"}]}
    for name, said in (("first", '"weight"'), ("second", '"heavier"')):
        part.write_text(text.replace('"weight"', said))
        folder = tskd_tune.train(document, name, track=False)
        assert said.strip('"') in folder.history("0")[-1].numbers


def test_the_current_folder_may_be_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    with pytest.raises(InputError, match="the current folder is gone"):
        tskd_tune.check(TINY)


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
