"""SoTeacher: the bound of the layers, the mean of the past, and the weight of agreeing with it."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tskd_tune.contracts import Batch, Classified, Shapes
from tskd_tune.errors import InputError
from tskd_tune.teaching import TEACHER_METHODS, Setting, TeacherMethod

CLASSES, SAMPLES, EPOCHS = 4, 10, 8


class Small(nn.Module):
    """Every kind of layer that counts, one that does not, and a batch norm without weights."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 5, 3)
        self.inner = nn.Sequential(nn.BatchNorm2d(5, eps=0.1), nn.PReLU(), nn.Conv2d(5, 2, 1))
        self.bare = nn.BatchNorm2d(2, affine=False)
        self.fc = nn.Linear(2, CLASSES)


def network() -> Small:
    torch.manual_seed(0)
    made = Small().double()
    norm = made.inner[0]
    nn.init.normal_(norm.weight)
    norm.running_var.copy_(torch.rand(5) + 0.1)
    return made


def method(of: nn.Module, **options: Any) -> TeacherMethod:
    shapes = Shapes((CLASSES,), {}, {}, (2,))
    setting = Setting(of, shapes, shapes, lambda stage: nn.Identity(), CLASSES, SAMPLES, EPOCHS)
    return TEACHER_METHODS.build("soteacher", setting, **options)


def said(logits: Tensor) -> Classified:
    return Classified(logits, {}, {}, logits)


def batch(*indices: int) -> Batch:
    where = torch.tensor(indices)
    return Batch(torch.zeros(len(where), 3, 8, 8), where % CLASSES, where)


def softmax(logits: Tensor) -> Tensor:
    return logits.exp() / logits.exp().sum(1, keepdim=True)


def test_the_bound_adds_up_the_layers() -> None:
    made = network()
    norm = made.inner[0]
    expected = sum(abs(w) for conv in (made.conv, made.inner[2]) for w in conv.weight.flatten().tolist())
    pairs = zip(norm.weight.tolist(), norm.running_var.tolist(), strict=True)
    ratios = [abs(w) / math.sqrt(v + 0.1) for w, v in pairs]
    columns = [sum(abs(row[column]) for row in made.fc.weight.tolist()) for column in range(2)]
    expected += max(ratios) + max(columns)
    losses = method(made, lipschitz=0.01)(said(torch.zeros(2, CLASSES).double()), None, batch(0, 1))
    assert losses.keys() == {"lipschitz"}
    assert float(losses["lipschitz"].detach()) == pytest.approx(0.01 * expected, rel=1e-12)

    losses["lipschitz"].backward()
    torch.testing.assert_close(made.conv.weight.grad, 0.01 * made.conv.weight.sign())
    assert made.fc.weight.grad is not None and norm.weight.grad is not None
    largest = columns.index(max(columns))
    expected_columns = torch.zeros_like(made.fc.weight)
    expected_columns[:, largest] = 0.01 * made.fc.weight[:, largest].sign()
    torch.testing.assert_close(made.fc.weight.grad, expected_columns)
    assert (norm.weight.grad != 0).tolist() == [ratio == max(ratios) for ratio in ratios]
    assert all(parameter.grad is None for parameter in (made.conv.bias, made.fc.bias, made.inner[1].weight))


def test_the_mean_is_that_of_all_past_outputs_of_each_sample() -> None:
    teacher = method(network()).double()
    stream = torch.Generator().manual_seed(0)
    outputs: list[Tensor] = []
    for epoch in range(EPOCHS):
        teacher.begin_epoch(epoch, stream)
        logits = torch.randn(SAMPLES, CLASSES, generator=stream, dtype=torch.float64)
        outputs.append(softmax(logits))
        order = torch.randperm(SAMPLES, generator=stream)
        for part in (order[:7], order[7:]):
            losses = teacher(said(logits[part]), None, batch(*part.tolist()))
            assert ("consistency" in losses) == (epoch > 0)
            if epoch > 0:
                past = torch.stack(outputs[:-1]).mean(0)[part]
                gap = ((softmax(logits[part]) - past) ** 2).sum() / len(part)
                torch.testing.assert_close(losses["consistency"], (epoch + 1) / EPOCHS * gap)
        torch.testing.assert_close(teacher.average, torch.stack(outputs).mean(0))


def test_means_in_half_precision_are_those_in_single_precision_to_three_digits() -> None:
    both = [method(network(), average_precision=precision) for precision in ("float32", "float16")]
    stream = torch.Generator().manual_seed(0)
    for epoch in range(EPOCHS):
        logits = torch.randn(SAMPLES, CLASSES, generator=stream)
        for teacher in both:
            teacher.begin_epoch(epoch, stream)
        whole, half = (teacher(said(logits), None, batch(*range(SAMPLES))) for teacher in both)
        if epoch:
            assert half["consistency"].dtype == torch.float32
            torch.testing.assert_close(half["consistency"], whole["consistency"], rtol=2e-3, atol=0)
    assert both[1].average.dtype == torch.float16
    torch.testing.assert_close(both[1].average.float(), both[0].average, rtol=2e-3, atol=0)
    assert not torch.equal(both[1].average.float(), both[0].average)


def test_the_consistency_trains_todays_logits() -> None:
    teacher = method(network(), consistency=2.0, schedule="constant").double()
    first, second = (torch.randn(3, CLASSES, dtype=torch.float64).requires_grad_() for _ in range(2))
    teacher(said(first), None, batch(4, 5, 6))
    teacher.begin_epoch(1, torch.Generator())
    loss = teacher(said(second), None, batch(4, 5, 6))["consistency"]
    expected = 2 * ((softmax(second) - softmax(first).detach()) ** 2).sum() / 3
    torch.testing.assert_close(loss, expected)
    found, wanted = (torch.autograd.grad(value, [second], retain_graph=True)[0] for value in (loss, expected))
    torch.testing.assert_close(found, wanted)
    assert torch.autograd.grad(loss, [first], allow_unused=True) == (None,)
    assert not teacher.average.requires_grad


def test_the_weight_rises_to_its_own_by_the_last_epoch() -> None:
    quarter = math.pi / 2
    wanted = {
        "linear": [0.5 * (epoch + 1) / EPOCHS for epoch in range(EPOCHS)],
        "cosine": [0.5 * math.cos((1 - (epoch + 1) / EPOCHS) * quarter) for epoch in range(EPOCHS)],
        "constant": [0.5] * EPOCHS,
    }
    for schedule, weights in wanted.items():
        teacher = method(network(), consistency=0.5, schedule=schedule)
        found = []
        for epoch in range(EPOCHS):
            teacher.begin_epoch(epoch, torch.Generator())
            found.append(float(teacher.weight))
        assert found == pytest.approx(weights), schedule
        assert found[-1] == pytest.approx(0.5)


def test_a_schedule_of_nothing_is_refused() -> None:
    with pytest.raises(InputError, match="method.schedule: has no effect when consistency is 0"):
        method(network(), consistency=0.0, schedule="cosine")
    assert method(network(), consistency=0.0)


def test_the_teacher_is_no_part_of_its_method() -> None:
    teacher = method(network())
    assert list(teacher.parameters()) == [] and list(teacher.state_dict()) == ["average"]
