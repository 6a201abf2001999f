"""The contract of teacher methods."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.fx.experimental.proxy_tensor import make_fx

from tskd_tune import networks
from tskd_tune.contracts import Batch, Classified
from tskd_tune.networks.base import Network
from tskd_tune.teaching import TEACHER_METHODS, Need, Setting, TeacherMethod, method_needs
from tskd_tune.testing.base import Contract, Options, check_description
from tskd_tune.testing.loss_cases import part_of
from tskd_tune.testing.pretended_gpu import pretended_gpu

CLASSES, SAMPLES, EPOCHS = 5, 12, 3


def made(name: str, options: Options) -> tuple[TeacherMethod, Network]:
    """Return a method and the teacher that the method trains, from the same seed at every call."""
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
    return TEACHER_METHODS.build(name, setting, **options), teacher


def seen(teacher: Network, seed: int = 0) -> tuple[Classified, Batch]:
    """Return a teacher's outputs for four images, and the batch of these images."""
    indices = torch.tensor([1, 4, 7, 9])
    images = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(seed))
    return teacher(images), Batch(images, indices % CLASSES, indices)


class TeacherMethodContract(Contract):
    """The requirements for every method of training a teacher."""

    def test_losses_train_the_teacher_and_every_parameter_of_their_own(self, name: str) -> None:
        """Each loss is a finite scalar with a gradient on the teacher, in every epoch."""
        method, teacher = made(name, self.options_of(name))
        for epoch in range(EPOCHS):
            output, batch = seen(teacher, epoch)
            method.begin_epoch(epoch, torch.Generator())
            losses = method(output, None, batch)
            assert bool(losses) == bool(method.needs)
            for loss in losses.values():
                assert loss.shape == () and torch.isfinite(loss)
                given = torch.autograd.grad(loss, list(teacher.parameters()), retain_graph=True, allow_unused=True)
                assert any(gradient is not None and bool(gradient.any()) for gradient in given)
        if list(method.parameters()):
            torch.stack(list(losses.values())).sum().backward()  # type: ignore[no-untyped-call]
            assert all(parameter.grad is not None for parameter in method.parameters())

    def test_its_state_round_trips(self, name: str) -> None:
        """The state dict contains all values that the losses depend on."""
        method, teacher = made(name, self.options_of(name))
        output, batch = seen(teacher.eval())
        method.begin_epoch(0, torch.Generator())
        method(output, None, batch)
        again = made(name, self.options_of(name))[0]
        again.load_state_dict(method.state_dict())
        for one in (method, again):
            one.begin_epoch(1, torch.Generator())
        first, second = method(output, None, batch), again(output, None, batch)
        assert all(torch.equal(first[key].detach(), second[key].detach()) for key in first)

    def test_a_step_that_was_captured_stands_for_every_epoch_of_its_phase(self, name: str) -> None:
        """The traced operations of the second-last epoch give the losses of the last epoch."""
        (traced, teacher), (plain, _) = made(name, self.options_of(name)), made(name, self.options_of(name))
        if not traced.capturable or traced.phase(EPOCHS - 2) != traced.phase(EPOCHS - 1):
            pytest.skip("steps of these epochs are captured apart, or not at all")
        teacher.eval()
        output, batch = seen(teacher)
        constant = output.detached()
        for method in (traced, plain):
            method.eval()  # in train mode the statistics of batch norms would depend on the number of steps
            method.begin_epoch(EPOCHS - 2, torch.Generator())

        def step(indices: Tensor) -> list[Tensor]:
            return list(traced(constant, None, Batch(batch.images, batch.targets, indices)).values())

        graph = make_fx(step)(batch.indices)
        for method in (traced, plain):
            method.begin_epoch(EPOCHS - 1, torch.Generator())
        plain.load_state_dict(traced.state_dict())
        expected = plain(constant, None, batch)
        for found, wanted in zip(graph(batch.indices), expected.values(), strict=True):
            assert torch.equal(found.detach(), wanted.detach())

    def test_on_a_gpu_it_stays_there_and_waits_for_nothing(self, name: str) -> None:
        """No operation mixes tensors of a GPU and of the CPU, or waits for the GPU, unless ``capturable`` is False."""
        with pretended_gpu() as gpu:
            method, teacher = made(name, self.options_of(name))
            _, batch = seen(teacher)
            images, targets, indices = (one.to("cuda") for one in (batch.images, batch.targets, batch.indices))
            output = teacher.to("cuda")(images)
            method.to("cuda").begin_epoch(1, torch.Generator().manual_seed(0))
            with gpu.step(method.capturable):
                losses = method(output, None, Batch(images, targets, indices))
                if losses:
                    torch.stack(list(losses.values())).sum().backward()  # type: ignore[no-untyped-call]
            assert all(loss.is_cuda for loss in losses.values())

    def test_it_is_separable_if_it_says_so(self, name: str) -> None:
        """``separable`` is true exactly if the losses of a batch are the means of the losses of its halves."""
        agree, separable, _ = self._halves(name, training=True)
        assert agree == separable, f"set separable = {agree}"

    def test_it_is_computed_in_micro_batches_if_it_says_so(self, name: str) -> None:
        """``separable or in_pieces`` is true exactly if halves give the batch's losses where batch norms are frozen."""
        agree, separable, in_pieces = self._halves(name, training=False)
        assert agree == (separable or in_pieces), f"set in_pieces = {agree}"

    def _halves(self, name: str, *, training: bool) -> tuple[bool, bool, bool]:
        """Tell whether halves of a batch give the losses of the batch, and what the method says of this."""
        found = []
        for which in (slice(0, 4), slice(0, 2), slice(2, 4)):
            method, teacher = made(name, self.options_of(name))
            output, batch = seen(teacher.eval())
            method.train(training).begin_epoch(1, torch.Generator())
            method.begin_step(None if which == slice(0, 4) else batch)
            part = Batch(batch.images[which], batch.targets[which], batch.indices[which])
            found.append(method(part_of(output, which), None, part))
        whole, *halves = found
        means = {key: (halves[0][key] + halves[1][key]) / 2 for key in whole}
        agree = all(torch.allclose(whole[key], means[key], rtol=1e-5) for key in whole)
        return agree, method.separable, method.in_pieces

    def test_it_is_described(self, name: str) -> None:
        """The method and its options have descriptions, and the method declares its needs."""
        check_description(TEACHER_METHODS, name)
        entry = TEACHER_METHODS.entry(name)
        assert entry.source and set(entry.needs) <= {need.value for need in Need}
        component = TEACHER_METHODS.slot().parse({"name": name, **self.options_of(name)})
        assert {str(need) for need in method_needs(component)} <= {need.value for need in Need}
