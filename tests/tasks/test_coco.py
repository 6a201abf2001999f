"""Task coco: what a batch has, how the data are split, and what is said of data that are odd, damaged or not there."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import small_coco
import torch
from PIL import Image
from small_coco import edit, file_of

from tskd_tune.contracts import Batch, Boxes
from tskd_tune.errors import InputError, RunError
from tskd_tune.tasks import Task, build
from tskd_tune.tasks.boxed_images import BoxedImages
from tskd_tune.tasks.truth import Objects
from tskd_tune.testing.tasks import CPU, Seeds, batches_of, tensors_of

Change = Callable[[dict[str, Any]], object]
OPTIONS: dict[str, Any] = {"batch_size": 3, "short_side": 64, "long_side": 96, "workers": 0, "flip": False}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return small_coco.write_coco(tmp_path / "set", train=7, test=4)


def made(root: Path, **options: Any) -> Task:
    return build("coco", root=str(root), **{**OPTIONS, **options})


def refusal(task: Task) -> str:
    with pytest.raises(InputError) as caught:
        task.facts()
    return str(caught.value)


def objects(task: Task, index: int) -> Objects:
    assert isinstance(task.source, BoxedImages)
    return task.source.objects(index)


def first(root: Path, part: str) -> Path:
    return sorted((root / part).iterdir())[0]


# What a batch has


@pytest.mark.parametrize("options", [{}, {"flip": True}, {"multi_scale": [48, 64, 80]}])
def test_boxes_lie_on_their_objects_after_scaling_and_mirroring(root: Path, options: dict[str, Any]) -> None:
    for batch in batches_of(made(root, **options), Seeds()):
        colors = batch.images * torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
        colors += torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)
        for image, boxes, labels in zip(colors, batch.targets.of_images(), batch.targets.labels, strict=True):
            assert labels.tolist() == [0, 1, 2]
            blue = boxes[2]  # drawn last, so that no other object covers it
            x1, y1, x2, y2 = (blue + torch.tensor([1, 1, -1, -1])).round().int().tolist()
            assert (image[2, y1:y2, x1:x2] > 0.8).all()
            bright = (image[2] > 0.75).nonzero()
            edges = torch.cat([bright.amin(0).flip(0), bright.amax(0).flip(0) + 1])
            assert (edges - blue).abs().max() < 1.5


def test_images_keep_their_shape_and_are_padded_with_zeros(root: Path) -> None:
    for batch in batches_of(made(root, pad_to=16), Seeds()):
        assert batch.images.shape[2] % 16 == 0 == batch.images.shape[3] % 16
        assert batch.images.shape[2] - int(batch.sizes[:, 0].max()) < 16
        for image, (height, width) in zip(batch.images, batch.sizes.tolist(), strict=True):
            assert min(height, width) == 64 or max(height, width) == 96
            assert not image[:, height:].any() and not image[:, :, width:].any()
            assert image[:, :height, :width].std() > 0.1


def test_scale_and_mirroring_of_a_sample_are_drawn_anew_in_each_epoch(root: Path) -> None:
    task = made(root, multi_scale=[40, 48, 56, 64], flip=True)
    epochs = [
        {int(i): tuple(s) for b in batches_of(task, seeds) for i, s in zip(b.indices, b.sizes.tolist(), strict=True)}
        for seeds in (Seeds(), Seeds(order=5), Seeds(augmentation=7))
    ]
    assert epochs[0] == epochs[1] != epochs[2]
    assert len({min(size) for size in epochs[0].values()}) > 1


def test_workers_change_nothing_and_an_epoch_can_begin_within_itself(root: Path) -> None:
    own, theirs = (batches_of(made(root, flip=True, multi_scale=[40, 64], workers=n), Seeds()) for n in (0, 2))
    rest = batches_of(made(root, flip=True, multi_scale=[40, 64], workers=2), Seeds(), start=1)
    for mine, other in [*zip(own, theirs, strict=True), *zip(own[1:], rest, strict=True)]:
        assert tensors_of(mine).keys() == tensors_of(other).keys()
        assert all(torch.equal(tensor, tensors_of(other)[name]) for name, tensor in tensors_of(mine).items())


def test_a_batch_without_boxes(root: Path) -> None:
    edit(root, "val2017", lambda content: content.update(annotations=content["annotations"][-3:]))
    task = made(root, batch_size=2)
    feed = task.evaluation("test", CPU)
    batches: list[Batch[Boxes]] = [feed.batch(draw) for draw in feed.draws()]
    assert [batch.targets.counts.tolist() for batch in batches] == [[0, 0], [0, 3]]
    assert batches[0].targets.corners.shape == (2, 0, 4)
    assert "  images without a box: 0 training, 0 validation, 3 test" in task.summary().lines()


def test_images_without_a_box_to_learn_can_be_left_out(root: Path) -> None:
    def change(content: dict[str, Any]) -> None:
        own = [one["id"] for one in content["images"]]
        for one in content["annotations"]:
            one["iscrowd"] = int(one["image_id"] == own[0])
        content["annotations"] = [one for one in content["annotations"] if one["image_id"] != own[1]]

    edit(root, "train2017", change)
    assert made(root).facts().samples == (7, 0, 4)
    task = made(root, without_boxes="leave_out")
    assert task.facts().samples == (5, 0, 4)
    assert any("no box to learn (task.without_boxes): 2" in line for line in task.summary().lines())


def test_crowds_are_marked_and_boxes_are_clipped(root: Path) -> None:
    def change(content: dict[str, Any]) -> None:
        one, two, three, four, *_ = content["annotations"]
        one["iscrowd"] = 1
        two["bbox"] = [-20.0, -10.0, 60.0, 500.0]
        three["bbox"] = [900.0, 10.0, 20.0, 20.0]
        four["bbox"] = [10.0, 10.0, 0.0, 20.0]

    edit(root, "train2017", change)
    task = made(root, short_side=120, long_side=160)
    targets = next(iter(batches_of(task, None))).targets
    assert targets.counts[:2].tolist() == [2, 2] and targets.crowd[0].tolist()[:2] == [True, False]
    assert targets.corners[0, 1].tolist() == [0.0, 0.0, 40.0, 120.0]
    assert targets.labels[0].tolist() == [0, 1, -1]
    text = "\n".join(task.summary().lines())
    assert "boxes: 18 training, 0 validation, 12 test" in text
    assert "crowds, which are not learned and which AP ignores: 1 training, 0 validation, 0 test" in text
    assert "left out, boxes outside their image (learned by no training; AP counts them): 1 (annotation " in text
    assert "left out, boxes without an area (learned by no training; AP counts them): 1 (annotation " in text
    said = "\n".join(task.verify())
    for words in ("lie outside their image", "have no area:", "reach beyond their image by more than a pixel"):
        assert f"1 of 21 annotations {words}" in said, words


def test_the_facts_tell_the_size_of_a_usual_batch(root: Path) -> None:
    facts = made(root, batch_size=2).facts()
    sizes = sorted(tuple(batch.images.shape[2:]) for batch in batches_of(made(root, batch_size=2), Seeds()))
    assert facts.inputs == (3, None, None) and facts.usual == (3, *facts.typical)
    assert sizes[0] <= facts.typical <= sizes[-1]
    with pytest.raises(InputError, match="what reads them needs images of one size"):
        _ = facts.image


# How the data are split and understood


def test_validation_images_are_held_out_by_the_seed(root: Path) -> None:
    tasks = [made(root, validation=3, split_seed=seed) for seed in (0, 2)]
    ids = [{objects(task, index).image for index in (4, 5, 6)} for task in tasks]
    assert tasks[0].facts().samples == (4, 3, 4) and ids[0] != ids[1]
    assert "leave none for training; lower task.validation" in refusal(made(root, validation=7))


def test_ids_with_gaps_become_classes_in_the_order_of_the_ids(root: Path) -> None:
    summary = made(root).summary()
    assert summary.classes == ("red", "green", "blue") and summary.counts == (11, 11, 11)
    assert summary.plain()["classes"][0] == {"name": "red", "boxes": 11}
    assert summary.plain()["boxes"]["test"] == {"objects": 12, "crowds": 0, "images_without": 0}


def test_classes_that_a_part_lacks_are_said(root: Path) -> None:
    def without_red(content: dict[str, Any]) -> None:
        content["annotations"] = [one for one in content["annotations"] if one["category_id"] != 3]

    edit(root, "val2017", without_red)
    task = made(root)
    assert task.facts().outputs == 3
    assert task.verify() == (
        "task.root: the test set has no box of 1 of the 3 classes, such as red; AP is the mean over the other classes",
    )


def test_images_without_an_entry_and_doubles_are_said(root: Path) -> None:
    shutil.copy(first(root, "train2017"), root / "train2017" / "more.png")
    assert "  left out, no entry in instances_train2017.json: 1 (train2017/more.png)" in made(root).summary().lines()
    taken = json.loads(file_of(root, "train2017").read_text())["images"][-1]
    target = first(root, "val2017")
    shutil.copy(first(root, "train2017"), target)

    def same_size(content: dict[str, Any]) -> None:
        content["images"][-1].update(height=taken["height"], width=taken["width"])

    edit(root, "val2017", same_size)
    assert "the training set holds 1 of the 4 test images too" in made(root).verify()[0]


def test_an_area_that_is_not_annotated_is_that_of_the_box(root: Path) -> None:
    edit(root, "val2017", lambda content: [one.pop("area") for one in content["annotations"]])
    task = made(root)
    found = objects(task, 7)
    assert found.areas.tolist() == (found.boxes[:, 2] * found.boxes[:, 3]).tolist()
    assert "12 of 12 annotations have no area of their own" in task.verify()[0]


@pytest.mark.parametrize("mode", ["L", "CMYK", "RGBA", "P"])
def test_gray_and_other_pictures_become_rgb(root: Path, mode: str) -> None:
    path = first(root, "train2017")
    Image.open(path).convert(mode).save(path, format="TIFF")
    task = made(root)
    assert task.verify() == ()
    assert next(iter(batches_of(task, None))).images.shape[1] == 3


@pytest.mark.parametrize("upright", [True, False])
def test_a_turned_photograph_is_shown_in_the_size_that_is_annotated(root: Path, upright: bool) -> None:
    path = first(root, "train2017")
    image = Image.open(path)
    tags = Image.Exif()
    tags[0x0112] = 6
    stored = image.transpose(Image.Transpose.ROTATE_90) if upright else image
    stored.save(path, format="PNG", exif=tags)
    said = made(root).verify()
    batch = next(iter(batches_of(made(root, short_side=image.height, long_side=image.width), None)))
    shown = (batch.images[0, :, : image.height, : image.width] * torch.tensor([0.229]) + 0.485)[0]
    assert torch.allclose(shown, torch.from_numpy(np.array(image)[..., 0]) / 255, atol=1e-5)
    assert bool(said) != upright
    assert upright or "1 photograph with an EXIF orientation have the annotated size only as they are stored" in said[0]


# What is refused


def test_damaged_images_and_other_sizes_are_counted_before_a_training_and_named_within_it(root: Path) -> None:
    paths = sorted((root / "train2017").iterdir())
    paths[0].write_bytes(b"<html>no</html>")
    paths[1].write_bytes(paths[1].read_bytes()[:300])
    Image.open(paths[2]).resize((40, 30)).save(paths[2])
    with pytest.raises(InputError) as caught:
        made(root).verify()
    said = str(caught.value)
    assert said.startswith("task.root: 3 of 7 images cannot be read; repair or remove:")
    assert f"{paths[0].name}: it is a web page and not an image" in said
    assert f"{paths[1].name}: it is damaged" in said
    assert f"{paths[2].name}: it has 40 x 30 pixels, but its annotation says 154 x 128" in said
    for workers in (0, 2):
        with pytest.raises(InputError, match="1 of 1 image cannot be read"):
            batches_of(made(root, workers=workers), None)


def test_a_file_that_vanishes_within_a_training_is_named(root: Path) -> None:
    task = made(root)
    task.facts()
    first(root, "train2017").unlink()
    with pytest.raises(RunError, match="vanished while the images were read"):
        batches_of(task, None)


@pytest.mark.parametrize("annotations", [True, False])
def test_a_pipe_is_refused_and_not_waited_for(root: Path, annotations: bool) -> None:
    file = file_of(root, "val2017") if annotations else first(root, "val2017")
    file.unlink()
    os.mkfifo(file)
    assert "cannot be read (it is a pipe or a device, not a file on a disk)" in refusal(made(root))


def test_missing_image_files_are_counted(root: Path) -> None:
    for path in sorted((root / "train2017").iterdir())[:5]:
        path.unlink()
    said = refusal(made(root))
    assert said.count("No such file or directory") == 3 and "(and 2 other files); repair or remove them" in said


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"root": "/nowhere/at/all"}, "there is no folder /nowhere/at/all; give the folder that holds train2017/"),
        ({"train": "train"}, "cannot be read (No such file or directory); "),
        ({"train": "train"}, "annotations has instances_train2017.json, instances_val2017.json"),
        ({"test_annotations": "boxes/val.json"}, "; there is no folder "),
        ({"train": "val2017", "train_annotations": "annotations/instances_train2017.json"}, "(and 4 other files)"),
    ],
)
def test_wrong_paths(root: Path, options: dict[str, Any], said: str) -> None:
    assert said in refusal(build("coco", **{"root": str(root), **OPTIONS, **options}))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"long_side": 50}, "task.long_side: 50 is below task.short_side (64)"),
        ({"multi_scale": []}, "task.multi_scale: the list is empty"),
        ({"prefetch": 2}, "task.prefetch: 2 does not apply where task.workers is 0"),
    ],
)
def test_options_that_contradict_one_another(root: Path, options: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError) as caught:
        made(root, **options)
    assert said in str(caught.value)


def _of_annotation(**facts: Any) -> Change:
    return lambda content: content["annotations"][1].update(facts)


CHANGES: dict[str, tuple[Change, str]] = {
    "captions": (
        lambda content: [one.pop("bbox") for one in content["annotations"]],
        "annotations.0.bbox: is required but missing",
    ),
    "no images": (lambda content: content.pop("images"), "images: is required but missing"),
    "an empty list of images": (lambda content: content.update(images=[], annotations=[]), "has no entry in images"),
    "no category": (lambda content: content.update(categories=[], annotations=[]), "has no entry in categories"),
    "no box": (lambda content: content.update(annotations=[]), "none of the 4 test images has a box in"),
    "an id twice": (_of_annotation(id=20001), "has several annotations with the same id: 20001"),
    "an image twice": (
        lambda content: content["images"].append(content["images"][0]),
        "has several images with the same",
    ),
    "a category twice": (
        lambda content: content["categories"].append({"id": 99, "name": "red"}),
        "has several categories with the same name: red",
    ),
    "an unknown image": (_of_annotation(image_id=77), "the image_id of 1 of 12 annotations is in no entry of images"),
    "an unknown category": (
        _of_annotation(category_id=77),
        "the category_id of 1 of 12 annotations is in no entry of categories",
    ),
    "another category": (
        lambda content: content["categories"].append({"id": 99, "name": "gray"}),
        "differ from those of",
    ),
    "a box of three": (_of_annotation(bbox=[1, 2, 3]), "annotations.1.bbox"),
    "a negative width": (
        _of_annotation(bbox=[1, 2, -3, 4]),
        "annotations.1.bbox.2: must be greater than or equal to 0",
    ),
    "not a number": (_of_annotation(bbox=[1, 2, float("nan"), 4]), "annotations.1.bbox.2: must be a finite number"),
    "text": (_of_annotation(bbox=["1", 2, 3, 4]), "annotations.1.bbox.0"),
    "a place beyond all images": (
        _of_annotation(bbox=[-1e308, 2, 3, 4]),
        "annotations.1.bbox.0: must be greater than -2147483648",
    ),
    "a side whose area no float holds": (
        lambda content: (
            content["annotations"][1].pop("area"),
            content["annotations"][1].update(bbox=[0, 0, 1e200, 1e200]),
        ),
        "annotations.1.bbox.2: must be less than 2147483648",
    ),
    "an area that no image has": (_of_annotation(area=1e308), "annotations.1.area: must be less than 46116860184273"),
    "a name that no file has": (
        lambda content: content["images"][0].update(file_name="a\0b.png"),
        r"a\x00b.png of instances_val2017.json cannot be read (embedded null byte)",
    ),
    "a crowd of 2": (_of_annotation(iscrowd=2), "annotations.1.iscrowd"),
    "an id that is text": (
        lambda content: content["images"][0].update(id="9"),
        "images.0.id: must be an integer, got '9'",
    ),
    "no width": (lambda content: content["images"][0].pop("width"), "images.0.width: is required but missing"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_annotations_that_contradict_themselves(root: Path, name: str) -> None:
    change, said = CHANGES[name]
    edit(root, "val2017", change)
    found = refusal(made(root))
    assert said in found and found.startswith("task.") and "instances_val2017.json" in found


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "cannot be read (Invalid JSON: EOF while parsing a value at line 1 column 0); give a file of boxes"),
        ("\0\0\0", "Invalid JSON"),
        ('{"images": [', "Invalid JSON"),
        ("[1, 2]", "must be a mapping (key: value), got [1, 2]"),
    ],
)
def test_files_that_are_no_json_and_no_coco(root: Path, text: str, said: str) -> None:
    file_of(root, "train2017").write_text(text)
    assert said in refusal(made(root))
