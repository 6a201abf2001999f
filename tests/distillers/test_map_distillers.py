"""What the distillers of feature maps have in common: where they read, draw, learn and compute."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from tskd_tune import distillers, networks
from tskd_tune.contracts import Batch, Classified, Probe
from tskd_tune.distillers import DISTILLERS, Need, needs_of
from tskd_tune.experiment import Experiment
from tskd_tune.experiment.ready import build_trainer

SIZE, CLASSES = 16, 4
every_one = pytest.mark.parametrize("name", ["fitnet", "ofd", "review_kd", "sad", "vid"])


class Watched:
    """An output that notes which of its parts are read."""

    def __init__(self, output: Classified) -> None:
        self.output = output
        self.read: set[str] = set()

    def __getattr__(self, part: str) -> object:
        self.read.add(part)
        return getattr(self.output, part)


def setting(name: str, seed: int = 0) -> tuple[distillers.Distiller, Classified, Classified, Batch]:
    """A distiller in its 50th epoch, built after the seed, and what two networks say of four images."""
    torch.manual_seed(0)
    student, teacher = networks.build("resnet8", CLASSES), networks.build("wrn_16_2", CLASSES)
    probe = Probe(
        student.probe(3, SIZE), teacher.probe(3, SIZE), CLASSES, torch.arange(8) % CLASSES, teacher.stage_norms()
    )
    images = torch.randn(4, 3, SIZE, SIZE)
    torch.manual_seed(seed)
    distiller = distillers.build(name, probe)
    distiller.begin_epoch(50, torch.Generator())
    with torch.no_grad():
        taught = teacher.eval()(images)
    return distiller, student(images), taught, Batch(images, torch.arange(4), torch.arange(4))


@every_one
def test_it_reads_what_it_says_it_needs(name: str) -> None:
    distiller, student, teacher, batch = setting(name)
    watched = Watched(student), Watched(teacher)
    distiller(*watched, batch)
    read = {part for output in watched for part in output.read}
    needs = needs_of(DISTILLERS.slot().parse(name))
    # What a batch norm says is read when the distiller is built.
    assert read == {need.value for need in needs - {Need.BATCH_NORMS}}
    assert distiller.needs == needs


@every_one
def test_every_parameter_learns_and_the_teacher_stays_as_it_is(name: str) -> None:
    distiller, student, teacher, batch = setting(name)
    tensors = [*teacher.features.values(), *teacher.preactivations.values(), teacher.embedding, teacher.logits]
    copies = [tensor.clone() for tensor in tensors]
    sum(distiller(student, teacher, batch).values(), torch.zeros(())).backward()
    assert all(torch.equal(tensor, copy) and tensor.grad is None for tensor, copy in zip(tensors, copies, strict=True))
    parameters = dict(distiller.named_parameters())
    assert parameters
    # In front of a batch norm, and for all stages of the student alike, a bias is without effect.
    dead = ("keys", "queries", "bilinear", "regressor.0.bias")
    for key, parameter in parameters.items():
        assert parameter.grad is not None
        assert parameter.grad.abs().max() > 1e-7 or (key.endswith("bias") and any(part in key for part in dead)), key


@every_one
def test_its_first_parameters_come_from_the_global_generator_alone(name: str) -> None:
    first, again, other = (setting(name, seed)[0].state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(first[key], again[key]) for key in first)
    drawn = [key for key in first if (key.endswith("weight") and first[key].ndim > 1) or "places" in key]
    assert drawn and not any(torch.equal(first[key], other[key]) for key in drawn)


@every_one
def test_a_step_draws_nothing(name: str) -> None:
    distiller, student, teacher, batch = setting(name)
    before = torch.get_rng_state()
    distiller(student, teacher, batch)
    assert torch.equal(torch.get_rng_state(), before)


@every_one
def test_its_state_is_whole(name: str) -> None:
    distiller, student, teacher, batch = setting(name)
    for parameter in distiller.parameters():
        nn.init.normal_(parameter)
    distiller(student, teacher, batch)
    again = setting(name, seed=5)[0]
    again.load_state_dict(distiller.state_dict())
    first, second = (one.eval()(student, teacher, batch) for one in (distiller, again))
    assert first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)


@every_one
def test_losses_stay_exact_under_autocast(name: str) -> None:
    distiller, student, teacher, batch = setting(name)
    exact = distiller(student, teacher, batch)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = distiller(student, teacher, batch)
    for key, loss in exact.items():
        assert found[key].dtype == torch.float32
        torch.testing.assert_close(found[key], loss, rtol=0.05, atol=0)


@every_one
def test_it_takes_part_in_a_training(name: str, tiny: Callable[..., Experiment]) -> None:
    trainer = build_trainer(tiny(distiller={"name": name}, review=None))
    before = {key: value.clone() for key, value in trainer.distiller.state_dict().items()}
    records = [trainer.epoch().numbers, trainer.epoch().numbers]
    assert records[1][f"loss_{name}"] > 0
    after = trainer.distiller.state_dict()
    fixed = [key for key in before if torch.equal(before[key], after[key])]
    assert all(key.endswith("margin") for key in fixed)
    # ReviewKD's weight begins at zero.
    assert (records[0][f"loss_{name}"] > 0) == (name != "review_kd")
