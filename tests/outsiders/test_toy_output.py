"""A training whose output is no classification: losses, metric, reviews, a resume, turns with others."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from tskd_tune.errors import InputError
from tskd_tune.experiment import Experiment
from tskd_tune.experiment.ready import build_trainer
from tskd_tune.tasks import TaskFacts
from tskd_tune.testing import TaskContract
from tskd_tune.training.lockstep import advance

if TYPE_CHECKING:
    from toy_output import Painted, Painter

    from tskd_tune.training.trainer import Trainer

Tiny = Callable[..., Experiment]
PARTS: dict[str, Any] = {
    "task": {"name": "toy_output:pictures"},
    "student": {"name": "toy_output:Painter"},
    "teacher": {"name": "toy_output:Painter", "width": 6},
    "distiller": {"name": "toy_output:Imitation"},
}


class TestPictures(TaskContract):
    component = "toy_output:pictures"
    flips = {"batch_size": {"batch_size": 8}}  # noqa: RUF012

    def network(self, facts: TaskFacts) -> Painter:
        from toy_output import Painter

        return Painter(facts.outputs)


def trainer(tiny: Tiny, **over: Any) -> Trainer[Painted]:
    made: Any = build_trainer(tiny(**{**PARTS, **over}))
    return made


def test_a_training_learns_and_is_measured(tiny: Tiny) -> None:
    training = trainer(tiny, review=None, training={"lr": 0.01})
    records = [training.epoch() for _ in range(6)]
    assert all({"loss_task", "loss_imitation", "val_error"} <= set(record.numbers) for record in records)
    assert records[-1].numbers["test_error"] > 0
    assert records[-1].numbers["val_error"] < records[0].numbers["val_error"]


def test_a_review_compares_the_tapped_maps(tiny: Tiny) -> None:
    training = trainer(tiny)
    records = [training.epoch() for _ in range(3)]
    assert records[-1].phase == "review" and records[-1].numbers["loss_review"] > 0


def test_a_resume_within_an_epoch_has_the_same_bits(tiny: Tiny) -> None:
    whole, stopped = trainer(tiny), trainer(tiny)
    expected = [whole.epoch().numbers for _ in range(3)]
    stopped.epoch(), stopped.epoch(), stopped.begin()
    next(stopped.steps())
    state = copy.deepcopy(stopped.state_dict())
    resumed = trainer(tiny)
    resumed.load_state_dict(state)
    assert resumed.epoch().numbers == expected[-1]


def test_trainings_take_turns(tiny: Tiny) -> None:
    alone = [trainer(tiny, seed=seed).epoch().numbers for seed in (1, 2)]
    together = advance([trainer(tiny, seed=seed) for seed in (1, 2)])
    assert [getattr(record, "numbers", None) for record in together] == alone


@pytest.mark.parametrize(("distiller", "lacking"), [("kd", "logits"), ("rkd", "embedding")])
def test_a_distiller_that_needs_what_the_output_lacks_is_refused(tiny: Tiny, distiller: str, lacking: str) -> None:
    with pytest.raises(InputError) as caught:
        trainer(tiny, distiller={"name": distiller})
    assert str(caught.value) == (
        f"distiller: '{distiller}' reads the {lacking} of the student and the teacher, but the output of"
        f" 'toy_output:Painter' has no {lacking}; choose another distiller or network"
    )
