"""Several workers train as one does, within rounding; the workers are threads of this process, which use gloo."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.distributed.distributed_c10d import Store

from tskd_tune import documents
from tskd_tune.errors import DivergedError, InputError, LostWorkerError
from tskd_tune.experiment import Experiment
from tskd_tune.experiment.ready import build_trainer
from tskd_tune.records.sessions.session import Session, Trial
from tskd_tune.testing.base import tensors
from tskd_tune.testing.workers import at_once, groups, in_float64, trained
from tskd_tune.training import group
from tskd_tune.training.group import Group, listening, reached
from tskd_tune.training.lockstep import advance
from tskd_tune.training.trainer import Trainer

Tiny = Callable[..., Experiment]
# Batches of 7, 7 and 3 samples: shares of 3 and 4, and a last batch that is too small to be shared.
BASE: dict[str, Any] = {
    "task": {"train": 17, "validation": 9, "test": 1, "batch_size": 7},
    "training": {"epochs": 3, "fold": False},
    "evaluation": {"test": "every_epoch"},
}
CASES: dict[str, dict[str, Any]] = {
    "alone": {"review": None},
    "distilled": {"review": None, "distiller": "kd"},
    "reviewed": {"distiller": "kd"},
    "reviewed by the whole batch": {"distiller": "rkd"},
    "contrasted": {"review": None, "distiller": {"name": "crd", "negatives": 4}},
    "with lambda to be found": {"review": {"lambda": {"auto": 0.1}}},
    "under a teacher that learns": {
        "review": None,
        "distiller": "ekd",
        "teacher": {"weights": "untrained"},
        "training": {"lr": 0.01},
    },
    "with batch norms that are not frozen": {
        "teacher": {"batch_norm": "train"},
        "review": {"memory": {"batch_norm": "train"}},
        "distiller": "kd",
    },
    "with statistics of parts": {"training": {"batch_norm_groups": 2}, "distiller": "kd"},
    "with statistics of smaller parts": {"training": {"batch_norm_groups": 4}, "task": {"batch_size": 12}},
}


def of(tiny: Tiny, case: Mapping[str, Any]) -> Experiment:
    return tiny(**documents.merge(BASE, case))


def near(found: Trainer, wanted: Trainer, tolerance: float) -> None:
    """Check that two trainings ended alike, in all parameters, buffers and snapshots, and in all that was recorded."""
    pairs = list(zip(tensors(without_engine(found)), tensors(without_engine(wanted)), strict=True))
    assert len(pairs) > 20
    for one, other in pairs:
        torch.testing.assert_close(one, other, rtol=tolerance, atol=tolerance)
    for ours, theirs in zip(found.history, wanted.history, strict=True):
        assert ours.numbers.keys() == theirs.numbers.keys()
        for name, number in theirs.numbers.items():
            # The gradients of a look are in float32.
            assert ours.numbers[name] == pytest.approx(number, rel=max(tolerance, 1e-5 * name.startswith("grad")))


def without_engine(trainer: Trainer) -> dict[str, Any]:
    return {name: value for name, value in trainer.state_dict().items() if name != "history"}


@pytest.mark.parametrize("case", CASES)
def test_two_workers_train_as_one_does(tiny: Tiny, case: str) -> None:
    experiment = of(tiny, CASES[case])
    whole = in_float64(build_trainer(experiment))
    workers = [in_float64(build_trainer(experiment, group)) for group in groups(2)]
    trained([whole])
    first, second = trained(workers)
    near(first, whole, 1e-6 if "auto" in str(CASES[case]) else 1e-10)
    assert all(map(torch.equal, tensors(without_engine(first)), tensors(without_engine(second))))
    assert [record.numbers for record in first.history] == [record.numbers for record in second.history]
    assert first.engine.name == "parallel" and "2 workers" in first.engine.reason


def test_two_workers_take_the_step_of_one_in_single_precision_and_end_with_equal_bits(tiny: Tiny) -> None:
    experiment = of(tiny, {"distiller": "kd"})
    whole = build_trainer(experiment)
    first, second = workers = [build_trainer(experiment, group) for group in groups(2)]
    wanted, *taken = at_once([partial(one_step, trainer) for trainer in (whole, *workers)])
    for found in taken:
        torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)
    trained(workers)
    assert all(map(torch.equal, tensors(without_engine(first)), tensors(without_engine(second))))


def one_step(trainer: Trainer) -> Tensor:
    trainer.begin()
    next(trainer.steps())
    return torch.cat([tensor.flatten().double() for tensor in trainer.student.state_dict().values()])


@pytest.mark.parametrize("begins_with", [1, 2])
def test_a_training_goes_on_with_another_number_of_workers(tiny: Tiny, begins_with: int) -> None:
    experiment = of(tiny, {"distiller": "kd"})
    whole, alone = (in_float64(build_trainer(experiment)) for _ in range(2))
    workers = [in_float64(build_trainer(experiment, group)) for group in groups(2)]
    earlier, later = ([alone], workers) if begins_with == 1 else (workers, [alone])
    trained([whole])
    state = trained(earlier, epochs=1)[0].state_dict()
    for trainer in later:
        trainer.load_state_dict(state)
    near(trained(later)[0], whole, 1e-10)


def test_the_row_says_that_the_number_of_workers_changed(tiny: Tiny) -> None:
    experiment, trial = of(tiny, {"review": None}), Trial("0", "arm")
    alone = Session(experiment, None, trial, None)
    assert alone.row().cost.workers == 1 and not any("workers" in one for one in alone.row().warnings)
    group = Group(0, 2, backend=None)  # type: ignore[arg-type]
    shared = Session(experiment, None, trial, None, group=group)
    shared.load_state_dict(alone.state_dict())
    row = shared.row()
    assert row.cost.workers == 2 and row.engine.name == "parallel"
    assert "training: was shared by 1 and then 2 workers in turn, which round differently" in row.warnings
    again = Session(experiment, None, trial, None, group=group)
    again.load_state_dict(shared.state_dict())
    assert again.row().warnings == row.warnings
    old = alone.state_dict()
    del old["workers"]  # as earlier versions wrote it
    again.load_state_dict(old)
    assert again.row().warnings == row.warnings


def test_statistics_of_parts_change_a_training_of_one_worker(tiny: Tiny) -> None:
    one, parts = (trained([build_trainer(of(tiny, {"training": {"batch_norm_groups": n}}))], 1)[0] for n in (1, 2))
    assert not all(map(torch.equal, tensors(one.student.state_dict()), tensors(parts.student.state_dict())))


def test_workers_draw_different_numbers_for_dropout(tiny: Tiny) -> None:
    drawn = [build_trainer(of(tiny, {"review": None}), group)._network for group in groups(2)]
    numbers = []
    for stream in drawn:
        with stream.drawing(0, 0):
            numbers.append(torch.rand(4))
    assert not torch.equal(*numbers)


def test_workers_diverge_together(tiny: Tiny) -> None:
    experiment = of(tiny, {"review": None, "training": {"lr": 1e30}})
    workers = [build_trainer(experiment, group) for group in groups(2)]
    first, second = at_once([partial(advance, [trainer]) for trainer in workers])
    assert isinstance(first[0], DivergedError) and str(first[0]) == str(second[0])


def test_a_worker_that_ends_ends_the_steps_of_the_others_with_a_sentence(tiny: Tiny) -> None:
    workers = [build_trainer(of(tiny, {"review": None}), group) for group in groups(2)]
    workers[1].engine.step = fails  # type: ignore[method-assign]
    with pytest.raises(KeyError, match="a slip"):
        trained(workers)
    with pytest.raises(LostWorkerError, match=r"worker 0 of 2 lost the others.* goes on from its last checkpoint"):
        workers[0].compute.group.add([torch.ones(1)])  # type: ignore[union-attr]


def test_a_backend_finds_an_empty_store(monkeypatch: pytest.MonkeyPatch) -> None:
    # NCCL keeps the address of worker 0 under "0": the others read what they find there at once.
    found: list[bool] = []

    def backend_of(store: Store, *_: object) -> object:
        found.append(any(store.check([key]) for key in ("0", "1")))
        return backend(store, *_)

    backend = group.backend_of
    monkeypatch.setattr(group, "backend_of", backend_of)
    for each in groups():
        each.leave()
    assert found == [False, False]


def fails(*given: object) -> None:
    raise KeyError("a slip")


def test_processes_that_do_not_meet_say_so() -> None:
    store, port = listening("127.0.0.1", 2, patience=0.2)
    with pytest.raises(LostWorkerError, match=r"worker 0 of 2 .* waited 0.2 s"):
        Group.join(store, 0, 2, torch.device("cpu"), patience=0.2)
    del store
    with pytest.raises(LostWorkerError, match=r"worker 1 of 2 .* waited 0.2 s"):
        reached("127.0.0.1", port, 2, patience=0.2)


@pytest.mark.parametrize(
    ("training", "message"),
    [
        ({"graphs": "always"}, "2 workers share the training, and no graph"),
        ({"batch_norm_groups": 3}, r"3 parts of a batch cannot be shared by 2 workers; .* a multiple of 2"),
    ],
)
def test_what_several_workers_cannot_do_is_refused(tiny: Tiny, training: dict[str, Any], message: str) -> None:
    group = Group(0, 2, backend=None)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=message):
        build_trainer(of(tiny, {"review": None, "training": training}), group)
