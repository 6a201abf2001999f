"""What a trial takes of the cluster that there is, and what is refused."""

from __future__ import annotations

import re
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from tskd_tune.errors import InputError
from tskd_tune.records.entries.events import Event
from tskd_tune.sweeps import run, teachers
from tskd_tune.sweeps.declared.checking import check
from tskd_tune.sweeps.declared.schema import Sweep
from tskd_tune.sweeps.machines import resources as room
from tskd_tune.sweeps.machines.late_nodes import placement
from tskd_tune.sweeps.machines.nodes import Kind


def sweep(tiny: dict[str, Any], **resources: Any) -> Sweep:
    return Sweep.read({"experiment": tiny, "search": {"name": "grid"}, "resources": resources})


@pytest.mark.parametrize(
    ("there", "resources", "taken", "at_once"),
    [
        ([{"CPU": 8.0}], {}, {"cpu": 1}, 8),
        ([{"CPU": 8.0}], {"cpu": 3}, {"cpu": 3}, 2),
        ([{"CPU": 3.0}, {"CPU": 5.0}], {"cpu": 2}, {"cpu": 2}, 3),
        ([{"CPU": 8.0, "GPU": 2.0}], {}, {"cpu": 1, "gpu": 1.0}, 2),
        ([{"CPU": 8.0, "GPU": 2.0}], {"gpu": 0.25}, {"cpu": 1, "gpu": 0.25}, 8),
        ([{"CPU": 8.0, "GPU": 2.0}], {"gpu": 0.1}, {"cpu": 1, "gpu": 0.1}, 8),
        ([{"CPU": 8.0}, {"CPU": 8.0, "GPU": 1.0}], {}, {"cpu": 1, "gpu": 1.0}, 1),
        ([{"CPU": 8.0, "GPU": 2.0}], {"gpu": 0.0, "cpu": 2}, {"cpu": 2}, 4),
        ([{"CPU": 0.0}], {}, {"cpu": 1}, 1),
        ([{"CPU": 9.0, "GPU": 8.0}], {"gpu": 4}, {"cpu": 1, "gpu": 1.0}, 2),
        ([{"CPU": 5.0, "GPU": 3.0}] * 3, {"gpu": 4}, {"cpu": 1, "gpu": 1.0}, 2),
        ([{"CPU": 9.0}], {"cpu": 2, "workers": 2}, {"cpu": 2}, 2),
        ([{"CPU": 9.0, "GPU": 6.0}], {"workers": 2}, {"cpu": 1, "gpu": 1.0}, 3),
    ],
)
def test_a_trial_takes_a_gpu_where_there_are_any(
    tiny_document: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    there: list[dict[str, float]],
    resources: dict[str, Any],
    taken: dict[str, float],
    at_once: int,
) -> None:
    monkeypatch.setattr(room, "_machines", lambda: there)
    monkeypatch.setattr(room, "planned", list)
    given = sweep(tiny_document, **resources)
    assert room.needed(given) == taken
    assert room.capacity(taken, given.resources.worker_count) == at_once


def test_an_autoscaler_sees_as_many_trials_wait_as_its_machines_would_hold(
    tiny_document: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "_machines", lambda: [{"CPU": 0.0}])
    monkeypatch.setattr(room, "planned", lambda: [Kind({"CPU": 4.0, "GPU": 1.0}, 8), Kind({"CPU": 64.0}, 2)])
    wanted = room.needed(sweep(tiny_document))
    assert wanted == {"cpu": 1, "gpu": 1.0}, "the GPUs that there will be count"
    assert room.capacity(wanted) == 8
    assert room.capacity({"cpu": 1, "gpu": 0.25}) == 32


def test_more_than_the_machine_has_is_refused_unless_a_cluster_is_named(
    tiny_document: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(room, "_machines", lambda: [{"CPU": 2.0}])
    monkeypatch.setattr(room, "planned", list)
    with pytest.raises(InputError, match=r"resources.gpu: a trial asks for 1, but this machine has 0; lower"):
        room.refuse_unfit(sweep(tiny_document, gpu=1.0), lambda event: None)


def test_what_is_refused_once_the_cluster_is_known_leaves_its_name_free(
    tiny_document: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*given: Any, **named: Any) -> None:
        raise InputError("resources.cpu: too many")

    monkeypatch.setattr(run, "session", lambda path: nullcontext())
    for name in ("refuse_unfit", "_trained"):
        with monkeypatch.context() as patch:
            patch.setattr(run, "refuse_unfit", lambda *given: None)
            patch.setattr(run, "needed", lambda sweep: {"cpu": 1})
            patch.setattr(run, name, refuse)
            with pytest.raises(InputError, match="too many"):
                run.start(sweep(tiny_document), "first", tmp_path, lambda event: None)
        assert list(tmp_path.iterdir()) == []


def machines(
    monkeypatch: pytest.MonkeyPatch, *there: dict[str, float], planned: tuple[dict[str, float], ...] = ()
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    monkeypatch.setattr(room, "WAIT_SECONDS", 0)
    monkeypatch.setattr(room, "_machines", lambda: list(there))
    monkeypatch.setattr(room, "planned", lambda: [Kind(one) for one in planned])


def test_what_no_machine_of_a_cluster_has_is_refused_with_the_largest(
    tiny_document: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    machines(monkeypatch, {"CPU": 16.0}, {"CPU": 4.0, "GPU": 1.0})
    room.refuse_unfit(sweep(tiny_document, gpu=1.0, cpu=4), lambda event: None)
    told = r"a trial asks for cpu 8, gpu 1, but no machine of the cluster has that; the largest has cpu 4, gpu 1; lower"
    with pytest.raises(InputError, match=told):
        room.refuse_unfit(sweep(tiny_document, gpu=1.0, cpu=8), lambda event: None)


def test_an_autoscaler_is_waited_for_where_it_has_such_machines(
    tiny_document: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    machines(monkeypatch, {"CPU": 0.0}, planned=({"CPU": 8.0, "GPU": 1.0},))
    heard: list[Event] = []
    room.refuse_unfit(sweep(tiny_document, gpu=1.0, cpu=8), heard.append)
    assert [event.what for event in heard] == ["machines"] and "autoscaler adds one" in str(heard[0].reason)
    with pytest.raises(InputError, match=r"the largest has cpu 8, gpu 1"):
        room.refuse_unfit(sweep(tiny_document, gpu=1.0, cpu=9), heard.append)


def test_memory_is_no_objective_where_no_trial_takes_a_gpu(
    tiny_document: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    objectives = {"val_top1": "max", "memory": "min"}
    search = {"name": "optuna", "trials": 2, "sampler": "nsga2", "objectives": objectives}
    given = Sweep.read({"experiment": tiny_document, "search": search})
    monkeypatch.setattr(room, "planned", list)
    monkeypatch.setattr(room, "_machines", lambda: [{"CPU": 2.0}])
    with pytest.raises(InputError, match="memory is the peak of a GPU's, but trials take no GPU here"):
        room._refuse_unmeasured(given)
    monkeypatch.setattr(room, "_machines", lambda: [{"CPU": 2.0, "GPU": 1.0}])
    room._refuse_unmeasured(given)


def test_a_teacher_gets_the_cores_that_idle_before_the_trials(monkeypatch: pytest.MonkeyPatch) -> None:
    nodes = [{"Alive": True, "Resources": {"CPU": cores}} for cores in (0.0, 4.0, 64.0)]
    monkeypatch.setattr(teachers.ray, "nodes", lambda: nodes[:2])
    assert teachers._idle_cores(1) == 4
    monkeypatch.setattr(teachers.ray, "nodes", lambda: nodes)
    assert teachers._idle_cores(1) == teachers.MOST_CORES
    assert teachers._idle_cores(16) == 16


@pytest.mark.parametrize(
    ("resources", "bundles"),
    [
        ({}, [{"CPU": 1}]),
        ({"gpu": 0.5}, [{"CPU": 1, "GPU": 0.5}]),
        ({"gpu": 3, "cpu": 2}, [{"CPU": 2, "GPU": 1}] * 3),
        ({"workers": 2, "gpu": 0}, [{"CPU": 1}] * 2),
    ],
)
def test_every_worker_of_a_trial_has_a_bundle(
    tiny_document: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    resources: dict[str, Any],
    bundles: list[dict[str, float]],
) -> None:
    machines(monkeypatch, {"CPU": 8.0})
    given = sweep(tiny_document, **resources)
    found = placement(room.needed(given), given.resources.worker_count)
    assert found.bundles == bundles and found.strategy == "PACK", "on as few machines as possible"


@pytest.mark.parametrize(
    ("resources", "message"),
    [
        ({"gpu": 1.5}, "whole GPUs or a share of one, got 1.5; give 1 or 2, or a fraction"),
        ({"gpu": 4, "workers": 2}, r"2 workers take a GPU each, but gpu is 4; set gpu: 2 or gpu: 0"),
        ({"gpu": 0.5, "workers": 2}, r"2 workers take a GPU each, but gpu is 0.5"),
        ({"gpu": 2, "together": 3}, r"3 trainings share one process, but a trial has 2 workers"),
        ({"workers": 2, "together": "auto"}, r"auto trainings share one process, but a trial has 2 workers"),
    ],
)
def test_workers_and_gpus_that_do_not_fit_are_refused(
    tiny_document: dict[str, Any], resources: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        sweep(tiny_document, **resources)


def test_workers_may_be_on_several_machines(tiny_document: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    there = {"CPU": 4.0, "GPU": 2.0}
    machines(monkeypatch, there, there)
    room.refuse_unfit(sweep(tiny_document, gpu=4), lambda event: None)
    with pytest.raises(InputError, match=r"asks for 5 workers with cpu 1, gpu 1 each, but the cluster has room for 4;"):
        room.refuse_unfit(sweep(tiny_document, gpu=5), lambda event: None)


@pytest.mark.parametrize(
    ("training", "message"),
    [
        ({"batch_norm_groups": 3}, r"3 parts of a batch cannot be shared by 2 workers; .* or to a multiple of 2"),
        ({"graphs": "always"}, r"graphs: 'always', but resources give a trial 2 workers, .* set training.graphs: auto"),
        ({"batch_norm_groups": 4}, None),
    ],
)
def test_options_that_do_not_go_with_the_workers_are_refused_before_anything_starts(
    tiny_document: dict[str, Any], training: dict[str, Any], message: str | None
) -> None:
    document = {**tiny_document, "training": {**tiny_document["training"], **training}}
    problems = check(sweep(document, workers=2))
    assert re.search(message, "".join(problems)) if message else problems == []
