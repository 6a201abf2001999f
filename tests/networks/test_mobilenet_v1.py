from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tskd_tune.contracts import Classified
from tskd_tune.networks import NETWORKS, build
from tskd_tune.networks.weights import load_into

# Table 1 of Howard et al.: channels and stride of each depthwise separable block after the convolution of 32 channels.
TABLE = [(64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5, (1024, 2), (1024, 1)]


def reference(state: Mapping[str, Tensor], images: Tensor) -> tuple[Tensor, list[Tensor]]:
    """The network in training mode, written out by the names of the public code; logits, and every block's end."""

    def norm(x: Tensor, name: str) -> Tensor:
        mean, variance = x.mean((0, 2, 3), keepdim=True), x.var((0, 2, 3), correction=0, keepdim=True)
        scale, shift = (state[f"{name}.{part}"].view(1, -1, 1, 1) for part in ("weight", "bias"))
        return (x - mean) / (variance + 1e-5).sqrt() * scale + shift

    maps = norm(F.conv2d(images, state["model.0.0.weight"], stride=2, padding=1), "model.0.1")
    ends = [maps]
    for number, (_, stride) in enumerate(TABLE, start=1):
        x = F.relu(maps)
        depthwise = F.conv2d(x, state[f"model.{number}.0.weight"], stride=stride, padding=1, groups=x.shape[1])
        inner = F.relu(norm(depthwise, f"model.{number}.1"))
        maps = norm(F.conv2d(inner, state[f"model.{number}.3.weight"]), f"model.{number}.4")
        ends.append(maps)
    return F.linear(F.relu(maps).mean((2, 3)), state["fc.weight"], state["fc.bias"]), ends


def test_it_is_the_published_network() -> None:
    torch.manual_seed(1)
    network = build("mobilenet_v1", classes=7).double()
    images = torch.randn(3, 3, 40, 40, dtype=torch.float64)
    output = network(images)
    assert isinstance(output, Classified)
    logits, ends = reference(network.state_dict(), images)
    torch.testing.assert_close(output.logits, logits)
    for stage, place in {"stem": 0, "stage1": 3, "stage2": 5, "stage3": 11, "stage4": 13}.items():
        torch.testing.assert_close(output.preactivations[stage], ends[place])
        assert torch.equal(output.features[stage], F.relu(output.preactivations[stage]))


def test_it_has_the_published_number_of_parameters() -> None:
    network = build("mobilenet_v1", classes=1000)
    count = 27 * 32 + 2 * 32 + 1024 * 1000 + 1000
    inputs = 32
    for outputs, _ in TABLE:
        count += 9 * inputs + 2 * inputs + inputs * outputs + 2 * outputs
        inputs = outputs
    assert sum(parameter.numel() for parameter in network.parameters()) == count == 4_231_976


@pytest.mark.parametrize("size", [64, 224])
def test_its_stages_have_the_sizes_of_a_resnet(size: int) -> None:
    mine = build("mobilenet_v1", classes=5).probe(3, size).features
    theirs = NETWORKS.build("torchvision", 5, model="resnet50").probe(3, size).features
    assert {stage: shape[1:] for stage, shape in mine.items()} == {stage: shape[1:] for stage, shape in theirs.items()}
    assert [shape[1] for shape in mine.values()] == [size // 2, size // 4, size // 8, size // 16, size // 32]
    assert [shape[0] for shape in mine.values()] == [32, 128, 256, 512, 1024]


def test_a_checkpoint_of_the_public_code_loads(tmp_path: Path) -> None:
    def layers(inputs: int, outputs: int, kernel: int, **options: Any) -> list[nn.Module]:
        convolution = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False, **options)
        return [convolution, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)]

    blocks, inputs = [nn.Sequential(*layers(3, 32, 3, stride=2))], 32
    for outputs, stride in TABLE:
        first = layers(inputs, inputs, 3, stride=stride, groups=inputs)
        blocks.append(nn.Sequential(*first, *layers(inputs, outputs, 1)))
        inputs = outputs
    theirs = nn.Module()
    theirs.model, theirs.fc = nn.Sequential(*blocks, nn.AvgPool2d(7)), nn.Linear(1024, 4)
    torch.save({"model": {f"module.{key}": value for key, value in theirs.state_dict().items()}}, tmp_path / "best")
    network = build("mobilenet_v1", classes=4)
    load_into(network, tmp_path / "best", name="mobilenet_v1")
    images = torch.randn(2, 3, 224, 224)
    expected = theirs.fc(theirs.model.eval()(images).flatten(1))
    torch.testing.assert_close(network.eval()(images).logits, expected)
