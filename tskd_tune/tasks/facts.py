"""What is known of a task before its data are loaded."""

from __future__ import annotations

from dataclasses import dataclass

from tskd_tune.errors import InputError, shown
from tskd_tune.metrics import Metric

PROBED = 128
"""The pixels of a side whose length varies, in a test forward: enough for every level of a pyramid."""


@dataclass(frozen=True)
class TaskFacts:
    """What is known of a task before its data are loaded: enough to build networks and to time a step.

    Attributes:
        inputs: the shape of a sample, channels, height and width for an image; None for a length that varies.
        outputs: how many numbers a network gives for a sample: the number of classes, for classification.
        samples: the number of training, validation and test samples.
        metrics: what the task measures, the headline first; a source leaves them out, and the task adds those of its
            objective.
        classes: whether each sample belongs to one of ``outputs`` classes, and its target is the number of its class.
        typical: height and width of a usual batch of the training set, in pixels, where images have different sizes.
        boxes: whether the targets of a batch are `tskd_tune.contracts.Boxes`, which a detector learns.
    """

    inputs: tuple[int | None, ...]
    outputs: int
    samples: tuple[int, int, int]
    metrics: tuple[Metric, ...] = ()
    classes: bool = True
    boxes: bool = False
    typical: tuple[int, int] | None = None

    @property
    def image(self) -> tuple[int, int, int]:
        """The channels, height and width of every sample.

        Raises:
            InputError: the samples are no images of one size.
        """
        known = [length for length in self.inputs if length is not None]
        if len(known) != 3 or len(self.inputs) != 3:
            raise InputError(
                f"task: its samples have the shape {[*self.inputs]}, but what reads them needs images of one size,"
                " [channels, height, width]; give images a size in the source"
            )
        channels, height, width = known
        return channels, height, width

    @property
    def probe(self) -> tuple[int, int, int]:
        """The channels, height and width of an image for a test forward: as `image`, or 128 pixels for what varies."""
        if len(self.inputs) != 3 or self.inputs[0] is None:
            return self.image
        channels, height, width = (length or PROBED for length in self.inputs)
        return channels, height, width

    @property
    def usual(self) -> tuple[int, int, int]:
        """The channels, height and width of a usual batch: as `image`, or `typical` pixels for sizes that vary."""
        return self.probe if self.typical is None else (self.probe[0], *self.typical)

    @property
    def headline(self) -> Metric:
        """The metric by which networks are compared: the first.

        Raises:
            InputError: the task declares no metric.
        """
        if not self.metrics:
            raise InputError("task: the task declares no metric; return at least one from Objective.metrics")
        return self.metrics[0]


def declared_metrics(found: object, objective: str) -> tuple[Metric, ...]:
    """Return the metrics that an objective declares.

    Args:
        found: what its `metrics` gave.
        objective: the name of its class, for the message.

    Raises:
        InputError: they are no metrics, one has no direction, or two have one name.
    """
    where = f"task: {objective}.metrics"
    if not isinstance(found, tuple | list) or not all(isinstance(metric, Metric) for metric in found):
        raise InputError(f"{where} gave {shown(found)}, but must give a tuple of Metric, such as (ERROR,)")
    wrong = [metric for metric in found if metric.mode not in ("max", "min")]
    if wrong:
        raise InputError(f"{where}: the mode of '{wrong[0].name}' must be max or min, got {shown(wrong[0].mode)}")
    names = [metric.name for metric in found]
    if len(set(names)) < len(names):
        raise InputError(f"{where} gave two metrics of one name ({', '.join(names)}); give each its own name")
    return tuple(found)
