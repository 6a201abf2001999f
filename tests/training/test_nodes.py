"""Reviews by iterations: nodes of so many steps, which begin and end within epochs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from tskd_tune import documents
from tskd_tune.experiment import Experiment
from tskd_tune.experiment.identity import identity
from tskd_tune.experiment.ready import build_trainer
from tskd_tune.testing.base import tensors
from tskd_tune.training.trainer import Trainer

Tiny = Callable[..., Experiment]
LOOK, REVIEW, GENERAL = "look", "review", "."
# 6 epochs of 3 steps (24 samples in batches of 8), nodes of 4 steps: k = 2, delta = 1.
# Nodes 0 and 1 memorize (until steps 3 and 7), node 2 reviews (steps 8 to 11), and node 3 memorizes (until step 15);
# the training ends within node 4.
NODE = {"review": {"plan": {"node": 4}}}
EXTRACTORS: dict[str, Any] = {"reset": True, "warmup_steps": 2, "optimizer": "own", "decay_when_frozen": True}
OPTIONS: list[dict[str, Any]] = [
    {},
    {"plan": {"moment": "epoch_start", "cycle": "chained"}, "sequence_order": "shuffled"},
    {"plan": {"review_fraction": 0.5}, "extractor": {"training": EXTRACTORS}, "lambda": {"auto": 0.1}},
]


def of(tiny: Tiny, *cases: dict[str, Any]) -> Experiment:
    document: dict[str, Any] = {}
    for case in cases:
        document = documents.merge(document, case)
    return tiny(**document)


def steps(trainer: Trainer, seen: Callable[[int], None] = lambda done: None) -> list[str]:
    """Train to the end, and return the kinds of all steps; ``seen`` is called before each step."""
    kinds = []
    while not trainer.finished:
        if not trainer.is_within_epoch:
            trainer.begin()
        seen(len(kinds))
        for kind in trainer.steps():
            kinds.append(LOOK if kind.look else REVIEW if kind.review else GENERAL)
            seen(len(kinds))
        trainer.end()
    return kinds


def state(trainer: Trainer) -> list[Tensor]:
    return tensors({name: value for name, value in trainer.state_dict().items() if name != "history"})


def lines(trainer: Trainer) -> list[dict[str, Any]]:
    return [{k: v for k, v in one.plain().items() if "seconds" not in k} for one in trainer.history]


def test_nodes_begin_and_end_within_epochs(tiny: Tiny) -> None:
    trainer = build_trainer(of(tiny, NODE))
    assert trainer.review is not None
    memory = trainer.review.memory
    kinds = steps(trainer)
    assert kinds == [GENERAL] * 8 + [LOOK, REVIEW, REVIEW, REVIEW] + [GENERAL] * 6
    assert memory.memorized == 3
    assert [one.phase for one in trainer.history] == [
        "general",
        "memorize",
        "memorize+review",
        "review",
        "general",
        "memorize",
    ]
    assert ["lambda" in one.numbers for one in trainer.history] == [False, False, True, False, False, False]
    assert ["loss_review" in one.numbers for one in trainer.history] == [False, False, True, True, False, False]


def test_a_snapshot_is_the_student_after_the_last_step_of_its_node(tiny: Tiny) -> None:
    trainer, students = build_trainer(of(tiny, NODE)), []

    def note(done: int) -> None:
        if done == len(students):
            students.append([tensor.clone() for tensor in trainer.student.state_dict().values()])

    steps(trainer, note)
    assert trainer.review is not None
    kept = trainer.review.memory.snapshot_state()["snapshots"]  # the last two: of nodes 1 and 3
    for snapshot, after in zip(kept, (8, 16), strict=True):
        assert all(map(torch.equal, snapshot.values(), students[after]))


def test_a_snapshot_at_the_start_is_the_student_before_the_first_step_of_its_node(tiny: Tiny) -> None:
    trainer, students = build_trainer(of(tiny, NODE, {"review": {"plan": {"moment": "epoch_start"}}})), []

    def note(done: int) -> None:
        if done == len(students):
            students.append([tensor.clone() for tensor in trainer.student.state_dict().values()])

    steps(trainer, note)
    assert trainer.review is not None
    kept = trainer.review.memory.snapshot_state()["snapshots"]
    for snapshot, before in zip(kept, (4, 12), strict=True):
        assert all(map(torch.equal, snapshot.values(), students[before]))


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_nodes_as_long_as_an_epoch_are_epochs(tiny: Tiny, options: dict[str, Any]) -> None:
    over = {"review": options, "distiller": "kd"}
    epochs, nodes = (build_trainer(of(tiny, over, {"review": {"plan": {"node": node}}})) for node in ("epoch", 3))
    assert steps(epochs) == steps(nodes)
    assert lines(epochs) == lines(nodes)
    assert all(map(torch.equal, state(epochs), state(nodes)))


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_a_resume_at_every_step_ends_with_the_same_bits(tiny: Tiny, options: dict[str, Any]) -> None:
    experiment = of(tiny, NODE, {"review": options, "training": {"epochs": 4}})
    whole, states = build_trainer(experiment), []
    kinds = steps(whole, lambda done: states.append(copied(whole)))
    wanted = state(whole)
    assert LOOK in kinds and len(states) == 12 + 4
    for saved in states[3:]:  # from the first step of a node's snapshot on
        again = build_trainer(experiment)
        again.load_state_dict(saved)
        steps(again)
        assert lines(again) == lines(whole)
        assert all(map(torch.equal, state(again), wanted))


def copied(trainer: Trainer) -> dict[str, Any]:
    import io

    content = io.BytesIO()
    torch.save(trainer.state_dict(), content)
    content.seek(0)
    found: dict[str, Any] = torch.load(content, weights_only=True)
    return found


def test_the_node_is_part_of_the_identity_unless_it_is_an_epoch(tiny: Tiny) -> None:
    plain, epoch, steps_ = (
        identity(of(tiny, *case)) for case in ((), ({"review": {"plan": {"node": "epoch"}}},), (NODE,))
    )
    assert plain == epoch != steps_
