"""The contract of distillers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import ClassVar

import pytest
import torch
from torch import Tensor
from torch.fx.experimental.proxy_tensor import make_fx

from tskd_tune.contracts import Batch, Classified
from tskd_tune.distillers import DISTILLERS, Need
from tskd_tune.experiment import Experiment
from tskd_tune.experiment.ready import build_trainer
from tskd_tune.testing.base import Contract, Options, check_description, own_options, tensors
from tskd_tune.testing.loss_cases import PAIRS, SIZE, Case, LossCase
from tskd_tune.testing.pretended_gpu import pretended_gpu
from tskd_tune.testing.tape import Tape, holding
from tskd_tune.testing.workers import at_once, groups, in_float64
from tskd_tune.training import optim
from tskd_tune.training.capture import CudaCapture
from tskd_tune.training.engine import EagerEngine
from tskd_tune.training.graph_engine import GraphEngine
from tskd_tune.training.group import Group
from tskd_tune.training.parts import Parts
from tskd_tune.training.trainer import Trainer

TINY = {
    "task": {"name": "synthetic", "batch_size": 8, "size": SIZE, "train": 24, "validation": 8, "test": 8},
    "student": {"name": "resnet8"},
}
NEEDS_A_GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
HALVES = (slice(0, 4), slice(0, 2), slice(2, 4))
REVIEW = {"k": 2, "delta": 1, "extractor": {"name": "conv_lstm", "hidden": 2}}


class LossContract(Contract):
    """The requirements for the losses of every distiller, whatever the networks are.

    Attributes:
        flips: option -> options with which the losses, their gradients or the distiller's attributes differ from those
            with ``options``; every option needs an entry.
        changing: options with which a loss changes from epoch to epoch; empty for a distiller without such a loss.
    """

    changing: ClassVar[Options] = {}

    def changing_of(self, name: str) -> Options:
        """Return the options with which a loss of a component changes from epoch to epoch."""
        return self.changing

    def case(self, name: str, options: Options) -> LossCase:
        """Return a distiller with the outputs of two networks on one batch, the same at every call."""
        return Case(name, options)

    def test_every_parameter_of_its_own_is_trained(self, name: str) -> None:
        """Each parameter of the distiller has a gradient, because the optimizer also trains these parameters."""
        case = self.case(name, self.options_of(name))
        losses = case.losses()
        if list(case.distiller.parameters()):
            sum(losses.values(), torch.zeros(())).backward()  # type: ignore[no-untyped-call]
            assert all(parameter.grad is not None for parameter in case.distiller.parameters())

    def test_its_state_round_trips(self, name: str) -> None:
        """The state dict contains all values that the losses depend on."""
        case = self.case(name, self.options_of(name))
        case.losses()
        again = self.case(name, self.options_of(name)).distiller
        again.load_state_dict(case.distiller.state_dict())
        for one in (case.distiller, again):
            one.begin_epoch(2, torch.Generator().manual_seed(1))
        first = case.losses()
        case.distiller = again
        second = case.losses()
        assert all(torch.equal(first[key], second[key]) for key in first)

    def test_it_is_separable_if_it_says_so(self, name: str) -> None:
        """``separable`` is true exactly if the losses of a batch are the means of the losses of its halves."""
        found = [self.case(name, self.options_of(name)).losses_of(which) for which in HALVES]
        separable = self.case(name, self.options_of(name)).distiller.separable
        whole, *halves = found
        means = {key: (halves[0][key] + halves[1][key]) / 2 for key in whole}
        agree = all(torch.allclose(whole[key], means[key], rtol=1e-5) for key in whole)
        assert agree == separable, f"set separable = {agree}"

    def test_it_is_computed_in_micro_batches_if_it_says_so(self, name: str) -> None:
        """``separable or in_pieces`` is true exactly if halves give the batch's losses where batch norms are frozen."""
        found = []
        for which in HALVES:
            case = self.case(name, self.options_of(name))
            case.distiller.eval()
            case.distiller.begin_step(None if which is HALVES[0] else case.batch)
            found.append(case.losses_of(which))
        whole, *halves = found
        agree = all(torch.allclose(whole[key], (halves[0][key] + halves[1][key]) / 2, rtol=1e-5) for key in whole)
        assert agree == (case.distiller.separable or case.distiller.in_pieces), f"set in_pieces = {agree}"

    def test_a_loss_that_changes_with_the_epochs_changes_in_value_or_in_phase(self, name: str) -> None:
        """A loss changes its value between epochs; epochs that have different losses have different phases."""
        options = self.changing_of(name)
        if not options:
            pytest.skip("no loss of this distiller changes with the epochs")
        case, found = self.case(name, options), []
        for epoch in (0, 4):
            case.distiller.begin_epoch(epoch, torch.Generator().manual_seed(0))
            found.append(case.losses())
        others = found[0].keys() != found[1].keys()
        assert others or any(found[0][key] != found[1][key] for key in found[0])
        assert others == (case.distiller.phase(0) != case.distiller.phase(4))

    def test_every_option_changes_something(self, name: str) -> None:
        """Every option has an effect: each entry of ``flips`` changes a loss, a gradient or an attribute."""
        flips = self.flips_of(name)
        assert set(flips) == own_options(DISTILLERS, name), "flips needs an entry for every option"
        plain = self.case(name, self.options_of(name)).observed()
        for option, other in flips.items():
            assert self.case(name, {**self.options_of(name), **other}).observed() != plain, f"{option} changes nothing"

    def test_it_is_described(self, name: str) -> None:
        """The distiller and its options have descriptions, and the distiller declares its needs."""
        check_description(DISTILLERS, name)
        entry = DISTILLERS.entry(name)
        assert entry.source and set(entry.needs) <= {need.value for need in Need}


class DistillerContract(LossContract):
    """The requirements for every distiller of classifiers."""

    @pytest.mark.parametrize("pair", PAIRS)
    def test_losses_are_finite_scalars_with_a_gradient_on_the_student(self, name: str, pair: str) -> None:
        """Each loss is a finite scalar with a gradient on the student; a distiller has losses only if it has needs."""
        case = Case(name, self.options_of(name), pair)
        losses = case.losses()
        assert bool(losses) == bool(case.distiller.needs)
        for loss in losses.values():
            assert loss.shape == () and torch.isfinite(loss) and loss.requires_grad

    def test_two_workers_take_the_step_of_one(self, name: str) -> None:
        """Two workers, each with half of a batch, find the losses and the gradients that one worker finds."""
        trainers = [in_float64(self._training(name, None, group=group)) for group in (None, *groups(2))]
        wanted, *taken = at_once([partial(_one_step, trainer) for trainer in trainers])
        for found in taken:
            assert found.keys() == wanted.keys()
            for key, value in wanted.items():
                assert torch.allclose(found[key], value, rtol=1e-7, atol=1e-9), key

    def test_the_memory_format_changes_rounding_alone(self, name: str) -> None:
        """In float64 a step has the losses and gradients that it has with the channels of images first in memory."""
        first, last = (self._training(name, None, channels_last=layout) for layout in (False, True))
        if first.teacher is not None and last.teacher is not None:  # each was trained in its own memory format
            last.teacher.load_state_dict(first.teacher.state_dict())
        wanted, found = (_one_step(in_float64(trainer)) for trainer in (first, last))
        assert found.keys() == wanted.keys()
        for key, value in wanted.items():
            assert torch.allclose(found[key], value, rtol=1e-7, atol=1e-9), key

    @pytest.mark.parametrize("last", [2, 5])
    def test_a_step_that_was_captured_stands_for_every_epoch_of_its_phase(self, name: str, last: int) -> None:
        """The operations of epoch 0, traced like a captured GPU graph, give the losses of a later epoch."""
        options = self.changing_of(name) or self.options_of(name)
        traced, plain = Case(name, options), Case(name, options)
        if not plain.distiller.capturable or plain.distiller.phase(0) != plain.distiller.phase(last):
            pytest.skip("steps of these epochs are captured apart, or not at all")
        batch, student, teacher = traced.batch, plain.student.detached(), plain.teacher.detached()
        for one in (traced, plain):
            one.distiller.eval()  # in train mode the statistics of batch norms would depend on the number of steps
            one.distiller.begin_epoch(0, torch.Generator().manual_seed(0))

        def step(indices: Tensor) -> list[Tensor]:
            losses = traced.distiller(student, teacher, Batch(batch.images, batch.targets, indices))
            return list(losses.values())

        try:
            graph = make_fx(step)(batch.indices)
        except NotImplementedError as error:
            if not traced.distiller.generators() or "Generator" not in str(error):
                raise
            pytest.skip(f"this version of torch traces no generator: {error}")
        graph(batch.indices)
        for _ in range(2):
            plain.distiller(student, teacher, batch)
        for one in (traced, plain):
            one.distiller.begin_epoch(last, torch.Generator().manual_seed(1))
        expected = plain.distiller(student, teacher, batch)
        for found, wanted in zip(graph(batch.indices), expected.values(), strict=True):
            assert torch.equal(found.detach(), wanted.detach())

    @pytest.mark.parametrize("review", [None, REVIEW], ids=["alone", "reviewing"])
    def test_a_training_that_was_cut_off_goes_on_bit_for_bit(self, name: str, review: Options | None) -> None:
        """A training that is resumed after the second epoch ends with the same bits as an uninterrupted one."""
        check_resume([self._training(name, review) for _ in range(3)], reviews=review is not None)

    @pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=NEEDS_A_GPU)])
    def test_captured_steps_end_with_the_bits_of_eager_ones(
        self, name: str, device: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Steps that are captured (on a CPU: by a tape) and replayed end with the bits of steps that are not.

        On a GPU some operations add in any order; a distiller with such operations ends with nearly the same numbers.
        """
        # Both trainings have the optimizer of a GPU, whose learning rate is a tensor.
        monkeypatch.setattr(optim, "in_tensors", lambda device: True)
        eager, captured = (self._training(name, None, device) for _ in range(2))
        if not captured.distiller.capturable:
            pytest.skip("the distiller says that it cannot be captured")
        eager.engine = EagerEngine(_parts(eager))
        captured.engine = engine = GraphEngine(_parts(captured), captures=CudaCapture if device == "cuda" else Tape)
        if device == "cpu":
            holding(eager.engine), holding(engine)
        for trainer in (eager, captured):
            while not trainer.finished:
                trainer.epoch()
        found, wanted = tensors(captured.state_dict()), tensors(eager.state_dict())
        close = partial(torch.allclose, rtol=1e-2, atol=1e-3) if engine.inexact else torch.equal
        assert len(found) == len(wanted) and all(map(close, found, wanted))
        numbers, others = ([record.numbers for record in one.history] for one in (captured, eager))
        assert engine.inexact or numbers == others
        assert engine.captured > 0

    def test_on_a_gpu_it_stays_there_and_waits_for_nothing(self, name: str) -> None:
        """No step mixes tensors of a GPU and of the CPU, or waits for the GPU, unless ``capturable`` is False."""
        with pretended_gpu() as gpu:
            trainer = self._training(name, None, "cuda")
            trainer.engine = EagerEngine(_parts(trainer))
            for _ in range(2):
                trainer.begin()
                steps = trainer.steps()
                next(steps)  # which also sends the order of the epoch
                with gpu.step(trainer.distiller.capturable):
                    assert list(steps)
                trainer.end()

    def _training(
        self,
        name: str,
        review: Options | None,
        device: str = "cpu",
        group: Group | None = None,
        *,
        channels_last: bool = True,
    ) -> Trainer:
        needs: frozenset[Need] = getattr(DISTILLERS.entry(name).factory, "needs", frozenset())
        weights = "untrained" if Need.TRAINABLE_TEACHER in needs else "auto"
        teacher = {"name": "resnet14", "weights": weights, "training": {"epochs": 1, "lr": 0.01}}
        distiller = {"name": name, **self.options_of(name)}
        training = {"epochs": 3, "lr": 0.05, "device": device, "channels_last": channels_last}
        document = {**TINY, "training": training, "teacher": teacher, "distiller": distiller, "review": review}
        return build_trainer(Experiment.read(document), group)


def check_resume(trainers: Sequence[Trainer], *, reviews: bool) -> None:
    """Check that a training which goes on in another trainer after two epochs ends as one that was not interrupted.

    Args:
        trainers: three equal ones, of three epochs.
        reviews: whether the last epoch has a review.
    """
    whole, first, second = trainers
    groups = [group for optimizer in first.optimizers for group in optimizer.param_groups]
    optimized = {id(parameter) for group in groups for parameter in group["params"]}
    assert all(id(parameter) in optimized for parameter in first.distiller.parameters())
    before = _teacher(first)
    for _ in range(2):
        first.epoch()
    second.load_state_dict(first.state_dict())
    second.epoch()
    while not whole.finished:
        whole.epoch()
    found, wanted = tensors(second.state_dict()), tensors(whole.state_dict())
    assert len(found) == len(wanted) and all(map(torch.equal, found, wanted))
    losses = _losses(whole.history[-1].numbers)
    assert _losses(second.history[-1].numbers) == losses
    assert ("loss_review" in losses) == reviews
    learns = Need.TRAINABLE_TEACHER in first.distiller.needs
    assert all(map(torch.equal, before, _teacher(first))) != learns


def _one_step(trainer: Trainer) -> dict[str, Tensor]:
    """Take the first step of epoch 1, and return the mean losses and the gradients of all that is trained."""
    trainer.begin(1)
    next(trainer.steps())
    trained = {"student": trainer.student, "distiller": trainer.distiller, "teacher": trainer.teacher}
    found = {name: torch.tensor(mean, dtype=torch.float64) for name, mean in trainer.engine.means().items()}
    for kind, module in trained.items():
        for name, parameter in () if module is None else module.named_parameters():
            if parameter.grad is not None:
                found[f"{kind}.{name}"] = parameter.grad.clone()
    return found


def _parts(trainer: Trainer) -> Parts[Classified]:
    assert isinstance(trainer.engine, EagerEngine)
    return trainer.engine.parts


def _teacher(trainer: Trainer) -> list[Tensor]:
    return [] if trainer.teacher is None else tensors(trainer.teacher.state_dict())


def _losses(numbers: Mapping[str, float]) -> dict[str, float]:
    return {key: value for key, value in numbers.items() if key.startswith("loss_")}
