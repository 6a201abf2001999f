"""CRD against its formula, written out in float64; its banks, its stream, and a resume bit for bit."""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from tskd_tune import distillers
from tskd_tune.contracts import Batch, Classified, Probe, Shapes
from tskd_tune.distillers import crd as module
from tskd_tune.distillers.crd import CRD
from tskd_tune.errors import InputError, RunError
from tskd_tune.experiment import Experiment
from tskd_tune.experiment.ready import build_trainer
from tskd_tune.training.trainer import Trainer

SAMPLES, CLASSES, STUDENT, TEACHER = 12, 3, 4, 6
TARGETS = torch.arange(SAMPLES) % CLASSES
PROBE = Probe(Shapes((3,), {}, {}, (STUDENT,)), Shapes((3,), {}, {}, (TEACHER,)), CLASSES, TARGETS)
INDICES = torch.tensor([1, 4, 6])
NEGATIVES = torch.tensor([[0, 2, 5, 11], [8, 6, 3, 9], [1, 2, 1, 7]])


def build(**options: float) -> CRD:
    torch.manual_seed(0)
    built = distillers.build("crd", PROBE, **{"dimension": 5, "negatives": 4, **options})
    assert isinstance(built, CRD)
    built.begin_epoch(0, torch.Generator().manual_seed(0))
    return built.double()


def embedding(seed: int, width: int, samples: int = 3) -> Tensor:
    source = torch.Generator().manual_seed(seed)
    return torch.randn(samples, width, generator=source, dtype=torch.float64)


def pair(seed: int = 0) -> tuple[Tensor, Tensor]:
    return embedding(seed, STUDENT).requires_grad_(), embedding(seed + 100, TEACHER)


def batch(indices: Tensor = INDICES) -> Batch:
    return Batch(torch.zeros(len(indices), 1, 1, 1), TARGETS[indices], indices)


def output(vectors: Tensor) -> Classified:
    return Classified(vectors[:, :1], {}, {}, vectors)


def loss_of(crd: CRD, seed: int = 0) -> Tensor:
    student, teacher = pair(seed)
    return crd(output(student), output(teacher), batch())["crd"]


def unit(vector: Tensor) -> Tensor:
    return vector / vector.dot(vector).sqrt()


class Written:
    """The method written out, sample by sample."""

    def __init__(self, crd: CRD, temperature: float, momentum: float) -> None:
        self.projections = [(p.weight, p.bias) for p in (crd.student_projection, crd.teacher_projection)]
        self.banks = [crd.student_bank.clone(), crd.teacher_bank.clone()]
        self.normalizers: list[float] = []
        self.temperature, self.momentum = temperature, momentum

    def loss(self, student: Tensor, teacher: Tensor) -> Tensor:
        projected = [
            [unit(weight @ vector + bias) for vector in vectors]
            for (weight, bias), vectors in zip(self.projections, (student, teacher), strict=True)
        ]
        exponentials = [
            self._exponentials(projected[0], self.banks[1]),
            self._exponentials(projected[1], self.banks[0]),
        ]
        if not self.normalizers:
            self.normalizers = [float(torch.stack(e).detach().mean()) * SAMPLES for e in exponentials]
        for bank, vectors in zip(self.banks, projected, strict=True):
            for index, vector in zip(INDICES.tolist(), vectors, strict=True):
                bank[index] = unit(self.momentum * bank[index] + (1 - self.momentum) * vector.detach())
        return self._noise_contrast(exponentials[0], 0) + self._noise_contrast(exponentials[1], 1)

    def _exponentials(self, anchors: list[Tensor], bank: Tensor) -> list[Tensor]:
        bank, chosen = bank.clone(), torch.cat([INDICES.unsqueeze(1), NEGATIVES], dim=1).tolist()
        rows = [[anchor.dot(bank[n]) for n in row] for anchor, row in zip(anchors, chosen, strict=True)]
        return [torch.stack(row).div(self.temperature).exp() for row in rows]

    def _noise_contrast(self, exponentials: list[Tensor], direction: int) -> Tensor:
        total = torch.zeros((), dtype=torch.float64)
        for row in exponentials:
            p = row / self.normalizers[direction]
            h = p / (p + 4 / SAMPLES)
            total = total - h[0].log() - (1 - h[1:]).log().sum()
        return total / len(exponentials)


@pytest.mark.parametrize(("temperature", "momentum"), [(0.07, 0.5), (0.5, 0.9), (1.0, 0.0)])
@pytest.mark.parametrize("whole_bank", [0, 50])
def test_it_is_the_published_loss_over_several_batches(
    monkeypatch: pytest.MonkeyPatch, whole_bank: int, temperature: float, momentum: float
) -> None:
    monkeypatch.setattr(module, "WHOLE_BANK", whole_bank)
    crd = build(temperature=temperature, momentum=momentum)
    written = Written(crd, temperature, momentum)
    for seed in range(3):
        student, teacher = pair(seed)
        loss = crd.contrast(student, teacher, INDICES, NEGATIVES)
        expected = written.loss(student, teacher)
        torch.testing.assert_close(loss, expected, rtol=1e-10, atol=0)
        learners = [student, *crd.parameters()]
        for found, wanted in zip(
            torch.autograd.grad(loss, learners), torch.autograd.grad(expected, learners), strict=True
        ):
            torch.testing.assert_close(found, wanted, rtol=1e-8, atol=1e-12)
        torch.testing.assert_close(crd.student_bank, written.banks[0], rtol=1e-12, atol=0)
        torch.testing.assert_close(crd.teacher_bank, written.banks[1], rtol=1e-12, atol=0)
    normalizers = torch.tensor(written.normalizers, dtype=torch.float64)
    torch.testing.assert_close(crd.log_normalizers.exp(), normalizers, rtol=1e-12, atol=0)


def test_forward_weighs_the_contrast_of_the_negatives_that_it_draws() -> None:
    crd, twin = build(weight=0.3), build()
    random = torch.Generator().manual_seed(
        int(torch.randint(2**63 - 1, (), generator=torch.Generator().manual_seed(0)))
    )
    drawn = twin.negatives.draw(INDICES, random)
    assert drawn.shape == (3, 4) and (TARGETS[drawn] != TARGETS[INDICES].unsqueeze(1)).all()
    torch.testing.assert_close(loss_of(crd), 0.3 * twin.contrast(*pair(), INDICES, drawn), rtol=1e-12, atol=0)


def test_its_options_are_repdistillers_unless_set() -> None:
    torch.manual_seed(0)
    crd = distillers.build("crd", PROBE)
    assert isinstance(crd, CRD)
    assert (crd.temperature, crd.momentum, crd.weight, crd.negatives.count) == (0.07, 0.5, 0.8, 16384)
    assert crd.student_bank.shape == crd.teacher_bank.shape == (SAMPLES, 128)
    assert crd.student_projection.weight.shape == (128, STUDENT)
    assert crd.teacher_projection.weight.shape == (128, TEACHER)
    bound = math.sqrt(3 / 128)  # so that a fresh entry has length one on average
    for bank in (crd.student_bank, crd.teacher_bank):
        assert 0.95 * bound < float(bank.abs().max()) <= bound and abs(float(bank.mean())) < 0.1 * bound
    assert not torch.equal(crd.student_bank, crd.teacher_bank)


def test_more_negatives_and_another_dimension_are_seen() -> None:
    assert build(dimension=7).student_bank.shape == (SAMPLES, 7)
    crd = build(negatives=9)
    assert crd.negatives.draw(INDICES, torch.Generator().manual_seed(0)).shape == (3, 9)
    assert not torch.allclose(loss_of(crd), loss_of(build()))


def test_the_first_batch_fixes_the_normalizers() -> None:
    crd = build()
    assert crd.log_normalizers.isinf().all()
    loss_of(crd)
    first = crd.log_normalizers.clone()
    assert first.isfinite().all()
    loss_of(crd, seed=1)
    assert torch.equal(crd.log_normalizers, first)


def test_the_gradient_goes_to_the_student_and_both_projections_never_into_the_banks() -> None:
    crd = build()
    student, teacher = pair()
    crd(output(student), output(teacher), batch())["crd"].backward()
    assert float(student.grad.abs().min()) > 0 and teacher.grad is None
    names = {name for name, _ in crd.named_parameters()}
    assert names == {f"{who}_projection.{part}" for who in ("student", "teacher") for part in ("weight", "bias")}
    assert all(float(parameter.grad.abs().max()) > 0 for parameter in crd.parameters())
    assert not crd.student_bank.requires_grad and not crd.teacher_bank.requires_grad


def test_only_the_batchs_entries_move_and_have_length_one() -> None:
    crd = build()
    before = crd.student_bank.clone()
    loss_of(crd)
    moved = (crd.student_bank != before).any(dim=1)
    assert moved.nonzero().flatten().tolist() == sorted(INDICES.tolist())
    torch.testing.assert_close(crd.student_bank[INDICES].norm(dim=1), torch.ones(3, dtype=torch.float64))


def test_a_sample_that_is_in_a_batch_twice_leaves_its_last_projection(monkeypatch: pytest.MonkeyPatch) -> None:
    crd, once = build(), build()
    written: list[Tensor] = []
    index_copy = Tensor.index_copy_

    def spy(bank: Tensor, dim: int, indices: Tensor, rows: Tensor) -> Tensor:
        written.append(rows)
        return index_copy(bank, dim, indices, rows)

    student, teacher = pair()
    twice = torch.tensor([1, 4, 1])
    with monkeypatch.context() as patch:
        patch.setattr(Tensor, "index_copy_", spy)
        loss = crd.contrast(student, teacher, twice, NEGATIVES)
    loss.backward()
    assert loss.isfinite() and len(written) == 2
    # A GPU writes them in any order.
    assert all(torch.equal(rows[0], rows[2]) and not torch.equal(rows[0], rows[1]) for rows in written)
    once.contrast(student[1:], teacher[1:], twice[1:], NEGATIVES[1:])
    torch.testing.assert_close(crd.student_bank, once.student_bank, rtol=1e-12, atol=0)
    torch.testing.assert_close(crd.teacher_bank, once.teacher_bank, rtol=1e-12, atol=0)


def test_an_epoch_is_one_stream_that_every_batch_continues() -> None:
    def drawn(epochs: list[int]) -> list[Tensor]:
        crd, found = build(), []
        crd.contrast = lambda s, t, i, negatives: found.append(negatives) or s.sum()  # type: ignore[method-assign, assignment, func-returns-value]
        for epoch in epochs:
            crd.begin_epoch(epoch, torch.Generator().manual_seed(epoch))
            for _ in range(2):
                loss_of(crd)
        return found

    both, second = drawn([1, 2]), drawn([2])
    assert torch.equal(torch.stack(both[2:]), torch.stack(second))
    assert all(not torch.equal(both[a], both[b]) for a in range(4) for b in range(a))


def test_torchs_global_generator_is_left_alone() -> None:
    crd = build()
    before = torch.get_rng_state()
    crd.begin_epoch(1, torch.Generator().manual_seed(1))
    loss_of(crd)
    assert torch.equal(torch.get_rng_state(), before)


def test_it_is_computed_in_float32_under_autocast() -> None:
    student, teacher = (vectors.detach().bfloat16() for vectors in pair())
    first, second = build().float(), build().float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = first(output(student), output(teacher), batch())["crd"]
    assert loss.dtype == torch.float32
    assert torch.equal(loss, second(output(student.float()), output(teacher.float()), batch())["crd"])
    assert torch.equal(first.student_bank, second.student_bank) and first.student_bank.dtype == torch.float32


def test_a_cold_temperature_does_not_overflow_float32() -> None:
    crd = build(temperature=0.005).float()  # exp(1 / 0.005) is beyond a float32, of which exp(89) is the end
    student, teacher = (vectors.detach().float().requires_grad_() for vectors in pair())
    crd.student_bank[:], crd.teacher_bank[:] = 0, 0
    with torch.no_grad():  # every anchor finds its own entry exactly
        crd.teacher_bank[INDICES] = torch.nn.functional.normalize(crd.student_projection(student), dim=1)
        crd.student_bank[INDICES] = torch.nn.functional.normalize(crd.teacher_projection(teacher), dim=1)
    loss = crd.contrast(student, teacher, INDICES, NEGATIVES)
    assert loss.isfinite() and torch.autograd.grad(loss, student)[0].isfinite().all()


def test_what_is_wrong_is_said() -> None:
    one = Probe(PROBE.student, PROBE.teacher, CLASSES, torch.zeros(5, dtype=torch.long))
    with pytest.raises(InputError, match="distiller: 'crd' contrasts .* all 5 training samples are of one class"):
        distillers.build("crd", one)
    with pytest.raises(RunError, match="'crd' draws from an epoch's own stream; call begin_epoch"):
        student, teacher = embedding(0, STUDENT).float(), embedding(1, TEACHER).float()
        distillers.build("crd", PROBE)(output(student), output(teacher), batch())
    for options in ({"momentum": 1.0}, {"momentum": -0.1}, {"temperature": 0.0}, {"negatives": 0}, {"dimension": 0}):
        with pytest.raises(ValidationError, match=next(iter(options))):
            distillers.build("crd", PROBE, **options)


# A whole training. Of 24 samples in 4 classes an anchor has 18 others: 8 are drawn without replacement, 30 with.


def experiment_of(tiny: Callable[..., Experiment], negatives: int) -> Experiment:
    return tiny(distiller={"name": "crd", "negatives": negatives, "dimension": 16}, review=None, training={"epochs": 4})


def trained(experiment: Experiment, epochs: int) -> Trainer:
    trainer = build_trainer(experiment)
    for _ in range(epochs):
        trainer.epoch()
    return trainer


def through_a_file(state: dict[str, Any]) -> dict[str, Any]:
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def losses(trainer: Trainer) -> list[tuple[float, float]]:
    return [(record.numbers["loss_task"], record.numbers["loss_crd"]) for record in trainer.history]


@pytest.mark.parametrize("negatives", [8, 30])
@pytest.mark.parametrize("cut", [1, 3])
def test_a_resume_ends_bit_for_bit_where_an_unbroken_training_ends(
    tiny: Callable[..., Experiment], negatives: int, cut: int
) -> None:
    experiment = experiment_of(tiny, negatives)
    unbroken = trained(experiment, 4)
    resumed = build_trainer(experiment)
    resumed.load_state_dict(through_a_file(trained(experiment, cut).state_dict()))
    while not resumed.finished:
        resumed.epoch()
    for part in ("student", "distiller"):
        first, second = unbroken.state_dict()[part], resumed.state_dict()[part]
        assert first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)
    assert losses(resumed) == losses(unbroken)
    assert len(set(losses(unbroken))) == 4


def test_its_projections_are_trained_and_its_banks_are_in_the_checkpoint(tiny: Callable[..., Experiment]) -> None:
    experiment = experiment_of(tiny, 8)
    fresh, trainer = build_trainer(experiment), trained(experiment, 1)
    trained_parameters = {id(p) for group in trainer.optimizers[0].param_groups for p in group["params"]}
    assert {id(parameter) for parameter in trainer.distiller.parameters()} <= trained_parameters
    before, after = fresh.state_dict()["distiller"], trainer.state_dict()["distiller"]
    projections = {f"{who}_projection.{part}" for who in ("student", "teacher") for part in ("weight", "bias")}
    assert set(after) == {"student_bank", "teacher_bank", "log_normalizers"} | projections
    assert all(not torch.equal(before[name], after[name]) for name in after)
    # Every sample was met once in the epoch.
    assert (before["student_bank"] != after["student_bank"]).any(dim=1).all()
