"""Average precision: equal to that of COCO's own tools on the same predictions, however it was collected."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import small_coco
import torch
from torch import Tensor

from tskd_tune.contracts import Batch, Boxes, Detected
from tskd_tune.errors import RunError
from tskd_tune.tasks import Task, build
from tskd_tune.tasks.average_precision import IOUS
from tskd_tune.tasks.base import PLACES
from tskd_tune.tasks.boxed_images import BoxedImages
from tskd_tune.tasks.detection import Detection, Detections
from tskd_tune.tasks.examples import Answers
from tskd_tune.testing.workers import at_once, groups
from tskd_tune.training.compute import Compute
from tskd_tune.training.evaluation import evaluate

CPU = torch.device("cpu")
OPTIONS: dict[str, Any] = {"batch_size": 4, "short_side": 64, "long_side": 96, "workers": 0}
NAMES = ["ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large"]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return small_coco.write_coco(tmp_path, test=12)


def by_tool(name: str, file: Path, results: list[Any]) -> Any:
    """Evaluate results by pycocotools or faster-coco-eval, as their users do; return the evaluation."""
    if name == "pycocotools":
        from pycocotools.coco import COCO
        from pycocotools.cocoeval import COCOeval
    else:
        from faster_coco_eval import COCO
        from faster_coco_eval import COCOeval_faster as COCOeval
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(file))
        evaluation = COCOeval(truth, truth.loadRes([dict(result) for result in results]), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation


def measured(task: Task, part: Any = "test", shift: float = 1.5) -> tuple[dict[str, float], Detections]:
    meter = task.meter()
    network = small_coco.Guessing(task.facts().outputs, shift)
    return evaluate(network, task.evaluation(part, CPU), meter, Compute(CPU)), meter


def crowds_and_oddities(content: dict[str, Any]) -> None:
    """Make some objects crowds, one without an area, one outside its image, and one image without objects."""
    objects = content["annotations"]
    for one in objects[::7]:
        one["iscrowd"] = 1
    objects[1]["bbox"][2] = 0.0
    objects[2]["bbox"][0] = 5000.0
    objects[4]["bbox"][1] = -30.0
    last = objects[-1]["image_id"]
    content["annotations"] = [one for one in objects if one["image_id"] != last]


@pytest.mark.parametrize("tool", ["pycocotools", "faster_coco_eval"])
@pytest.mark.parametrize("odd", [False, True])
def test_it_is_that_of_the_tool_called_directly(root: Path, tool: str, odd: bool) -> None:
    if odd:
        small_coco.edit(root, "val2017", crowds_and_oddities)
    found, meter = measured(build("coco", root=str(root), **OPTIONS))
    evaluation = by_tool(tool, small_coco.file_of(root, "val2017"), meter.results())
    assert list(found) == NAMES
    assert 10 < found["ap"] < 80
    assert list(found.values()) == pytest.approx([100 * value for value in evaluation.stats[:6]], rel=1e-12)
    np.testing.assert_allclose(meter.precision.values, evaluation.eval["precision"][..., -1], rtol=1e-12)


@pytest.mark.parametrize("part", ["train2017", "val2017"])
def test_it_is_that_of_both_tools_on_real_images(real: Path, part: str) -> None:
    task = build("coco", root=str(real), test=part, batch_size=16, short_side=160, long_side=224, workers=0)
    found, meter = measured(task, shift=2.0)
    for tool in ("pycocotools", "faster_coco_eval"):
        evaluation = by_tool(tool, small_coco.file_of(real, part), meter.results())
        assert list(found.values()) == pytest.approx([100 * value for value in evaluation.stats[:6]], rel=1e-12)
        np.testing.assert_allclose(meter.precision.values, evaluation.eval["precision"][..., -1], rtol=1e-12)


@pytest.fixture(scope="session")
def real(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_coco.real_coco(tmp_path_factory)


def test_right_detections_are_perfect_and_boxes_are_those_of_the_original_image(root: Path) -> None:
    task = build("coco", root=str(root), **OPTIONS)
    meter = task.meter()
    found = evaluate(small_coco.Guessing(3, shift=0, wrong=0), task.evaluation("test", CPU), meter, Compute(CPU))
    assert list(found.values()) == pytest.approx([100] * 6)
    for one in meter.found:
        truth = task.source.objects(one.index)
        np.testing.assert_allclose(one.boxes, truth.boxes, atol=1e-3)
    assert {result["category_id"] for result in meter.results()} == {3, 7, 20}
    assert {result["image_id"] for result in meter.results()} == {2000 + 5 * number for number in range(12)}


def test_precision_by_overlap_class_and_size(root: Path) -> None:
    found, meter = measured(build("coco", root=str(root), **OPTIONS))
    precision = meter.precision
    by_iou = precision.by_iou()
    assert list(by_iou) == list(IOUS) and by_iou[0.5] == found["ap50"] and by_iou[0.75] == found["ap75"]
    assert np.mean(list(by_iou.values())) == pytest.approx(found["ap"])
    assert np.mean(precision.by_class()) == pytest.approx(found["ap"])
    assert len(precision.by_class(iou=0.5)) == 3
    assert precision.ap(size="small") == found["ap_small"]


def test_a_metric_without_objects_is_left_out_and_never_below_zero(root: Path) -> None:
    def only_large(content: dict[str, Any]) -> None:
        content["annotations"] = [one for one in content["annotations"] if one["area"] > 96**2]

    small_coco.edit(root, "val2017", only_large)
    found, meter = measured(build("coco", root=str(root), **OPTIONS))
    assert list(found) == ["ap", "ap50", "ap75", "ap_large"] and min(found.values()) >= 0
    assert meter.precision.ap(size="small") is None and meter.precision.by_class()[0] is not None


def test_a_network_that_finds_nothing_has_a_precision_of_0(root: Path) -> None:
    class Nothing(small_coco.Guessing):
        def forward(self, images: Tensor, batch: Batch[Boxes]) -> Detected:
            none = Boxes.padded([torch.zeros(0, 4)] * len(images), scores=[torch.zeros(0)] * len(images))
            return Detected({}, {}, {}, none, none, lambda boxes: boxes.corners)

    task = build("coco", root=str(root), **OPTIONS)
    found = evaluate(Nothing(3), task.evaluation("test", CPU), task.meter(), Compute(CPU))
    assert list(found.items()) == [(name, 0.0) for name in NAMES]


def test_a_feed_names_images_of_all_parts_apart(root: Path) -> None:
    task = build("coco", root=str(root), validation=5, **OPTIONS)
    feeds = [task.training(CPU), *(task.evaluation(part, CPU) for part in ("validation", "test"))]
    indices = [torch.cat([feed.batch(draw).indices for draw in feed.draws()]).tolist() for feed in feeds]
    assert [index for part in indices for index in part] == list(range(14 + 12))
    in_train, in_test = (measured(task, part)[1].results() for part in ("validation", "test"))
    assert max(result["image_id"] for result in in_train) < 2000 <= min(result["image_id"] for result in in_test)


@pytest.mark.parametrize("bound", [0, 1, 2])
def test_workers_that_measure_shares_have_the_metrics_of_one(root: Path, bound: int) -> None:
    task = build("coco", root=str(root), **{**OPTIONS, "batch_size": 6})
    whole, _ = measured(task)
    feed, network = task.evaluation("test", CPU), small_coco.Guessing(3)
    batches = [feed.batch(draw) for draw in feed.draws()]
    meters = [task.meter(), task.meter()]
    for number, batch in enumerate(batches):
        meters[number >= bound].update(network(batch.images, batch), batch)
    merged = at_once([partial(_merged, meter, group.add) for meter, group in zip(meters, groups(), strict=True)])
    assert merged[0] == merged[1] == whole


def _merged(meter: Detections, add: Callable[[Any], None]) -> dict[str, float]:
    meter.merge(add, CPU)
    return meter.compute()


def test_the_losses_are_those_of_the_detector(root: Path) -> None:
    task = build("coco", root=str(root), **OPTIONS)
    none = Boxes.padded([torch.zeros(0, 4)])
    losses = {"classifier": torch.tensor(1.0), "box": torch.tensor(2.0)}
    output = Detected({}, {}, losses, none, none, lambda boxes: boxes.corners)
    batch = Batch(torch.zeros(1, 3, 32, 32), none, torch.zeros(1, dtype=torch.long))
    assert task.objective.losses(output, batch) == losses
    with pytest.raises(RunError, match="returned no losses in a training step"):
        task.objective.losses(Detected({}, {}, {}, none, none, lambda boxes: boxes.corners), batch)


def test_a_meter_says_ap_by_overlap_size_and_class_as_its_metrics_do(root: Path) -> None:
    task = build("coco", root=str(root), **OPTIONS)
    metrics, meter = measured(task)
    iou, size, label = meter.breakdowns()
    assert iou.labels == tuple(f"{value:.2f}" for value in IOUS) and iou.ordered
    assert iou.values[0] == metrics["ap50"] and iou.values[5] == metrics["ap75"]
    assert np.mean([value for value in iou.values if value is not None]) == pytest.approx(metrics["ap"])
    by_name = {f"ap_{name}": value for name, value in zip(size.labels, size.values, strict=True)}
    assert {name: value for name, value in by_name.items() if value is not None} == {
        name: metrics[name] for name in by_name if name in metrics
    }
    assert label.labels == task.summary().classes
    known = [value for value in label.values if value is not None]
    assert np.mean(known) == pytest.approx(metrics["ap"])
    assert task.meter().breakdowns() == ()  # type: ignore[attr-defined]


@pytest.mark.parametrize("part", ["validation", "test"])
def test_boxes_and_pictures_are_of_the_images_of_the_part(root: Path, part: Any) -> None:
    task = build("coco", root=str(root), validation=3, **OPTIONS)
    facts, source = task.facts(), task.source
    assert isinstance(task.objective, Detection) and isinstance(source, BoxedImages)
    answers: Answers[Detected] = Answers(task.objective.answering(facts, part), facts.samples[PLACES[part]], CPU)
    network, feed = small_coco.Guessing(facts.outputs, 0.0), task.evaluation(part, CPU)
    evaluate(network, feed, task.meter(), Compute(CPU), [answers])
    kept: Any = answers.plain()
    samples = source.samples(part)
    assert len(samples) == len(kept["sizes"]) == facts.samples[PLACES[part]]
    for place, (height, width) in enumerate(kept["sizes"]):
        objects = source.objects(place + sum(facts.samples[: PLACES[part]]))
        assert samples.name(place) == str(objects.image)
        assert samples[place].shape == (3, objects.height, objects.width)
        scale = np.array([width / objects.width, height / objects.height] * 2)
        taken = ~objects.crowd
        corners = np.column_stack([objects.boxes[:, :2], objects.boxes[:, :2] + objects.boxes[:, 2:]]) * scale
        expected = [
            [*map(float, box), int(name)] for box, name in zip(corners[taken], objects.labels[taken], strict=True)
        ]
        assert len(kept["truth"][place]) == len(expected)
        np.testing.assert_allclose(np.array(kept["truth"][place]), np.array(expected), atol=1.0)
