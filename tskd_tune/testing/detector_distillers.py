"""The contract of distillers of detectors."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from tskd_tune.contracts import Batch, Boxes, Detected, Probe
from tskd_tune.distillers import DISTILLERS, Distiller
from tskd_tune.experiment import Experiment
from tskd_tune.experiment.assembly import assemble
from tskd_tune.testing.base import Options
from tskd_tune.testing.detectors import on
from tskd_tune.testing.distillers import REVIEW, TINY, LossContract, check_resume
from tskd_tune.testing.loss_cases import LossCase
from tskd_tune.testing.pretended_gpu import pretended_gpu
from tskd_tune.testing.small_detector import CLASSES, SIDE, SIZES, SmallDetector, small_batch, small_detection
from tskd_tune.training.trainer import Trainer

SMALL = "tskd_tune.testing.small_detector:SmallDetector"
TEACHER = {"name": SMALL, "width": 6, "training": {"epochs": 1, "lr": 0.01}}


class DetectorCase(LossCase):
    """A distiller with the outputs of a student and a teacher, both detectors, on one batch of padded images."""

    def __init__(self, name: str, options: Options) -> None:
        """Build the networks, the distiller and the batch from the same seed."""
        torch.manual_seed(0)
        self.networks = SmallDetector(CLASSES).eval(), SmallDetector(CLASSES, width=6).eval()
        student, teacher = (network.probe(3, SIDE) for network in self.networks)
        probe = Probe(student, teacher, CLASSES, torch.zeros(0, dtype=torch.long), varying=True)
        self.distiller: Distiller[Detected] = DISTILLERS.build(name, probe, **options)  # type: ignore[assignment]
        self.distiller.begin_epoch(1, torch.Generator().manual_seed(0))
        self.batch = small_batch(0)
        self.student, self.teacher = self.outputs(self.batch)

    def losses(self) -> dict[str, Tensor]:
        """Return the losses of the batch."""
        return dict(self.distiller(self.student, self.teacher, self.batch))

    def losses_of(self, which: slice) -> dict[str, Tensor]:
        """Return the losses of some images of the batch."""
        truth, sizes = self.batch.targets, self.batch.sizes
        assert sizes is not None
        boxes = Boxes(truth.corners[which], truth.labels[which], truth.crowd[which], truth.counts[which])
        part = Batch(self.batch.images[which], boxes, self.batch.indices[which], sizes[which])
        return dict(self.distiller(*self.outputs(part), part))

    def parts(self) -> list[Tensor]:
        """Return the features of the student."""
        return list(self.student.features.values())

    def outputs(self, batch: Batch[Boxes]) -> Sequence[Detected]:
        """Return what student and teacher compute of a batch."""
        student, teacher = self.networks
        with torch.no_grad():
            taught = teacher(batch.images, batch)
        output = student(batch.images, batch)
        assert isinstance(output, Detected) and isinstance(taught, Detected)
        return output, taught


class DetectorDistillerContract(LossContract):
    """The requirements for every distiller of detectors.

    Attributes:
        flips: see `DistillerContract`.
        changing: see `DistillerContract`.
    """

    def case(self, name: str, options: Options) -> DetectorCase:
        """Return a distiller with the outputs of two detectors on one batch, the same at every call."""
        return DetectorCase(name, options)

    def test_losses_are_finite_scalars_with_a_gradient_on_the_student(self, name: str) -> None:
        """Each loss is a finite scalar with a gradient on the student; a distiller has losses only if it has needs."""
        case = self.case(name, self.options_of(name))
        losses = case.losses()
        assert bool(losses) == bool(case.distiller.needs)
        for loss in losses.values():
            assert loss.shape == () and torch.isfinite(loss)
            gradients = torch.autograd.grad(loss, case.parts(), retain_graph=True, allow_unused=True)
            assert any(gradient is not None and bool(gradient.abs().sum() > 0) for gradient in gradients)

    def test_the_padding_has_no_effect(self, name: str) -> None:
        """The losses are the same with other numbers in the padding of all maps, and these have no gradient."""
        case = self.case(name, self.options_of(name))
        assert case.distiller.masks, "set masks = True, or leave the distiller to images of one size"
        wanted = case.losses()
        again = self.case(name, self.options_of(name))
        again.student, again.teacher = (other_padding(output) for output in (again.student, again.teacher))
        found = again.losses()
        assert all(torch.allclose(found[key], wanted[key], rtol=1e-6) for key in wanted)
        for loss in found.values():
            gradients = torch.autograd.grad(loss, again.parts(), retain_graph=True, allow_unused=True)
            for map_, gradient in zip(again.parts(), gradients, strict=True):
                assert gradient is None or bool((gradient[padding_of(map_)] == 0).all())

    def test_a_batch_without_objects_has_finite_losses(self, name: str) -> None:
        """Images without any box give finite losses and gradients."""
        case = self.case(name, self.options_of(name))
        case.batch = Batch(
            case.batch.images, Boxes.padded([torch.zeros(0, 4)] * len(SIZES)), case.batch.indices, case.batch.sizes
        )
        for loss in case.losses().values():
            assert torch.isfinite(loss)
            gradients = torch.autograd.grad(loss, case.parts(), retain_graph=True, allow_unused=True)
            assert all(gradient is None or bool(torch.isfinite(gradient).all()) for gradient in gradients)

    def test_on_a_gpu_it_stays_there(self, name: str) -> None:
        """No loss mixes tensors of a GPU and of the CPU; it may wait for the GPU, because no graph holds a detector."""
        with pretended_gpu() as gpu:
            case = self.case(name, self.options_of(name))
            for module in (*case.networks, case.distiller):
                module.to("cuda")
            case.batch = on(case.batch, "cuda")
            case.student, case.teacher = case.outputs(case.batch)
            case.distiller.begin_epoch(1, torch.Generator().manual_seed(0))
            with gpu.step(capturable=False):
                losses = case.losses()
                if losses:
                    torch.stack(list(losses.values())).sum().backward()  # type: ignore[no-untyped-call]
            assert all(loss.is_cuda for loss in losses.values())

    @pytest.mark.parametrize("review", [None, REVIEW], ids=["alone", "reviewing"])
    def test_a_training_that_was_cut_off_goes_on_bit_for_bit(self, name: str, review: Options | None) -> None:
        """A training that is resumed after the second epoch ends with the same bits as an uninterrupted one."""
        check_resume([self._training(name, review) for _ in range(3)], reviews=review is not None)

    def _training(self, name: str, review: Options | None) -> Trainer:
        document = {
            **TINY,
            "student": {"name": SMALL},
            "teacher": TEACHER,
            "distiller": {"name": name, **self.options_of(name)},
            "review": review,
            "training": {"epochs": 3, "lr": 0.01},
        }
        torch.manual_seed(1)
        teacher = SmallDetector(CLASSES, width=6)
        return assemble(Experiment.read(document), small_detection(), teacher, torch.zeros(0, dtype=torch.long))  # type: ignore[arg-type]


def padding_of(maps: Tensor) -> Tensor:
    """Return ``[B, C, H, W]`` of bool: the padding of maps ``[B, C, H, W]`` of the batch."""
    from tskd_tune.method.padding import Padding

    inside = Padding(SIZES, SIDE, SIDE).inside((maps.shape[-2], maps.shape[-1]))
    return ~inside.unsqueeze(1).expand_as(maps)


def other_padding(output: Detected) -> Detected:
    """Return an output with other numbers in the padding of its features, which the box head does not read."""
    maps = {stage: map_.where(~padding_of(map_), 3.0) for stage, map_ in output.features.items()}
    return Detected(maps, output.preactivations, output.losses, output.proposals, output.detections, output.classify)
