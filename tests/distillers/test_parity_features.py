"""The losses and modules of feature maps against torchdistill's, on the same tensors and parameters, in float64."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torchdistill.losses.mid_level import ATLoss, HierarchicalContextLoss, VIDLoss
from torchdistill.models.adaptation import ConvReg
from torchdistill.models.wrapper import AttentionBasedFusion, Regressor4VID

from tskd_tune import distillers
from tskd_tune.contracts import Batch, Classified, Probe, Shapes
from tskd_tune.distillers.review_kd import hierarchical_context_loss

BATCH = Batch(torch.zeros(3, 1, 4, 4), torch.tensor([0, 1, 2]), torch.arange(3))
STAGES = ("stage1", "stage2")


def output(seed: int, channels: tuple[int, int], width: int = 6) -> Classified:
    source = torch.Generator().manual_seed(seed)

    def drawn(*shape: int) -> Tensor:
        return torch.randn(3, *shape, generator=source, dtype=torch.float64).requires_grad_(seed == 0)

    layout = list(zip(STAGES, channels, (8, 4), strict=True))
    features, before = ({name: drawn(count, side, side) for name, count, side in layout} for _ in range(2))
    return Classified(torch.zeros(3, 2), features, before, drawn(width))


STUDENT, TEACHER = output(0, (2, 3)), output(1, (4, 6), 5)
PROBE = Probe(Shapes.of(STUDENT), Shapes.of(TEACHER), 2, torch.zeros(3))


def made(name: str, **options: object) -> distillers.Distiller:
    torch.manual_seed(0)
    return distillers.build(name, PROBE, **options).double()


def pairs() -> dict[str, Any]:
    return {stage: {who: {"path": stage, "io": "output"} for who in ("student", "teacher")} for stage in STAGES}


def shown(maps: Mapping[str, Any]) -> dict[str, Any]:
    return {stage: {"output": map_} for stage, map_ in maps.items()}


def renamed(source: nn.Module, target: nn.Module) -> nn.Module:
    """Give the target the parameters of the source, in their order."""
    values = source.state_dict().values()
    target.double().load_state_dict(dict(zip(target.state_dict(), values, strict=True)))
    return target


def compare(found: Tensor, expected: Tensor, sources: Sequence[Tensor]) -> None:
    """Compare values and gradients."""
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=0)
    for one, other in zip(torch.autograd.grad(found, sources), torch.autograd.grad(expected, sources), strict=True):
        assert one.abs().max() > 1e-9
        torch.testing.assert_close(one, other, rtol=1e-7, atol=1e-12)


def test_at_is_the_code_mode() -> None:
    expected = ATLoss(pairs(), mode="code")(shown(STUDENT.features), shown(TEACHER.features))
    found = made("at", weight=1.0)(STUDENT, TEACHER, BATCH)["at"]
    compare(found, expected, list(STUDENT.features.values()))


def test_vid() -> None:
    vid = made("vid")
    guesses = {}
    for stage, posterior, inputs, outputs in zip(STAGES, vid.posteriors, (2, 3), (4, 6), strict=True):
        nn.init.normal_(posterior.log_scale)
        theirs = renamed(posterior, Regressor4VID(inputs, outputs, outputs, eps=1e-5, init_pred_var=5.0))
        guesses[stage] = theirs(STUDENT.features[stage])
    expected = VIDLoss(pairs())(shown(guesses), shown(TEACHER.features))
    compare(vid(STUDENT, TEACHER, BATCH)["vid"], expected, list(STUDENT.features.values()))


@pytest.mark.parametrize("variance", [0.5, 5.0])
def test_vid_begins_with_the_same_log_scale(variance: float) -> None:
    theirs = Regressor4VID(2, 4, 4, eps=1e-5, init_pred_var=variance).soft_plus_param
    ours = made("vid", variance=variance).posteriors[0].log_scale
    torch.testing.assert_close(ours, theirs.double(), rtol=1e-6, atol=0)


def test_fitnet() -> None:
    fitnet = made("fitnet", weight=1.0)
    theirs = renamed(fitnet.regressor, ConvReg(3, 6, kernel_size=1, stride=1, padding=0))
    expected = nn.functional.mse_loss(theirs(STUDENT.features["stage2"]), TEACHER.features["stage2"])
    compare(fitnet(STUDENT, TEACHER, BATCH)["fitnet"], expected, [STUDENT.features["stage2"]])


def their_context_loss(given: Tensor, wanted: Tensor) -> Tensor:
    loss: Tensor = HierarchicalContextLoss("a", "output", "a", "output")(
        {"a": {"output": (given, None)}}, {"a": {"output": wanted}}
    )
    return loss


@pytest.mark.parametrize("side", [1, 2, 3, 4, 5, 7, 8, 14])
def test_the_hierarchical_context_loss(side: int) -> None:
    given = torch.randn(2, 3, side, side, dtype=torch.float64, requires_grad=True)
    wanted = torch.randn(2, 3, side, side, dtype=torch.float64)
    compare(hierarchical_context_loss(given, wanted), their_context_loss(given, wanted), [given])


def their_fusion(ours: Any, inputs: int, outputs: int, deepest: bool) -> nn.Module:
    theirs = AttentionBasedFusion(inputs, 6, outputs, uses_attention=not deepest).double()
    named = {"conv1": ours.entry, "conv2": ours.exit}
    if not deepest:
        named["attention_conv"] = nn.Sequential(ours.attention)
    state = {f"{name}.{key}": value for name, module in named.items() for key, value in module.state_dict().items()}
    theirs.load_state_dict(state)
    return theirs


def test_review_kd_with_its_fusions() -> None:
    review_kd = made("review_kd", warmup=0)
    layout = zip(review_kd.fusions, (2, 3, 6), (4, 6, 5), (False, False, True), strict=True)
    first, second, third = (their_fusion(*row) for row in layout)
    guess, deeper = third(STUDENT.embedding[:, :, None, None])
    expected = their_context_loss(guess, TEACHER.embedding[:, :, None, None])
    for stage, fusion, side in (("stage2", second, 4), ("stage1", first, 8)):
        guess, deeper = fusion(STUDENT.features[stage], deeper, side)
        expected = expected + their_context_loss(guess, TEACHER.preactivations[stage])
    sources = [*STUDENT.features.values(), STUDENT.embedding]
    compare(review_kd(STUDENT, TEACHER, BATCH)["review_kd"], expected, sources)
