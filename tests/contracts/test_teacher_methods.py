"""What every registered teacher method promises, whatever it is."""

from __future__ import annotations

import pytest
import torch
from torch.fx.experimental.proxy_tensor import make_fx

from tskd_tune import networks
from tskd_tune.contracts import Batch, Output
from tskd_tune.teaching import TEACHER_METHODS, Need, Setting, TeacherMethod, method_needs

CLASSES, SAMPLES, EPOCHS = 5, 12, 3
every_method = pytest.mark.parametrize("name", TEACHER_METHODS.names())


def made(name: str) -> tuple[TeacherMethod, networks.Network]:
    torch.manual_seed(0)
    teacher, student = networks.build("resnet14", CLASSES), networks.build("resnet8", CLASSES)
    setting = Setting(
        teacher,
        teacher.probe(3, 8),
        student.probe(3, 8),
        lambda stage: networks.build("resnet8", CLASSES).tail(stage),
        CLASSES,
        SAMPLES,
        EPOCHS,
    )
    return TEACHER_METHODS.build(name, setting), teacher


def seen(teacher: networks.Network, seed: int = 0) -> tuple[Output, Batch]:
    indices = torch.tensor([1, 4, 7, 9])
    images = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(seed))
    return teacher(images), Batch(images, indices % CLASSES, indices)


@every_method
def test_losses_are_finite_scalars_that_train_the_teacher_and_every_parameter_of_their_own(name: str) -> None:
    method, teacher = made(name)
    for epoch in range(EPOCHS):
        output, batch = seen(teacher, epoch)
        method.begin_epoch(epoch, torch.Generator())
        losses = method(output, None, batch)
        assert bool(losses) == bool(method.needs)
        for loss in losses.values():
            assert loss.shape == () and torch.isfinite(loss)
            given = torch.autograd.grad(loss, list(teacher.parameters()), retain_graph=True, allow_unused=True)
            assert any(gradient is not None and gradient.any() for gradient in given)
    if list(method.parameters()):
        torch.stack(list(losses.values())).sum().backward()
        assert all(parameter.grad is not None for parameter in method.parameters())


@every_method
def test_its_state_round_trips(name: str) -> None:
    method, teacher = made(name)
    output, batch = seen(teacher.eval())
    method.begin_epoch(0, torch.Generator())
    method(output, None, batch)
    again = made(name)[0]
    again.load_state_dict(method.state_dict())
    for one in (method, again):
        one.begin_epoch(1, torch.Generator())
    first, second = method(output, None, batch), again(output, None, batch)
    assert all(torch.equal(first[key].detach(), second[key].detach()) for key in first)


@every_method
def test_a_step_that_was_captured_stands_for_every_epoch_of_its_phase(name: str) -> None:
    """Trace the operations of a step in the epoch before the last, and run them in the last."""
    (traced, teacher), (plain, _) = made(name), made(name)
    assert traced.capturable and traced.phase(EPOCHS - 2) == traced.phase(EPOCHS - 1)
    teacher.eval()
    output, batch = seen(teacher)
    constant = output.detached()
    for method in (traced, plain):
        method.eval()  # the statistics of batch norms would count the steps
        method.begin_epoch(EPOCHS - 2, torch.Generator())

    def step(indices: torch.Tensor) -> list[torch.Tensor]:
        return list(traced(constant, None, Batch(batch.images, batch.targets, indices)).values())

    graph = make_fx(step)(batch.indices)
    for method in (traced, plain):
        method.begin_epoch(EPOCHS - 1, torch.Generator())
    plain.load_state_dict(traced.state_dict())
    expected = plain(constant, None, batch)
    for found, wanted in zip(graph(batch.indices), expected.values(), strict=True):
        assert torch.equal(found.detach(), wanted.detach())


@every_method
def test_it_is_separable_if_it_says_so(name: str) -> None:
    found = []
    for which in (slice(0, 4), slice(0, 2), slice(2, 4)):
        method, teacher = made(name)
        output, batch = seen(teacher.eval())
        method.begin_epoch(1, torch.Generator())
        features, sources = (
            {stage: map_[which] for stage, map_ in maps.items()} for maps in (output.features, output.preactivations)
        )
        part = Output(output.logits[which], features, sources, output.embedding[which])
        found.append(method(part, None, Batch(batch.images[which], batch.targets[which], batch.indices[which])))
    whole, *halves = found
    means = {key: (halves[0][key] + halves[1][key]) / 2 for key in whole}
    assert all(torch.allclose(whole[key], means[key], rtol=1e-5) for key in whole) == method.separable


@every_method
def test_it_is_described(name: str) -> None:
    (entry,) = [entry for entry in TEACHER_METHODS.describe() if entry["name"] == name]
    assert entry["source"] and set(entry["needs"]) <= {need.value for need in Need}
    component = TEACHER_METHODS.default(name)()
    assert sorted(method_needs(component)) == entry["needs"]
