"""A batch that is computed in pieces gives the gradients and the update of the whole batch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from tskd_tune import documents
from tskd_tune.contracts import Batch, Boxes
from tskd_tune.errors import InputError, RunError
from tskd_tune.experiment import Experiment
from tskd_tune.experiment.assembly import assemble
from tskd_tune.experiment.identity import identity
from tskd_tune.experiment.ready import build_trainer
from tskd_tune.experiment.teacher import teacher_key
from tskd_tune.tasks.shards import part_of
from tskd_tune.testing.base import tensors
from tskd_tune.testing.small_detector import CLASSES, SmallDetector, small_detection
from tskd_tune.testing.workers import groups, in_float64, trained
from tskd_tune.training.group import Group
from tskd_tune.training.pieces import pieces
from tskd_tune.training.trainer import Trainer

Tiny = Callable[..., Experiment]
# Batches of 7, 7 and 3 samples; three pieces have 2, 2 and 3 samples, and the last batch is one piece.
BASE: dict[str, Any] = {
    "task": {"train": 17, "validation": 9, "test": 1, "batch_size": 7},
    "training": {"epochs": 3, "fold": False},
    "evaluation": {"test": "every_epoch"},
}
ADAPTERS = {"a": "fitnet", "b": "ofd", "c": "sad"}
CASES: dict[str, dict[str, Any]] = {
    "alone": {"review": None},
    "distilled": {"review": None, "distiller": "kd"},
    "reviewed": {"distiller": "kd"},
    "with adapters": {"distiller": {"name": "combined", "parts": ADAPTERS}, "training": {"lr": 1e-4}},
    "with review_kd": {"distiller": {"name": "review_kd", "warmup": 0}, "review": None, "training": {"lr": 0.001}},
    "under a teacher that learns": {"distiller": "ekd", "review": None, "teacher": {"weights": "untrained"}},
    "with lambda to be found": {"review": {"lambda": {"auto": 0.1}}},
    "extractors that warm up": {"review": {"extractor": {"training": {"warmup_steps": 2}}}},
    "extractors with Adam": {"review": {"extractor": {"training": {"optimizer": "own"}}}},
}


def of(tiny: Tiny, *cases: Mapping[str, Any]) -> Experiment:
    document = BASE
    for case in cases:
        document = documents.merge(document, case)
    return tiny(**document)


def in_pieces(count: int) -> dict[str, Any]:
    return {"training": {"accumulate": count}}


def frozen(trainer: Trainer) -> Trainer:
    """Keep all batch norms in eval mode, in float64."""
    for part in (trainer.student, trainer.distiller, trainer.teacher):
        for module in () if part is None else part.modules():
            if isinstance(module, _BatchNorm):
                module.eval()
                module.train = lambda mode=True, own=module: own  # type: ignore[method-assign]
    return in_float64(trainer)


def built(tiny: Tiny, case: Mapping[str, Any], *over: Mapping[str, Any], group: Group | None = None) -> Trainer:
    """Build a training under the teacher of the case alone: a teacher is trained in pieces too."""
    trainer, plain = build_trainer(of(tiny, case, *over), group), build_trainer(of(tiny, case))
    if trainer.teacher is not None and plain.teacher is not None:
        trainer.teacher.load_state_dict(plain.teacher.state_dict())
        trainer.distiller.load_state_dict(plain.distiller.state_dict())  # the margins of ofd are the teacher's
    return trainer


def state(trainer: Trainer) -> list[Tensor]:
    """Return all parameters, buffers and snapshots, without the counters of batches."""
    saved = {name: value for name, value in trainer.state_dict().items() if name != "history"}
    return [tensor for tensor in tensors(saved) if tensor.is_floating_point()]


def near(found: Trainer, wanted: Trainer, tolerance: float) -> None:
    pairs = list(zip(state(found), state(wanted), strict=True))
    assert len(pairs) > 20
    for one, other in pairs:
        torch.testing.assert_close(one, other, rtol=tolerance, atol=tolerance)
    for ours, theirs in zip(found.history, wanted.history, strict=True):
        assert ours.numbers.keys() == theirs.numbers.keys()
        for name, number in theirs.numbers.items():
            # The gradients of a look are in float32.
            assert ours.numbers[name] == pytest.approx(number, rel=max(tolerance, 1e-5 * name.startswith("grad")))


@pytest.mark.parametrize("case", CASES)
def test_pieces_train_as_the_whole_batch_does_where_batch_norms_are_frozen(tiny: Tiny, case: str) -> None:
    whole, cut = (frozen(built(tiny, CASES[case], in_pieces(count))) for count in (1, 3))
    trained([whole])
    trained([cut])
    near(cut, whole, 1e-6 if "auto" in str(CASES[case]) else 1e-10)


def test_the_gradients_of_a_step_are_those_of_the_whole_batch(tiny: Tiny) -> None:
    found = []
    for count in (1, 2, 3):
        trainer = frozen(built(tiny, CASES["reviewed"], in_pieces(count)))
        trained([trainer], epochs=2)
        trainer.begin()
        next(trainer.steps())  # the look of the first review
        found.append({name: one.grad for name, one in trainer.student.named_parameters()})
    for cut in found[1:]:
        for name, gradient in cut.items():
            torch.testing.assert_close(gradient, found[0][name], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("accumulate", [2, 4])
def test_batch_norms_take_the_statistics_of_as_many_groups(tiny: Tiny, accumulate: int) -> None:
    over: dict[str, Any] = {"task": {"train": 24, "batch_size": 12}, "distiller": "kd"}
    parts = {"training": {"batch_norm_groups": 4}}
    both = documents.merge(parts, in_pieces(accumulate))
    cases = [parts, both] if accumulate == 2 else [parts, both, in_pieces(4)]
    whole, *cut = (in_float64(built(tiny, over, case)) for case in cases)
    for trainer in (whole, *cut):
        trained([trainer])
    for trainer in cut:
        near(trainer, whole, 1e-10)


@pytest.mark.parametrize("case", ["reviewed", "with lambda to be found"])
def test_two_workers_with_pieces_train_as_one_does(tiny: Tiny, case: str) -> None:
    over = documents.merge({"task": {"train": 24, "batch_size": 8}}, CASES[case])
    whole = frozen(built(tiny, over))
    workers = [frozen(built(tiny, over, in_pieces(2), group=group)) for group in groups(2)]
    trained([whole])
    near(trained(workers)[0], whole, 1e-6 if "auto" in str(CASES[case]) else 1e-10)


def test_workers_and_pieces_take_the_statistics_of_as_many_groups(tiny: Tiny) -> None:
    over: dict[str, Any] = {"task": {"train": 24, "batch_size": 8}, "training": {"batch_norm_groups": 4}}
    whole = in_float64(built(tiny, over))
    workers = [in_float64(built(tiny, over, in_pieces(2), group=group)) for group in groups(2)]
    trained([whole])
    near(trained(workers)[0], whole, 1e-10)


class Held:
    """Bytes that a graph keeps for its backward pass, now and at most."""

    def __init__(self) -> None:
        self.now = self.most = 0

    def pack(self, tensor: Tensor) -> _Kept:
        return _Kept(self, tensor)


class _Kept:
    def __init__(self, held: Held, tensor: Tensor) -> None:
        self._held, self.tensor = held, tensor
        held.now += tensor.nbytes
        held.most = max(held.most, held.now)

    def __del__(self) -> None:
        self._held.now -= self.tensor.nbytes


def held_by_a_step(experiment: Experiment) -> int:
    trainer, held = build_trainer(experiment), Held()
    trainer.begin()
    with torch.autograd.graph.saved_tensors_hooks(held.pack, lambda kept: kept.tensor):
        next(trainer.steps())
    return held.most


def test_pieces_need_less_memory(tiny: Tiny) -> None:
    over: dict[str, Any] = {"task": {"train": 32, "batch_size": 32, "size": 16}, "distiller": "kd", "review": None}
    whole, cut = (held_by_a_step(of(tiny, over, in_pieces(count))) for count in (1, 4))
    assert cut < 0.4 * whole  # a quarter, beside the parameters


def test_a_step_with_fitnet_is_that_of_the_formula_on_the_whole_batch(tiny: Tiny) -> None:
    trainer = frozen(built(tiny, {"review": None, "distiller": {"name": "fitnet", "weight": 3.0}}, in_pieces(3)))
    batch = Batch(torch.randn(7, 3, 8, 8), torch.arange(7) % 4, torch.arange(7))
    assert trainer.teacher is not None
    student, teacher = trainer.student(batch.images), trainer.teacher(batch.images)
    convolution, norm, _ = trainer.distiller.regressor
    scaled = (convolution(student.features["stage2"]) - norm.running_mean[:, None, None]) / torch.sqrt(
        norm.running_var[:, None, None] + norm.eps
    )
    guess = (norm.weight[:, None, None] * scaled + norm.bias[:, None, None]).clamp_min(0)
    gaps = [(3 * (guess - teacher.features["stage2"]).square()).mean()]
    tasks = [-student.logits.log_softmax(1)[range(7), batch.targets].mean()]
    parameters = [*trainer.student.parameters(), *trainer.distiller.parameters()]
    wanted = torch.autograd.grad(sum(gaps + tasks), parameters)  # type: ignore[arg-type]
    found = trainer.engine.update(batch, trainer.kind(epoch=0, step=0))
    torch.testing.assert_close(found["loss_fitnet"], gaps[0].detach(), rtol=1e-12, atol=0)
    torch.testing.assert_close(found["loss"], (gaps[0] + tasks[0]).detach(), rtol=1e-12, atol=0)
    for parameter, gradient in zip(parameters, wanted, strict=True):
        torch.testing.assert_close(parameter.grad, gradient, rtol=1e-9, atol=1e-12)


def test_batch_norms_of_a_distiller_take_the_statistics_of_each_micro_batch(tiny: Tiny) -> None:
    trainer, given = in_float64(built(tiny, {"review": None, "distiller": "fitnet"}, in_pieces(3))), list[Tensor]()
    norm = trainer.distiller.regressor[1]
    norm.register_forward_pre_hook(lambda module, inputs: given.append(inputs[0].detach()))
    trainer.begin()
    next(trainer.steps())
    assert [len(one) for one in given] == [2, 2, 3]
    moved = [0.9 * 0 + 0.1 * one.mean((0, 2, 3)) for one in given]
    torch.testing.assert_close(norm.running_mean, sum(moved) / 3, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("distiller", ["fitnet", {"name": "review_kd", "warmup": 0}])
def test_workers_join_the_micro_batches_of_a_distiller_with_batch_norms(tiny: Tiny, distiller: Any) -> None:
    over = {
        "task": {"train": 22, "batch_size": 9},
        "distiller": distiller,
        "review": None,
        "training": {"lr": 1e-3},
    }  # 9, 9, 4
    whole = frozen(built(tiny, over))
    workers = [frozen(built(tiny, over, in_pieces(2), group=group)) for group in groups(2)]
    trained([whole])
    near(trained(workers)[0], whole, 1e-10)


@pytest.mark.parametrize("world", [1, 2])
def test_fgfi_counts_steps_and_the_cells_of_whole_batches(world: int) -> None:
    def built(count: int, group: Group | None = None) -> Trainer:
        torch.manual_seed(1)
        teacher, small = SmallDetector(CLASSES, width=6), "tskd_tune.testing.small_detector:SmallDetector"
        parts = {"near": {"name": "fgfi", "anchors": [8.0, 16.0], "warmup": 3}, "hint": {"name": "fitnet"}}
        document = {
            "task": {"name": "synthetic", "batch_size": 8, "size": 8, "train": 24, "validation": 8, "test": 8},
            "student": {"name": small},
            "teacher": {"name": small, "width": 6, "training": {"epochs": 1}},
            "distiller": {"name": "combined", "parts": parts},
            "training": {"epochs": 2, "lr": 0.01, "accumulate": count},
            "review": None,
        }
        none = torch.zeros(0, dtype=torch.long)
        return assemble(Experiment.read(document), small_detection(), teacher, none, group=group)  # type: ignore[arg-type]

    whole, *cut = built(1), *(built(2, group) for group in ([None] if world == 1 else groups(world)))
    for trainer in (whole, *cut):
        frozen(trainer)
    trained([whole])
    trained(cut)
    for ours, theirs in zip(cut[0].history, whole.history, strict=True):
        assert ours.numbers["loss_near"] == pytest.approx(theirs.numbers["loss_near"], rel=1e-9)
    assert [one.numbers["loss_near"] > 0 for one in whole.history] == [False, True]  # 2 steps an epoch


@pytest.mark.parametrize("distiller", ["rkd", {"name": "crd", "negatives": 4}])
def test_a_distiller_of_whole_batches_is_refused(tiny: Tiny, distiller: Any) -> None:
    with pytest.raises(InputError, match="needs the outputs of a whole batch .* set training.accumulate: 1"):
        build_trainer(of(tiny, {"review": None, "distiller": distiller}, in_pieces(2)))


def test_groups_that_do_not_fit_are_refused(tiny: Tiny) -> None:
    with pytest.raises(InputError, match="3 parts of a batch cannot be shared by 2 micro-batches .* a multiple of 2"):
        build_trainer(of(tiny, {"training": {"batch_norm_groups": 3}}, in_pieces(2)))


def test_one_piece_is_no_option(tiny: Tiny) -> None:
    plain, one, two = tiny(), tiny(**in_pieces(1)), tiny(**in_pieces(2))
    assert identity(plain) == identity(one) != identity(two)
    assert teacher_key(plain) == teacher_key(one) != teacher_key(two)


@pytest.mark.parametrize("total", [1, 2, 3, 9, 64])
@pytest.mark.parametrize("world", [1, 2, 3])
def test_pieces_cover_each_sample_once(total: int, world: int) -> None:
    if total < 2 * world:
        return
    found = [pieces(total, 5, 1, rank, world) for rank in range(world)]
    assert sum(piece.share for own in found for piece in own) == pytest.approx(1)
    assert sum(piece.stop - piece.start for own in found for piece in own) == total
    assert len({len(own) for own in found}) == 1
    assert all(piece.stop - piece.start >= 2 for own in found for piece in own)


def test_a_batch_of_boxes_is_cut_in_all_its_tensors() -> None:
    boxes = Boxes.padded([torch.rand(n, 4) for n in (2, 0, 3)])
    batch = Batch(torch.rand(3, 3, 8, 8), boxes, torch.arange(3), torch.full((3, 2), 8))
    cut = part_of(batch, 1, 3)
    assert cut.images.shape[0] == len(cut.indices) == 2 and cut.sizes is not None and len(cut.sizes) == 2
    assert cut.targets.counts.tolist() == [0, 3] and cut.targets.scores is None
    assert torch.equal(cut.targets.corners, boxes.corners[1:])
    with pytest.raises(RunError, match="a batch with a list in it cannot be cut"):
        part_of(Batch(batch.images, [1, 2, 3], batch.indices), 0, 1)


def test_dropout_of_pieces_is_drawn_anew(tiny: Tiny) -> None:
    seen: list[Tensor] = []
    trainer = build_trainer(of(tiny, {"review": None}, in_pieces(3)))
    trainer.student.register_forward_hook(lambda *ignored: seen.append(torch.rand(3)))
    trainer.begin()
    next(trainer.steps())
    assert len(seen) == 3 and len({tuple(one.tolist()) for one in seen}) == 3
