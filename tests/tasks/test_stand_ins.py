"""What facts tell, and what stands in for data before they are loaded, also where samples are no classified images."""

from __future__ import annotations

import pytest
import torch

from tskd_tune.errors import InputError
from tskd_tune.tasks.base import TaskFacts, summary_of
from tskd_tune.tasks.stand_ins import stand_in_batch, stand_in_targets

IMAGES = TaskFacts(inputs=(3, 8, 9), outputs=2, samples=(5, 0, 2))
VARYING = TaskFacts(inputs=(3, None, None), outputs=4, samples=(5, 0, 2), classes=False)


def test_images_of_classes_have_a_size_and_names() -> None:
    assert IMAGES.image == (3, 8, 9)
    found = summary_of(IMAGES)
    assert (found.classes, found.size) == (("0", "1"), (9, 8))
    assert found.lines()[1:] == ["  2 classes: 0, 1", "  images: 5 training, 0 validation, 2 test", "  sizes: 9 x 8"]
    assert stand_in_targets(IMAGES).tolist() == [0, 1, 0, 1, 0]
    batch = stand_in_batch(IMAGES, 3, torch.device("cpu"))
    assert batch.images.shape == (3, 3, 8, 9) and batch.targets.tolist() == [0, 1, 0] and batch.sizes is None


def test_of_other_samples_nothing_is_assumed() -> None:
    found = summary_of(VARYING, "boxes")
    assert (found.classes, found.size) == ((), None) and found.plain()["size"] is None
    assert found.lines() == ["data: boxes", "  samples: 5 training, 0 validation, 2 test"]
    assert stand_in_targets(VARYING).shape == (5, 4)
    with pytest.raises(InputError, match=r"its samples have the shape \[3, None, None\], but what reads them"):
        _ = VARYING.image
