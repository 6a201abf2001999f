"""The contract of detectors."""

from __future__ import annotations

import copy
from typing import ClassVar, cast

import torch
from torch import Tensor, nn

from tskd_tune.contracts import Batch, Boxes, Detected, Features
from tskd_tune.networks import NETWORKS, Network
from tskd_tune.testing.base import Contract, check_description
from tskd_tune.testing.pretended_gpu import pretended_gpu

LOSSES = {"classifier", "box", "objectness", "rpn_box"}


def on(batch: Batch[Boxes], device: str) -> Batch[Boxes]:
    """Return a batch of padded images on another device."""
    boxes, sizes = batch.targets, batch.sizes
    assert sizes is not None
    targets = Boxes(*(one.to(device) for one in (boxes.corners, boxes.labels, boxes.crowd, boxes.counts)))
    return Batch(batch.images.to(device), targets, batch.indices.to(device), sizes.to(device))


class DetectorContract(Contract):
    """The requirements for every detector: a network that is given the batch, and whose output is `Detected`.

    Attributes:
        outputs: the number of classes of the detector under test.
        size: the height and width of the padded images, in pixels.
    """

    outputs: ClassVar[int] = 3
    size: ClassVar[int] = 64

    def made(self, name: str, seed: int = 0) -> Network[Detected]:
        """Return the detector with the weights of a seed."""
        torch.manual_seed(seed)
        network: object = NETWORKS.build(name, self.outputs, 3, **self.options_of(name))
        return cast("Network[Detected]", network)

    def batch(self) -> Batch[Boxes]:
        """Return two images, the same at every call: of other sizes, one with two boxes and a crowd, one without."""
        images = torch.randn(2, 3, self.size, self.size, generator=torch.Generator().manual_seed(1))
        half, whole = self.size / 2, float(self.size)
        some = torch.tensor([[4, 4, half, half], [half, 8, whole, half], [0, half, half, whole]])
        boxes = Boxes.padded(
            [some, torch.empty(0, 4)],
            [torch.tensor([0, 2, 1]), torch.empty(0, dtype=torch.long)],
            crowd=[torch.tensor([False, False, True]), torch.empty(0, dtype=torch.bool)],
        )
        return Batch(images, boxes, torch.arange(2), torch.tensor([[self.size] * 2, [self.size, self.size // 2]]))

    def output(self, network: Network[Detected], batch: Batch[Boxes]) -> Detected:
        """Return the output for a batch, with what is drawn from torch's default generator seeded."""
        torch.manual_seed(3)
        found = network(batch.images, batch)
        assert isinstance(found, Detected)
        return found

    def test_it_declares_what_a_detector_is(self, name: str) -> None:
        """It takes the batch, can end at its last tap, and no graph can hold it."""
        network = self.made(name)
        assert network.takes_batch and network.cuttable and not network.capturable
        assert network.probe(3, self.size).boxes

    def test_it_learns_from_the_boxes_of_a_batch(self, name: str) -> None:
        """In train mode it has losses, which give each trained parameter a finite gradient, and no detections."""
        network, batch = self.made(name), self.batch()
        output = self.output(network, batch)
        assert set(output.losses) == LOSSES
        assert all(loss.ndim == 0 and bool(loss.isfinite()) for loss in output.losses.values())
        assert output.detections.corners.shape == (2, 0, 4)
        torch.stack(list(output.losses.values())).sum().backward()  # type: ignore[no-untyped-call]
        for key, parameter in network.named_parameters():
            assert parameter.grad is not None and bool(parameter.grad.isfinite().all()), f"{key}: no finite gradient"

    def test_a_batch_without_boxes_trains(self, name: str) -> None:
        """All losses are finite where no image has a box, and boxes are then not learned."""
        batch = self.batch()
        none = Boxes.padded([torch.empty(0, 4)] * 2)
        output = self.output(self.made(name), Batch(batch.images, none, batch.indices, batch.sizes))
        assert all(bool(loss.isfinite()) for loss in output.losses.values())
        assert not bool(output.losses["box"]) and not bool(output.losses["rpn_box"])

    def test_crowds_are_no_targets(self, name: str) -> None:
        """The losses are the same without the crowd."""
        batch, network = self.batch(), self.made(name)
        whole = batch.targets
        fewer = Boxes(whole.corners[:, :2], whole.labels[:, :2], whole.crowd[:, :2], whole.counts.clamp(max=2))
        expected = self.output(network, Batch(batch.images, fewer, batch.indices, batch.sizes)).losses
        found = self.output(self.made(name), batch).losses
        assert all(torch.equal(found[loss], expected[loss]) for loss in LOSSES)

    def test_it_detects_in_eval_mode(self, name: str) -> None:
        """Detections lie within the true size of their image, have a class each and fall in score; no loss is there."""
        network, batch = self.made(name), self.batch()
        for part in network.modules():
            if isinstance(part, nn.BatchNorm2d):
                part.momentum = 1.0
        self.output(network, batch)  # the values of a deep network without statistics are too large
        output = self.output(network.eval(), batch)
        found = output.detections
        assert output.losses == {} and found.scores is not None and bool(found.counts.any())
        assert bool((found.labels[found.valid] >= 0).all()) and bool((found.labels < self.outputs).all())
        assert bool((found.labels[~found.valid] == -1).all()) and bool((found.corners[~found.valid] == 0).all())
        assert batch.sizes is not None
        limits = batch.sizes.flip(1).repeat(1, 2)[:, None]
        assert bool((found.corners <= limits).all()) and bool((found.corners >= 0).all())
        assert bool((found.scores.diff(dim=1) <= 0).all())
        assert not found.corners.requires_grad and not found.scores.requires_grad

    def test_on_a_gpu_it_stays_there(self, name: str) -> None:
        """No operation mixes tensors of a GPU and of the CPU, in training and in evaluation."""
        with pretended_gpu() as gpu:
            network, batch = self.made(name).to("cuda"), on(self.batch(), "cuda")
            for trains in (True, False):
                network.train(trains)
                with gpu.step(network.capturable), torch.set_grad_enabled(trains):
                    output = self.output(network, batch)
                    total = sum(output.losses.values(), output.classify(output.proposals).square().mean())
                    if trains:
                        total.backward()  # type: ignore[no-untyped-call]
                    found = [*output.features.values(), output.detections.corners, output.proposals.corners]
                assert all(one.is_cuda for one in found)

    def test_it_classifies_boxes_with_gradient(self, name: str) -> None:
        """Class logits of boxes have a row each, and their gradient reaches the backbone, in both modes."""
        network, batch = self.made(name), self.batch()
        for mode in (True, False):
            output = self.output(network.train(mode), batch)
            for boxes in (batch.targets, output.proposals):
                logits = output.classify(boxes)
                assert logits.shape == (int(boxes.counts.sum()), self.outputs + 1)
                (gradient,) = torch.autograd.grad(logits.sum(), output.features["stage4"], retain_graph=True)
                assert bool(gradient.any())
            assert not output.proposals.corners.requires_grad
            assert not output.detached().classify(batch.targets).requires_grad

    def test_what_is_known_of_drawn_regions_is_their_classification(self, name: str) -> None:
        """In train mode the logits of the proposals are the same, computed anew."""
        output = self.output(self.made(name), self.batch())
        again = copy.copy(output.proposals)
        torch.testing.assert_close(output.classify(output.proposals), output.classify(again))

    def test_it_ends_at_its_last_tap(self, name: str) -> None:
        """Without its heads it gives the same features, bit for bit."""
        network, batch = self.made(name).eval(), self.batch()
        whole, cut = self.output(network, batch), network(batch.images, batch, heads=False)
        assert isinstance(cut, Features)
        assert list(cut.features) == list(whole.features)
        assert all(torch.equal(cut.features[stage], whole.features[stage]) for stage in whole.features)

    def test_the_seed_fixes_weights_and_regions(self, name: str) -> None:
        """The same seeds give the same losses, and another seed of the regions gives others."""
        first, again = (self.output(self.made(name), self.batch()).losses for _ in range(2))
        assert all(torch.equal(first[loss], again[loss]) for loss in LOSSES)
        network, batch = self.made(name), self.batch()
        torch.manual_seed(4)
        assert any(not torch.equal(network(batch.images, batch).losses[loss], first[loss]) for loss in LOSSES)

    def test_a_copy_detects_the_same(self, name: str) -> None:
        """A deep copy that was made after a forward gives the same detections and shares no tensor."""
        network, batch = self.made(name), self.batch()
        self.output(network, batch)
        copied = copy.deepcopy(network).eval()
        expected = self.output(network.eval(), batch).detections.corners
        with torch.no_grad():
            for value in network.parameters():
                value.zero_()
        assert torch.equal(self.output(copied, batch).detections.corners, expected)

    def test_padding_changes_no_image_without_padding(self, name: str) -> None:
        """An image as large as its batch gives the same proposals alone."""
        network, batch = self.made(name).eval().double(), self.batch()
        images = batch.images.double()
        together = network(images, Batch(images, batch.targets, batch.indices, batch.sizes)).proposals
        alone = network(images[:1]).proposals
        rows: Tensor = together.corners[:1, : int(together.counts[0])]
        torch.testing.assert_close(rows, alone.corners)

    def test_it_is_described(self, name: str) -> None:
        """The detector and its options have descriptions."""
        check_description(NETWORKS, name)
