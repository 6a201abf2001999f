"""SP against its formula, written out in float64, in value and gradient."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tskd_tune import distillers
from tskd_tune.contracts import Batch, Classified, Probe, Shapes
from tskd_tune.errors import InputError

BATCH = Batch(torch.zeros(4, 1, 1, 1), torch.zeros(4, dtype=torch.long), torch.arange(4))


def output(seed: int, channels: int = 2, size: int = 3, samples: int = 4, last: str = "stage3") -> Classified:
    source = torch.Generator().manual_seed(seed)

    def drawn(side: int) -> Tensor:
        shape = samples, channels, side, side
        return torch.randn(shape, generator=source, dtype=torch.float64).requires_grad_()

    features = {"stem": drawn(size + 1), "stage1": drawn(size + 1), last: drawn(size)}
    return Classified(drawn(1), features, {}, drawn(1))


def loss_of(student: Classified, teacher: Classified, **options: float) -> Tensor:
    probe = Probe(Shapes.of(student), Shapes.of(teacher), 2, BATCH.targets)
    return distillers.build("sp", probe, **options)(student, teacher, BATCH)["sp"]


def with_last(given: Classified, features: Tensor) -> Classified:
    return Classified(given.logits, {**given.features, list(given.features)[-1]: features}, {}, given.embedding)


def row(features: Tensor, i: int) -> list[Tensor]:
    products = [(features[i] * other).sum() for other in features]
    length = sum(product**2 for product in products) ** 0.5
    return [product / length for product in products]


def test_it_is_the_gap_of_normalized_similarities_of_the_last_stages() -> None:
    # Other channels, another size and another name of the last stage.
    student, teacher = output(0), output(1, channels=3, size=5, last="stage4")
    loss = loss_of(student, teacher, weight=7.0)
    given, wanted = student.features["stage3"], teacher.features["stage4"].detach()
    gaps = [a - b for i in range(4) for a, b in zip(row(given, i), row(wanted, i), strict=True)]
    expected = 7.0 * sum(gap**2 for gap in gaps) / 4**2
    assert isinstance(expected, Tensor)
    torch.testing.assert_close(loss, expected, rtol=1e-12, atol=0)
    found, wanted_gradient = torch.autograd.grad(loss, given)[0], torch.autograd.grad(expected, given)[0]
    torch.testing.assert_close(found, wanted_gradient, rtol=1e-9, atol=1e-14)


def test_its_weight_is_repdistillers_unless_set() -> None:
    student, teacher = output(0), output(1)
    torch.testing.assert_close(loss_of(student, teacher), 3000 * loss_of(student, teacher, weight=1.0))


def test_it_vanishes_with_its_gradient_where_the_features_are_equal() -> None:
    student = output(0)
    loss = loss_of(student, output(0))
    assert float(loss.detach()) == 0.0
    assert float(torch.autograd.grad(loss, student.features["stage3"])[0].abs().max()) == 0.0
    assert float(loss_of(student, output(1)).detach()) > 1.0


def test_the_scale_of_all_features_does_not_matter_but_that_of_one_sample_does() -> None:
    student, teacher = output(0), output(1)
    plain, features = loss_of(student, teacher), student.features["stage3"]
    scaled = with_last(student, features * 50)
    torch.testing.assert_close(loss_of(scaled, teacher), plain, rtol=1e-12, atol=0)
    one = with_last(student, features * torch.tensor([3.0, 1, 1, 1]).view(4, 1, 1, 1))
    assert not torch.allclose(loss_of(one, teacher), plain, rtol=0.01)


def test_dead_features_and_a_batch_of_one_are_finite() -> None:
    student, teacher = output(0), output(1)
    dead = torch.zeros(4, 2, 3, 3, dtype=torch.float64, requires_grad=True)
    loss = loss_of(with_last(student, dead), teacher)
    assert loss.isfinite() and torch.autograd.grad(loss, dead)[0].isfinite().all()
    alone = output(0, samples=1)
    loss = loss_of(alone, output(1, samples=1))
    assert float(loss.detach()) == 0.0
    assert float(torch.autograd.grad(loss, alone.features["stage3"])[0].abs().max()) < 1e-9


def test_it_is_computed_in_float32_under_autocast() -> None:
    student, teacher = output(0), output(1)
    half = [with_last(each, each.features["stage3"].bfloat16()) for each in (student, teacher)]
    whole = [with_last(each, each.features["stage3"].float()) for each in half]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = loss_of(half[0], half[1])
    assert loss.dtype == torch.float32 and torch.equal(loss, loss_of(whole[0], whole[1]))


@pytest.mark.parametrize(("student", "teacher", "who"), [(False, True, "student"), (True, False, "teacher")])
def test_a_network_without_stages_is_refused(student: bool, teacher: bool, who: str) -> None:
    whole = Shapes.of(output(0))
    bare = Shapes(whole.logits, {"stem": whole.features["stem"]}, {}, whole.embedding)
    probe = Probe(whole if student else bare, whole if teacher else bare, 2, BATCH.targets)
    with pytest.raises(
        InputError, match=f"'sp' compares stages, but the {who} has none behind its stem; choose another"
    ):
        distillers.build("sp", probe)
