"""What is used of Ray's private side is there in the installed version, and is used in one file only."""

from __future__ import annotations

import ast
import importlib
import inspect
import logging
from functools import reduce
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import ray
from ray import tune
from ray.exceptions import RayActorError
from ray.tune.execution import tune_controller
from ray.tune.execution.tune_controller import TuneController

from tskd_tune.errors import RunError
from tskd_tune.sweeps.on_ray import ray_private, ray_settings
from tskd_tune.sweeps.on_ray.ray_private import MAY_BE_ABSENT, NAMES

PACKAGE = Path(ray_private.__file__).parents[1]


def missing(name: str, purpose: str) -> str | None:
    """Say what this version of Ray lacks, if it lacks it."""
    module, attribute = name.split(":")
    try:
        reduce(getattr, attribute.split("."), importlib.import_module(module))
    except (ImportError, AttributeError):
        return f"Ray {ray.__version__} has no {name}, which {purpose}: find another way in sweeps/on_ray/ray_private.py"
    return None


@pytest.mark.parametrize(("name", "purpose"), NAMES.items())
def test_this_version_of_ray_has_what_is_used(name: str, purpose: str) -> None:
    assert missing(name, purpose) is None


def test_a_version_that_lacks_a_name_is_told_in_a_sentence() -> None:
    told = missing("ray._private.worker:_no_such_node", "names Ray's processes")
    assert told is not None and "has no ray._private.worker:_no_such_node, which names Ray's processes" in told
    assert missing("ray._private.no_such_module:x", "is asked for") is not None


def test_the_version_of_ray_at_hand_has_tokens_or_is_older() -> None:
    version = tuple(map(int, ray.__version__.split(".")[:2]))
    absent = [name for name, purpose in MAY_BE_ABSENT.items() if missing(name, purpose) is not None]
    assert not absent or version < (2, 60)


def test_a_node_of_ray_still_lists_its_processes() -> None:
    source = inspect.getsource(importlib.import_module("ray._private.node").Node)
    assert "self.all_processes" in source, f"Ray {ray.__version__}: Node.all_processes is gone"


def test_ray_is_still_given_a_folder_for_its_files() -> None:
    assert "_temp_dir" in inspect.getsource(ray.init), f"Ray {ray.__version__}: ray.init takes no _temp_dir any more"


class Trial:
    """A trial as Ray Tune knows it."""

    PENDING = "PENDING"

    def __init__(self, failures: int = 0) -> None:
        self.status, self.placed = "RUNNING", None
        self.run_metadata = SimpleNamespace(num_failures=failures)

    def update_resources(self, placed: Any) -> None:
        self.placed = placed


class Controller:
    """Ray Tune's controller, as far as it counts failures."""

    RAISE = TuneController.RAISE
    _fail_fast, _print_trial_errors = False, False

    def __init__(self, trial: Trial) -> None:
        self._resetting_trials = {trial}
        self.failures: list[int] = []

    def fails(self, trial: Trial, error: Exception) -> None:
        TuneController._trial_task_failure(self, trial, exception=error)  # type: ignore[arg-type]

    def _process_trial_failure(self, trial: Trial, exception: Exception) -> None:
        if not getattr(exception, "preempted", False):
            trial.run_metadata.num_failures += 1
        self.failures.append(trial.run_metadata.num_failures)
        trial.status = "PENDING"


def test_the_loss_of_a_worker_fails_a_trial_once() -> None:
    before = TuneController._trial_task_failure
    trial, lost = Trial(), RayActorError(error_msg="worker process has died")
    controller = Controller(trial)
    with ray_private.failures_heard(lambda trial, error: None):
        for _ in range(2):
            controller.fails(trial, lost)
        assert controller.failures == [1] and controller._resetting_trials == set()
        controller.fails(trial, RayActorError(error_msg="worker process has died"))
    assert controller.failures == [1, 2] and trial.placed is None
    assert TuneController._trial_task_failure is before


@pytest.mark.parametrize("preempted", [False, True])
def test_an_excused_failure_is_no_failure_when_tune_decides_whether_to_try_again(preempted: bool) -> None:
    trial, place = Trial(failures=3), tune.PlacementGroupFactory([{"CPU": 1}])
    controller = Controller(trial)
    with ray_private.failures_heard(lambda trial, error: place):
        controller.fails(trial, RayActorError(error_msg="its node has died", preempted=preempted))
    assert controller.failures == [3] and trial.placed is place


def test_tune_still_notes_which_trials_it_resets() -> None:
    assert "_resetting_trials" in inspect.getsource(TuneController), f"Ray {ray.__version__}: look at failures_heard"


def private_imports(path: Path) -> list[str]:
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import | ast.ImportFrom) else []
        module = node.module or "" if isinstance(node, ast.ImportFrom) else ""
        whole = [f"{module}.{name}" if module else name for name in names]
        found += [name for name in whole if name.startswith("ray.") and "._" in name]
        if isinstance(node, ast.Attribute) and node.attr.startswith("_") and ast.unparse(node.value) == "ray":
            found.append(ast.unparse(node))
    return found


def test_one_file_uses_rays_private_side() -> None:
    using = {path.name for path in PACKAGE.rglob("*.py") if private_imports(path)}
    assert using == {"ray_private.py"}


def private_attributes(path: Path) -> list[str]:
    """Return the private attributes that a file reads of the objects of a search: studies, storages and trials."""
    found = [node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Attribute)]
    owners = ("study", "storage", "trial", "sampler")
    return [
        ast.unparse(node)
        for node in found
        if node.attr.startswith("_") and ast.unparse(node.value).endswith(owners) and not node.attr.startswith("__")
    ]


def test_nothing_of_optunas_private_side_is_used(tmp_path: Path) -> None:
    assert {found for path in PACKAGE.rglob("*.py") for found in private_attributes(path)} == set()
    (tmp_path / "one.py").write_text("self._study._storage.x, study._study_id, self._study.trials")
    assert sorted(private_attributes(tmp_path / "one.py")) == ["self._study._storage", "study._study_id"]


def test_without_a_ray_of_ones_own_there_is_nothing_to_watch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ray._private.worker._global_node", None)
    assert ray_private.own_processes() == {} and ray_private.raylet_socket() == ""


@pytest.mark.parametrize(("error", "is_shown"), [(RunError("the disk is full"), False), (ValueError("a bug"), True)])
def test_an_error_that_ends_a_sweep_on_purpose_shows_no_traceback(error: Exception, is_shown: bool) -> None:
    logger = logging.getLogger(ray_private.CONTROLLER_LOGGER)
    assert tune_controller.logger is logger
    text, raised = "Trial %s: Error stopping trial.", (type(error), error, None)
    record = logger.makeRecord(logger.name, logging.ERROR, "", 0, text, ("t",), raised)
    assert ray_settings._is_not_ours(record) is is_shown
