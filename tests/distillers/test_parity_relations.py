"""The losses of embeddings and relations beside those of torchdistill, on the same tensors."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torchdistill.losses import mid_level
from torchdistill.losses.mid_level import CRDLoss, PKTLoss, RKDLoss, SPKDLoss

from tskd_tune import distillers
from tskd_tune.contracts import Batch, Classified, Probe, Shapes
from tskd_tune.distillers.crd import CRD

B, STUDENT, TEACHER = 6, 5, 8
# Their alias table, which is built and not used where the negatives are given, works for powers of two only.
SAMPLES, K, DIMENSION = 16, 7, 5


def drawn(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def output(embedding: Tensor, features: Tensor) -> Classified:
    return Classified(embedding[:, :1], {"stem": features, "stage1": features}, {}, embedding)


def outputs(seed: int = 0) -> tuple[Classified, Classified]:
    student = output(drawn(seed, B, STUDENT).requires_grad_(), drawn(seed + 1, B, 3, 4, 4).requires_grad_())
    return student, output(drawn(seed + 2, B, TEACHER), drawn(seed + 3, B, 6, 4, 4))


def ours(name: str, student: Classified, teacher: Classified, **options: Any) -> Tensor:
    targets = torch.arange(SAMPLES) % 4
    distiller = distillers.build(name, Probe(Shapes.of(student), Shapes.of(teacher), 4, targets), **options)
    return distiller(student, teacher, Batch(torch.zeros(B, 1, 1, 1), targets[:B], torch.arange(B)))[name]


def assert_the_same(found: Tensor, wanted: Tensor, *learners: Tensor) -> None:
    torch.testing.assert_close(found, wanted, rtol=1e-10, atol=0)
    of_ours, of_theirs = (torch.autograd.grad(loss, learners, retain_graph=True) for loss in (found, wanted))
    for first, second in zip(of_ours, of_theirs, strict=True):
        torch.testing.assert_close(first, second, rtol=1e-8, atol=1e-13)


@pytest.mark.parametrize("seed", [0, 10])
def test_pkt(seed: int) -> None:
    student, teacher = outputs(seed)
    theirs = PKTLoss("fc", "input", "fc", "input", eps=1e-7)(
        {"fc": {"input": student.embedding * 1.0}}, {"fc": {"input": teacher.embedding}}
    )
    assert_the_same(ours("pkt", student, teacher), 30000 * theirs, student.embedding)


@pytest.mark.parametrize("seed", [0, 10])
def test_rkd(seed: int) -> None:
    student, teacher = outputs(seed)
    theirs = RKDLoss("pool", "pool", dist_factor=25.0, angle_factor=50.0, reduction="mean")(
        {"pool": {"output": student.embedding}}, {"pool": {"output": teacher.embedding}}
    )
    assert_the_same(ours("rkd", student, teacher), theirs, student.embedding)


@pytest.mark.parametrize("seed", [0, 10])
def test_sp_where_their_rows_have_length_one_by_squares(monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    student, teacher = outputs(seed)

    def their_loss() -> Tensor:
        return SPKDLoss("stage1", "stage1", reduction="batchmean")(
            {"stage1": {"output": student.features["stage1"]}}, {"stage1": {"output": teacher.features["stage1"]}}
        )

    found = ours("sp", student, teacher)
    # They hand `normalize` a 1 that it takes for the norm's order; the paper and RepDistiller divide by the L2 norm.
    assert not torch.isclose(found, 3000 * their_loss(), rtol=0.1)
    monkeypatch.setattr(mid_level, "normalize", lambda rows, _: torch.nn.functional.normalize(rows, p=2.0, dim=1))
    assert_the_same(found, 3000 * their_loss(), student.features["stage1"])


def crd_of(student: Classified, teacher: Classified) -> CRD:
    torch.manual_seed(0)
    probe = Probe(Shapes.of(student), Shapes.of(teacher), 4, torch.arange(SAMPLES) % 4)
    crd = distillers.build("crd", probe, dimension=DIMENSION, negatives=K)
    assert isinstance(crd, CRD)
    return crd.double()


def their_crd(crd: CRD, epsilon: float) -> nn.Module:
    theirs = CRDLoss("norm", "empty", "norm", DIMENSION, SAMPLES, K, SAMPLES, eps=epsilon).double()
    theirs.params[[1, 4]] = torch.tensor([crd.temperature, crd.momentum], dtype=torch.float64)  # they were float32
    theirs.memory_v1.copy_(crd.student_bank)
    theirs.memory_v2.copy_(crd.teacher_bank)
    return theirs


def their_loss(
    theirs: nn.Module, crd: CRD, student: Classified, teacher: Classified, indices: Tensor, others: Tensor
) -> Tensor:
    def projected(linear: nn.Linear, embedding: Tensor) -> dict[str, Tensor]:
        vectors = linear(embedding)
        return {"output": vectors / vectors.pow(2).sum(1, keepdim=True).pow(0.5)}

    given = {"pos_idx": indices, "contrast_idx": torch.cat([indices.unsqueeze(1), others], dim=1)}
    ours_ = {"norm": projected(crd.student_projection, student.embedding), "empty": {"input": given}}
    return theirs(ours_, {"norm": projected(crd.teacher_projection, teacher.embedding)}).squeeze()


def batches() -> list[tuple[Tensor, Tensor]]:
    source = torch.Generator().manual_seed(0)
    return [
        (torch.randperm(SAMPLES, generator=source)[:B], torch.randint(SAMPLES, (B, K), generator=source))
        for _ in range(4)
    ]


def test_crd_over_several_batches_of_given_negatives_without_an_epsilon() -> None:
    crd = crd_of(*outputs())
    theirs = their_crd(crd, 0.0)
    for number, (indices, others) in enumerate(batches()):
        student, teacher = outputs(10 * number)
        expected = their_loss(theirs, crd, student, teacher, indices, others)
        found = crd.contrast(student.embedding, teacher.embedding, indices, others)
        assert_the_same(found, expected, student.embedding, *crd.parameters())
        torch.testing.assert_close(crd.student_bank, theirs.memory_v1, rtol=1e-12, atol=0)
        torch.testing.assert_close(crd.teacher_bank, theirs.memory_v2, rtol=1e-12, atol=0)
    torch.testing.assert_close(crd.log_normalizers.exp(), theirs.params[2:4], rtol=1e-12, atol=0)


def test_their_epsilon_raises_each_of_crds_logarithms_by_its_share_of_the_noise_at_most() -> None:
    student, teacher = outputs()
    indices, others = batches()[0]
    crd = crd_of(student, teacher)
    plain, raised = (
        float(their_loss(their_crd(crd, epsilon), crd, student, teacher, indices, others).detach())
        for epsilon in (0.0, 1e-7)
    )
    found = float(crd.contrast(student.embedding, teacher.embedding, indices, others).detach())
    # log(p + c + e) - log(p + c) < e / c with c = K / N, of K + 1 logarithms in each of two directions.
    assert found == pytest.approx(plain, rel=1e-12)
    assert 0 < raised - found < 2 * (K + 1) * 1e-7 / (K / SAMPLES)
