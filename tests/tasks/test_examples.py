"""The answers of networks to single samples, which are kept for people to look at."""

from __future__ import annotations

import base64
import io
from functools import partial
from typing import Any

import pytest
import torch
from PIL import Image

from tskd_tune import tasks
from tskd_tune.contracts import Batch, Boxes, Classified, Detected
from tskd_tune.tasks.box_answers import MOST_FOUND, BoxAnswers
from tskd_tune.tasks.classification import ClassAnswers
from tskd_tune.tasks.examples import Answers, chosen, picture
from tskd_tune.testing.workers import at_once, groups
from tskd_tune.training.compute import Compute
from tskd_tune.training.evaluation import Evaluations
from tskd_tune.training.group import Group
from tskd_tune.training.schedule import Schedule

CPU = torch.device("cpu")


def classified(logits: torch.Tensor) -> Classified:
    return Classified(logits, {}, {}, logits)


def batch_of(indices: list[int], targets: Any) -> Batch[Any]:
    return Batch(torch.zeros(len(indices), 3, 40, 60), targets, torch.tensor(indices))


@pytest.mark.parametrize(
    ("samples", "most", "expected"), [(10, 4, [0, 2, 5, 7]), (3, 1000, [0, 1, 2]), (0, 5, []), (5, 5, [0, 1, 2, 3, 4])]
)
def test_chosen_samples_are_spread_over_the_part(samples: int, most: int, expected: list[int]) -> None:
    assert chosen(samples, most) == expected


def test_the_class_its_probability_and_the_truth_are_kept_of_each_chosen_sample() -> None:
    torch.manual_seed(0)
    logits, targets = torch.randn(7, 4), torch.tensor([0, 1, 2, 3, 0, 1, 2])
    answers = Answers(ClassAnswers(), 7, CPU)
    for indices in ([4, 1], [0, 6, 5, 3, 2]):
        answers.update(classified(logits[indices]), batch_of(indices, targets[indices]))
    found = answers.plain()
    assert found["kind"] == "classes" and found["truth"] == targets.tolist()
    assert found["answer"] == logits.argmax(1).tolist()
    assert found["confidence"] == pytest.approx(logits.softmax(1).amax(1).tolist(), abs=5e-4)


def test_samples_that_were_not_chosen_leave_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ClassAnswers, "samples", 2)
    answers = Answers(ClassAnswers(), 4, CPU)
    answers.update(classified(torch.eye(4)), batch_of([0, 1, 2, 3], torch.tensor([3, 2, 1, 0])))
    assert answers.chosen == [0, 2] and answers.plain()["answer"] == [0, 2] and answers.plain()["truth"] == [3, 1]


def merged(indices: list[int], group: Group) -> dict[str, Any]:
    answers = Answers(ClassAnswers(), 4, CPU)
    if indices:
        answers.update(classified(torch.eye(4)[indices]), batch_of(indices, torch.tensor(indices)))
    answers.merge(group.add)
    return answers.plain()


@pytest.mark.parametrize("shares", [([0, 3], [1, 2]), ([0, 1, 2, 3], [])])
def test_workers_share_what_each_of_them_has_seen(shares: tuple[list[int], list[int]]) -> None:
    found = at_once([partial(merged, share, group) for share, group in zip(shares, groups(), strict=True)])
    assert found[0] == found[1] and found[0]["answer"] == found[0]["truth"] == [0, 1, 2, 3]


def test_indices_may_count_through_all_parts() -> None:
    answering = BoxAnswers(first=30)
    answers = Answers(answering, 1, CPU)
    none = Boxes.padded([torch.zeros(0, 4)], scores=[torch.zeros(0)])
    answers.update(detected(none), batch_of([30], none))
    assert answers.plain()["sizes"] == [[40, 60]]


def detected(boxes: Boxes) -> Detected:
    return Detected({}, {}, {}, boxes, boxes, lambda boxes: boxes.corners)


def test_the_boxes_with_the_highest_scores_and_the_true_boxes_without_crowds_are_kept() -> None:
    corners = [torch.tensor([[1.0, 2, 30, 40], [5, 5, 9.25, 9]]), torch.zeros(0, 4)]
    found = Boxes.padded(
        corners, [torch.tensor([3, 1]), torch.zeros(0).long()], [torch.tensor([0.25, 0.5]), torch.zeros(0)]
    )
    truth = Boxes.padded(
        [torch.tensor([[0.0, 0, 20, 20], [1, 1, 50, 39]]), torch.tensor([[2.0, 3, 4, 5]])],
        [torch.tensor([7, 2]), torch.tensor([0])],
        crowd=[torch.tensor([True, False]), torch.tensor([False])],
    )
    answers = Answers(BoxAnswers(), 2, CPU)
    answers.update(detected(found), batch_of([1, 0], truth))
    assert answers.plain() == {
        "kind": "boxes",
        "sizes": [[40, 60], [40, 60]],
        "truth": [[[2.0, 3.0, 4.0, 5.0, 0]], [[1.0, 1.0, 50.0, 39.0, 2]]],
        "answer": [[], [[5.0, 5.0, 9.2, 9.0, 1, 0.5], [1.0, 2.0, 30.0, 40.0, 3, 0.25]]],
    }


def test_at_most_so_many_boxes_of_an_image_are_kept() -> None:
    many = 2 * MOST_FOUND
    scores = torch.linspace(0.1, 0.9, many)
    found = Boxes.padded([torch.rand(many, 4)], [torch.zeros(many).long()], [scores])
    empty = Boxes.padded([torch.zeros(0, 4)])
    sizes = torch.tensor([[33, 44]])
    answers = Answers(BoxAnswers(), 1, CPU)
    answers.update(detected(found), Batch(torch.zeros(1, 3, 64, 64), empty, torch.tensor([0]), sizes))
    kept: Any = answers.plain()
    assert [box[5] for box in kept["answer"][0]] == pytest.approx(scores.flip(0)[:MOST_FOUND].tolist(), abs=1e-3)
    assert kept["truth"] == [[]] and kept["sizes"] == [[33, 44]]


@pytest.mark.parametrize("channels", [1, 3])
def test_a_picture_is_small_and_shows_the_sample(channels: int) -> None:
    pixels = torch.zeros(channels, 80, 160, dtype=torch.uint8)
    pixels[:, :, 80:] = 200
    image = Image.open(io.BytesIO(base64.b64decode(picture(pixels, 40))))
    assert image.size == (40, 20)
    assert image.convert("L").getpixel((5, 10)) == pytest.approx(0, abs=8)
    assert image.convert("L").getpixel((35, 10)) == pytest.approx(200, abs=8)


def test_an_evaluation_keeps_its_answers_and_is_repeated_only_if_there_was_none() -> None:
    from tskd_tune import networks

    task = tasks.build("synthetic", batch_size=8, size=8, train=16, test=8)
    network = networks.build("resnet8", task.facts().outputs)
    compute = Compute.choose("cpu", "float32", False, 1)
    evaluations = Evaluations(task, compute, Schedule(1, 1))
    assert not evaluations.has(network, "test")
    late = evaluations.shown(network, "test").plain()
    metrics = evaluations.metrics(network, "test")
    assert evaluations.has(network, "test") and evaluations.shown(network, "test").plain() == late
    assert late is not None
    answer, truth = torch.tensor(late["answer"]), torch.tensor(late["truth"])
    assert 100 * (answer == truth).double().mean().item() == metrics[task.facts().headline.name]
