"""What every registered network promises, whatever it is."""

from __future__ import annotations

import copy
import io
from itertools import pairwise
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from tskd_tune.networks import NETWORKS, Network, build

CLASSES = 7
CHANNELS = 2
SIZE = 8

# What a network must be told; small ones stand for the rest.
REQUIRED: dict[str, dict[str, Any]] = {"timm": {"model": "test_efficientnet"}, "torchvision": {"model": "resnet18"}}

every_network = pytest.mark.parametrize("name", NETWORKS.names())


def made(name: str, seed: int = 0) -> Network:
    if name == "timm":
        pytest.importorskip("timm")
    torch.manual_seed(seed)
    return build(name, classes=CLASSES, channels=CHANNELS, **REQUIRED.get(name, {}))


def images(batch: int = 3) -> torch.Tensor:
    return torch.randn(batch, CHANNELS, SIZE, SIZE, generator=torch.Generator().manual_seed(1))


@every_network
def test_outputs_and_gradients(name):
    network = made(name)
    output = network(images())

    assert output.logits.shape == (3, CLASSES)
    assert output.embedding.ndim == 2
    assert list(output.preactivations) in (list(output.features), [])
    assert len(output.features) >= 3
    tapped = [*output.features.values(), *output.preactivations.values()]
    assert all(tensor.ndim == 4 and len(tensor) == 3 for tensor in tapped)
    assert all(tensor.isfinite().all() for tensor in [output.logits, output.embedding, *tapped])
    sizes = [tensor.shape[-1] for tensor in output.features.values()]
    assert all(deeper <= shallow for shallow, deeper in pairwise(sizes))

    # In eval mode too: in training a bias right before a batch norm has no gradient but rounding.
    for logits in (output.logits, network.eval()(images()).logits):
        F.cross_entropy(logits, torch.tensor([0, 1, 2])).backward()
    for key, parameter in network.named_parameters():
        assert parameter.grad is not None, f"{key}: no gradient"
        assert parameter.grad.isfinite().all(), f"{key}: its gradient is not finite"
        assert parameter.grad.any(), f"{key}: its gradient is zero"


@every_network
def test_a_probe_finds_the_shapes_of_a_forward(name):
    network = made(name).eval()
    shapes, output = network.probe(CHANNELS, SIZE), network(images())
    assert shapes.logits == output.logits.shape[1:]
    assert shapes.embedding == output.embedding.shape[1:]
    assert shapes.features == {stage: map_.shape[1:] for stage, map_ in output.features.items()}
    assert shapes.preactivations == {stage: map_.shape[1:] for stage, map_ in output.preactivations.items()}


@every_network
def test_norms_belong_to_the_preactivations(name):
    network = made(name)
    shapes = network.probe(CHANNELS, SIZE)
    norms = network.stage_norms()
    assert norms.keys() <= shapes.preactivations.keys()
    for stage, norm in norms.items():
        assert norm.weight.shape == norm.bias.shape == (shapes.preactivations[stage][0],)


@every_network
def test_images_of_other_channels_are_refused(name):
    with pytest.raises(RuntimeError, match="channels"):
        made(name)(torch.zeros(2, CHANNELS + 1, SIZE, SIZE))


@every_network
def test_the_seed_fixes_the_weights(name):
    first, again, other = (made(name, seed).state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert any(not torch.equal(first[key], other[key]) for key in first)


@every_network
def test_a_state_goes_round_bit_for_bit(name):
    network, other = made(name), made(name, seed=1)
    network(images())  # So that the moving statistics are not those of a new network.
    file = io.BytesIO()
    torch.save(network.state_dict(), file)
    file.seek(0)
    other.load_state_dict(torch.load(file, weights_only=True))

    names = [key for key, _ in network.named_parameters(remove_duplicate=False)]
    assert len(names) == len(set(names)) == len(list(network.parameters()))
    state = other.state_dict()
    assert all(torch.equal(value, state[key]) for key, value in network.state_dict().items())
    assert torch.equal(network.eval()(images()).logits, other.eval()(images()).logits)


@every_network
def test_a_copy_is_a_network_of_its_own(name):
    network = made(name)
    copied = copy.deepcopy(network)
    assert torch.equal(network.eval()(images()).logits, copied.eval()(images()).logits)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    copied.train()(images())  # Which moves its batch norms.
    assert all(torch.equal(before[key], value) for key, value in network.state_dict().items())
    assert any(not torch.equal(before[key], value) for key, value in copied.state_dict().items())


@every_network
def test_what_is_tapped_does_not_feel_activations_in_place(name):
    network = made(name)
    careful = copy.deepcopy(network)
    for module in careful.modules():
        if hasattr(module, "inplace"):
            module.inplace = False
    torch.manual_seed(2)
    output = network(images())
    torch.manual_seed(2)
    expected = careful(images())
    for given, wanted in ((output.features, expected.features), (output.preactivations, expected.preactivations)):
        assert all(torch.equal(given[stage], wanted[stage]) for stage in given)
    assert torch.equal(output.embedding, expected.embedding)
    assert all((before < 0).any() for before in output.preactivations.values())


@every_network
def test_in_eval_mode_an_image_does_not_depend_on_its_batch(name):
    network = made(name).eval().double()
    batch = images().double()
    together, alone = network(batch), network(batch[:1])
    torch.testing.assert_close(together.logits[:1], alone.logits)
    state = network.state_dict()
    assert not any(value.any() for key, value in state.items() if key.endswith("num_batches_tracked"))
