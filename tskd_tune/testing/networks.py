"""The contract of networks."""

from __future__ import annotations

import copy
import io
from itertools import pairwise
from typing import ClassVar

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tskd_tune.contracts import Features
from tskd_tune.method.folding import FoldedNetwork
from tskd_tune.networks import NETWORKS, Network
from tskd_tune.testing.base import Contract, check_description
from tskd_tune.testing.pretended_gpu import pretended_gpu
from tskd_tune.testing.tape import stands_for_all


class NetworkContract(Contract):
    """The requirements for every network.

    Attributes:
        classes: the number of classes of the network under test.
        channels: the number of channels of the images.
        size: the height and width of the images, in pixels.
    """

    classes: ClassVar[int] = 7
    channels: ClassVar[int] = 2
    size: ClassVar[int] = 8

    def made(self, name: str, seed: int = 0) -> Network:
        """Return the network with the weights of a seed."""
        torch.manual_seed(seed)
        return NETWORKS.build(name, self.classes, self.channels, **self.options_of(name))

    def images(self, batch: int = 3) -> Tensor:
        """Return random images, the same at every call."""
        shape = (batch, self.channels, self.size, self.size)
        return torch.randn(shape, generator=torch.Generator().manual_seed(1))

    def test_outputs_have_their_shapes(self, name: str) -> None:
        """The outputs are logits, an embedding, and at least three stages from shallow to deep, all finite."""
        output = self.made(name)(self.images())
        assert output.logits.shape == (3, self.classes)
        assert output.embedding.ndim == 2
        assert list(output.preactivations) in (list(output.features), [])
        assert len(output.features) >= 3
        tapped = [*output.features.values(), *output.preactivations.values()]
        assert all(tensor.ndim == 4 and len(tensor) == 3 for tensor in tapped)
        assert all(bool(tensor.isfinite().all()) for tensor in [output.logits, output.embedding, *tapped])
        sizes = [tensor.shape[-1] for tensor in output.features.values()]
        assert all(deeper <= shallow for shallow, deeper in pairwise(sizes))

    def test_every_parameter_is_trained(self, name: str) -> None:
        """Each parameter has a finite, nonzero gradient."""
        network = self.made(name)
        # Also in eval mode, because in training a bias right before a batch norm has only rounding as its gradient.
        for logits in (network(self.images()).logits, network.eval()(self.images()).logits):
            F.cross_entropy(logits, torch.tensor([0, 1, 2])).backward()  # type: ignore[no-untyped-call]
        for key, parameter in network.named_parameters():
            assert parameter.grad is not None, f"{key}: no gradient"
            assert bool(parameter.grad.isfinite().all()), f"{key}: its gradient is not finite"
            assert bool(parameter.grad.any()), f"{key}: its gradient is zero"

    def test_the_memory_format_changes_rounding_alone(self, name: str) -> None:
        """In float64 outputs and gradients are those that they are with the channels of images first in memory."""
        first = self.made(name).double()
        for module in first.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0  # in another memory format its masks fall on other values
        last = copy.deepcopy(first).to(memory_format=torch.channels_last)
        images = self.images(16).double()  # so many that no batch norm divides by a variance of nearly zero
        outputs = [first(images), last(images.contiguous(memory_format=torch.channels_last))]
        for output in outputs:
            F.cross_entropy(output.logits, torch.arange(16) % self.classes).backward()  # type: ignore[no-untyped-call]
        wanted, found = ({"embedding": output.embedding, **output.features} for output in outputs)
        wanted, found = (
            {**of, **{key: parameter.grad for key, parameter in network.named_parameters()}}
            for of, network in ((wanted, first), (found, last))
        )
        for key, value in wanted.items():
            assert (found[key] - value).norm() <= 1e-8 * value.norm() + 1e-12, key

    def test_a_probe_finds_the_shapes_of_a_forward(self, name: str) -> None:
        """The dry forward pass gives the same shapes as a real forward pass."""
        network = self.made(name).eval()
        shapes, output = network.probe(self.channels, self.size), network(self.images())
        assert shapes.logits == output.logits.shape[1:]
        assert shapes.embedding == output.embedding.shape[1:]
        assert shapes.features == {stage: map_.shape[1:] for stage, map_ in output.features.items()}
        assert shapes.preactivations == {stage: map_.shape[1:] for stage, map_ in output.preactivations.items()}

    def test_norms_belong_to_the_preactivations(self, name: str) -> None:
        """Each batch norm belongs to a stage with pre-activations, and has the same number of channels."""
        network = self.made(name)
        shapes = network.probe(self.channels, self.size)
        norms = network.stage_norms()
        assert norms.keys() <= shapes.preactivations.keys()
        for stage, norm in norms.items():
            assert norm.weight.shape == norm.bias.shape == (shapes.preactivations[stage][0],)

    def test_images_of_other_channels_are_refused(self, name: str) -> None:
        """A network refuses images with another number of channels."""
        with pytest.raises(RuntimeError, match="channels"):
            self.made(name)(torch.zeros(2, self.channels + 1, self.size, self.size))

    def test_the_seed_fixes_the_weights(self, name: str) -> None:
        """The same seed gives the same weights, and another seed gives other weights."""
        first, again, other = (self.made(name, seed).state_dict() for seed in (0, 0, 1))
        assert all(torch.equal(first[key], again[key]) for key in first)
        assert any(not torch.equal(first[key], other[key]) for key in first)

    def test_a_state_goes_round_bit_for_bit(self, name: str) -> None:
        """A state that was saved and loaded gives the same logits."""
        network, other = self.made(name), self.made(name, seed=1)
        network(self.images())  # so that the moving statistics differ from those of a new network
        file = io.BytesIO()
        torch.save(network.state_dict(), file)
        file.seek(0)
        other.load_state_dict(torch.load(file, weights_only=True))
        names = [key for key, _ in network.named_parameters(remove_duplicate=False)]
        assert len(names) == len(set(names)) == len(list(network.parameters()))
        state = other.state_dict()
        assert all(torch.equal(value, state[key]) for key, value in network.state_dict().items())
        images = self.images()
        assert torch.equal(network.eval()(images).logits, other.eval()(images).logits)

    def test_a_copy_is_a_network_of_its_own(self, name: str) -> None:
        """A deep copy computes the same and shares no tensor; snapshots of a student need this."""
        network = self.made(name)
        copied = copy.deepcopy(network)
        images = self.images()
        assert torch.equal(network.eval()(images).logits, copied.eval()(images).logits)
        before = {key: value.clone() for key, value in network.state_dict().items()}
        with torch.no_grad():
            for value in copied.state_dict().values():
                value.zero_()
        assert all(torch.equal(before[key], value) for key, value in network.state_dict().items())

    def test_what_is_tapped_does_not_feel_activations_in_place(self, name: str) -> None:
        """Features and pre-activations are the same as without in-place operations."""
        network = self.made(name)
        careful = copy.deepcopy(network)
        for module in careful.modules():
            if hasattr(module, "inplace"):
                setattr(module, "inplace", False)  # noqa: B010 (torch has no common type with this attribute)
        torch.manual_seed(2)
        output = network(self.images())
        torch.manual_seed(2)
        expected = careful(self.images())
        for given, wanted in ((output.features, expected.features), (output.preactivations, expected.preactivations)):
            assert all(torch.equal(given[stage], wanted[stage]) for stage in given)
        assert torch.equal(output.embedding, expected.embedding)
        assert all(bool((before < 0).any()) for before in output.preactivations.values())

    def test_in_eval_mode_an_image_does_not_depend_on_its_batch(self, name: str) -> None:
        """The logits of an image are the same alone and in a batch, and no running statistic changes."""
        network = self.made(name).eval().double()
        batch = self.images().double()
        together, alone = network(batch), network(batch[:1])
        torch.testing.assert_close(together.logits[:1], alone.logits)
        state = network.state_dict()
        assert not any(bool(value.any()) for key, value in state.items() if key.endswith("num_batches_tracked"))

    def test_a_captured_step_stands_for_all_steps(self, name: str) -> None:
        """The operations of one forward pass, replayed, give the logits of other images, unless it says otherwise."""
        network = self.made(name).eval()
        if not network.capturable:
            pytest.skip("the network says that it cannot be captured")
        assert stands_for_all(lambda images: network(images).logits, torch.zeros_like(self.images()), self.images())

    def test_on_a_gpu_it_stays_there_and_waits_for_nothing(self, name: str) -> None:
        """No operation mixes tensors of a GPU and of the CPU, or waits for the GPU, unless ``capturable`` is False."""
        with pretended_gpu() as gpu:
            network, images = self.made(name).train().to("cuda"), self.images().to("cuda")
            with gpu.step(getattr(network, "capturable", True)):
                output = network(images)
                output.logits.square().mean().backward()
            assert all(found.is_cuda for found in (output.logits, *output.features.values()))

    def test_it_ends_at_its_last_tap(self, name: str) -> None:
        """A network that says that it is ``cuttable`` gives the same features without its heads; see `check_cut`."""
        network = self.made(name).eval()
        if not network.cuttable:
            pytest.skip("it always computes its heads")
        check_cut(network, self.images())

    def test_folded_it_gives_the_same_features(self, name: str) -> None:
        """Folded into the convolutions, batch norms give the same features; a network that torch cannot trace is not.

        Reviews compute frozen networks so.
        """
        network = self.made(name).double()
        images = self.images(batch=8).double()
        network(images)  # so that the running statistics differ from those of a new network
        output = network.eval()(images)
        for point, wanted in (("post", output.features), ("pre", output.preactivations)):
            folded = FoldedNetwork.of(network, dict.fromkeys(wanted, point), images)
            if folded is None:
                pytest.skip("torch cannot trace it, or it has layers that are not folded")
            found = folded(images)
            for stage, map_ in (found.features if point == "post" else found.preactivations).items():
                torch.testing.assert_close(map_, wanted[stage].detach())

    def test_it_is_described(self, name: str) -> None:
        """The network and its options have descriptions."""
        check_description(NETWORKS, name)


def check_cut(network: Network, images: Tensor) -> None:
    """Check ``heads=False`` of a network in eval mode.

    The tapped maps have the bits of a whole forward, every module that runs contributes to a tapped map, and some
    modules, those of the heads, do not run.
    """
    ran: list[nn.Module] = []
    handles = [
        module.register_forward_hook(lambda module, images, output: ran.append(module))
        for module in network.modules()
        if not list(module.children())
    ]
    whole, all_ran = network(images), set(ran)
    ran.clear()
    cut = network(images, heads=False)
    for handle in handles:
        handle.remove()
    assert isinstance(cut, Features)
    for given, wanted in ((cut.features, whole.features), (cut.preactivations, whole.preactivations)):
        assert list(given) == list(wanted)
        assert all(torch.equal(given[stage], wanted[stage]) for stage in wanted)
    assert not any(map_.requires_grad for map_ in cut.detached().features.values())
    assert set(ran) < all_ran
    torch.autograd.backward([map_.sum() for map_ in (*cut.features.values(), *cut.preactivations.values())])
    unused = [module for module in ran for parameter in module.parameters() if parameter.grad is None]
    assert not unused, f"computed, though no tapped map needs it: {unused}"
