"""The contract of tasks: the data, and the batches of the data."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, TypeAlias

import pytest
import torch
from torch import Tensor, nn

from tskd_tune import networks
from tskd_tune.contracts import AnyBatch, Boxes
from tskd_tune.metrics import Part
from tskd_tune.records.kept.hits import unpacked
from tskd_tune.tasks import TASKS, Task, TaskFacts
from tskd_tune.tasks.hits import Hits, Scored
from tskd_tune.tasks.shards import Shard, sharded
from tskd_tune.testing.base import Contract, Options, check_description, own_options
from tskd_tune.training.compute import Compute
from tskd_tune.training.evaluation import evaluate

CPU = torch.device("cpu")
PARTS: tuple[Part, ...] = ("validation", "test")
Make: TypeAlias = Callable[..., Task]
"""Makes the task under test, with options laid over its own."""


@dataclass(frozen=True)
class Seeds:
    """Streams of random numbers with separate seeds for the order and for the augmentation."""

    order: int = 1
    augmentation: int = 2

    def generator(self, purpose: str) -> torch.Generator:
        """Return the generator of a purpose."""
        return torch.Generator().manual_seed({"order": self.order, "augmentation": self.augmentation}[purpose])


def tensors_of(batch: AnyBatch) -> dict[str, Tensor]:
    """Return the tensors of a batch by name: images, indices, sizes, and the targets or the parts of `Boxes`."""
    targets = vars(batch.targets) if isinstance(batch.targets, Boxes) else {"targets": batch.targets}
    every = {"images": batch.images, **targets, "indices": batch.indices, "sizes": batch.sizes}
    return {name: tensor for name, tensor in every.items() if tensor is not None}


def shown_to_network(batch: AnyBatch) -> list[bytes]:
    """Return each image of a batch without its padding, as bytes."""
    sizes = [image.shape[1:] for image in batch.images] if batch.sizes is None else batch.sizes.tolist()
    pairs = zip(batch.images, sizes, strict=True)
    return [image[:, :height, :width].contiguous().numpy().tobytes() for image, (height, width) in pairs]


def batches_of(task: Task, seeds: Seeds | None, start: int = 0) -> list[AnyBatch]:
    """Return the batches of one training epoch, from the step ``start`` on."""
    feed = task.training(CPU)
    return [feed.batch(draw) for draw in feed.draws(seeds, start)]


def shown(task: Task, part: Part) -> list[AnyBatch]:
    """Return the batches of an evaluation."""
    feed = task.evaluation(part, CPU)
    return [feed.batch(draw) for draw in feed.draws()]


def evaluated(task: Task, part: Part) -> Tensor:
    """Return all images of the validation or test set, in the order of an evaluation."""
    return torch.cat([batch.images for batch in shown(task, part)])


def epoch(task: Task, order: int = 1, augmentation: int = 2) -> list[Tensor]:
    """Return the tensors of every batch of one epoch, batch by batch: for classes images, targets and indices."""
    return [tensor for batch in batches_of(task, Seeds(order, augmentation)) for tensor in tensors_of(batch).values()]


def equal(first: list[Tensor], second: list[Tensor]) -> bool:
    """Tell whether two lists hold the same tensors, bit for bit."""
    return len(first) == len(second) and all(map(torch.equal, first, second))


def observed(task: Task) -> list[Tensor]:
    """Return all tensors of a task that a training and its evaluations use."""
    evaluations = [tensor for part in PARTS for batch in shown(task, part) for tensor in tensors_of(batch).values()]
    return [*epoch(task), *evaluations]


def images_of(batches: Sequence[AnyBatch]) -> set[bytes]:
    """Return the images of some batches, without their padding, as bytes."""
    return {image for batch in batches for image in shown_to_network(batch)}


class TaskContract(Contract):
    """The requirements for every task. With ``options`` a task must have a validation set and three training batches.

    Attributes:
        flips: option -> options with which the data, their order or their augmentation differ; every option needs an
            entry, except the options in ``unseen``.
        unseen: options that do not change the data, such as the folder of the data.
        unaugmented: options that turn off every augmentation.
    """

    unseen: ClassVar[frozenset[str]] = frozenset()
    unaugmented: ClassVar[Options] = {}

    def unseen_of(self, name: str) -> frozenset[str]:
        """Return the options of a component that do not change the data."""
        return self.unseen

    def unaugmented_of(self, name: str) -> Options:
        """Return the options that turn off every augmentation of a component."""
        return self.unaugmented

    @pytest.fixture
    def make(self, name: str) -> Make:
        """Return the function that makes the task."""
        return lambda **over: TASKS.build(name, **{**self.options_of(name), **over})

    def network(self, facts: TaskFacts) -> nn.Module:
        """Return a network for the task's samples; override it for a task whose output is no classification."""
        return networks.build("resnet8", facts.outputs, facts.image[0])

    def test_the_facts_are_what_is_loaded(self, make: Make) -> None:
        """Classes, shapes and numbers of samples in the facts are those of the data."""
        task = make()
        facts = task.facts()
        targets = task.training(CPU).targets
        assert targets.dtype == (torch.int64 if facts.classes or facts.boxes else torch.float32)
        if facts.classes:
            assert targets.shape == (facts.samples[0],)
            assert sorted(set(targets.tolist())) == list(range(facts.outputs))
        for part, samples in zip(PARTS, facts.samples[1:], strict=True):
            assert sum(len(batch.images) for batch in shown(task, part)) == samples
        for batch in [*batches_of(task, Seeds()), *(batch for part in PARTS for batch in shown(task, part))]:
            lengths = zip(batch.images.shape[1:], facts.inputs, strict=True)
            assert all(wanted in (None, length) for length, wanted in lengths)
            assert isinstance(batch.targets, Boxes) == facts.boxes

    def test_the_metrics_that_are_declared_are_those_that_are_measured(self, make: Make) -> None:
        """An evaluation gives a finite number for each metric of the facts, in the same order, and no other number.

        Where the objective is right or wrong about each sample, the share of the right ones is its metric.
        """
        task = make()
        facts, feed = task.facts(), task.evaluation("test", CPU)
        hits = Hits(task.objective, feed.targets) if isinstance(task.objective, Scored) else None
        found = evaluate(self.network(facts), feed, task.meter(), Compute(CPU), [] if hits is None else [hits])
        if hits is not None:
            right = unpacked(hits.packed(), facts.samples[2])
            assert 100 * right.mean() == pytest.approx(found[hits.scored.hit_metric().name])
        assert list(found) == [metric.name for metric in facts.metrics]
        assert bool(torch.tensor(list(found.values())).isfinite().all())

    def test_an_epoch_shows_every_sample_once_with_its_own_target(self, make: Make) -> None:
        """Every index comes once and with its target, and the number of batches is the task's."""
        task = make()
        batches = batches_of(task, Seeds())
        facts = task.facts()
        indices = torch.cat([batch.indices for batch in batches])
        assert indices.sort().values.tolist() == list(range(task.facts().samples[0]))
        if not facts.boxes:
            assert torch.equal(torch.cat([batch.targets for batch in batches]), task.training(CPU).targets[indices])
        assert len(batches) == task.steps() == task.training(CPU).steps()
        assert all(batch.images.dtype == torch.float32 for batch in batches)
        assert min(len(batch.images) for batch in batches) > 1

    def test_the_same_generators_give_the_same_bits(self, make: Make) -> None:
        """Order and augmentation depend only on the streams."""
        assert equal(epoch(make()), epoch(make()))

    def test_an_epoch_can_begin_within_itself(self, make: Make) -> None:
        """A resume within an epoch gets the remaining batches, bit for bit."""
        task = make()
        whole, rest = batches_of(task, Seeds()), batches_of(task, Seeds(), start=2)
        assert len(rest) == len(whole) - 2 > 0
        for mine, theirs in zip(rest, whole[2:], strict=True):
            assert torch.equal(mine.images, theirs.images) and torch.equal(mine.indices, theirs.indices)

    def test_the_shares_of_two_workers_are_the_batches_of_one(self, make: Make) -> None:
        """Shares are contiguous and augmented as the whole batch is; a batch that is not split is equal for both."""
        whole = batches_of(make(), Seeds())
        feeds = [sharded(make().training(CPU), Shard(rank, 2, least=2)) for rank in range(2)]
        draws = zip(*(feed.draws(Seeds()) for feed in feeds), strict=True)
        for wanted, both in zip(whole, draws, strict=True):
            parts = [feed.batch(draw) for feed, draw in zip(feeds, both, strict=True)]
            assert {draw.sizes for draw in both} == {Shard(0, 2, least=2).sizes(len(wanted.images))}
            joined = parts if both[0].sizes else parts[:1]
            for name, tensor in tensors_of(wanted).items():
                assert torch.equal(torch.cat([tensors_of(part)[name] for part in joined]), tensor), name

    def test_without_streams_every_sample_comes_in_order_as_it_is(self, name: str, make: Make) -> None:
        """Without streams, nothing is shuffled or augmented."""
        task = make()
        plain = batches_of(task, None)
        assert torch.cat([batch.indices for batch in plain]).tolist() == list(range(task.facts().samples[0]))
        bare = batches_of(make(**self.unaugmented_of(name)), None)
        assert all(torch.equal(mine.images, theirs.images) for mine, theirs in zip(plain, bare, strict=True))

    def test_another_order_shows_the_same_images_in_another_order(self, make: Make) -> None:
        """The augmentation of a sample does not depend on the sample's place in the epoch."""
        task = make()
        first, second = (
            {
                index: image
                for batch in batches_of(task, Seeds(order))
                for index, image in zip(batch.indices.tolist(), shown_to_network(batch), strict=True)
            }
            for order in (1, 3)
        )
        assert list(first) != list(second)
        assert first == second

    def test_another_augmentation_shows_the_same_order(self, make: Make) -> None:
        """The order of the samples does not depend on the stream of the augmentation."""
        task = make()
        plain, other = (batches_of(task, Seeds(augmentation=seed))[0].indices for seed in (2, 5))
        assert torch.equal(plain, other)

    def test_the_parts_share_no_image(self, name: str, make: Make) -> None:
        """No image of the training set is in the validation or the test set."""
        task = make(**self.unaugmented_of(name))
        training = images_of(batches_of(task, Seeds()))
        validation, test = (images_of(shown(task, part)) for part in PARTS)
        assert len(training) == task.facts().samples[0]
        assert training.isdisjoint(validation) and training.isdisjoint(test) and validation.isdisjoint(test)

    def test_every_option_changes_what_is_seen(self, name: str, make: Make) -> None:
        """Every option has an effect: each entry of ``flips`` changes the data of a training or an evaluation."""
        flips = self.flips_of(name)
        assert set(flips) | self.unseen_of(name) == own_options(TASKS, name), "flips needs an entry for every option"
        plain = observed(make())
        for option, other in flips.items():
            assert not equal(observed(make(**other)), plain), f"{option} changes nothing"

    def test_the_fingerprint_changes_with_what_is_seen_but_for_the_batch_size(self, name: str, make: Make) -> None:
        """The fingerprint identifies all data of a cached teacher. The batch size is part of the teacher's recipe."""
        plain = make().fingerprint()
        assert make().fingerprint() == plain
        for option, other in self.flips_of(name).items():
            assert (make(**other).fingerprint() != plain) == (option != "batch_size"), option

    def test_the_summary_is_what_is_loaded(self, make: Make) -> None:
        """The summary that `check` prints is true for the data."""
        task = make()
        found = task.summary()
        loaded = [batches_of(task, None), *(shown(task, part) for part in PARTS)]
        assert found.samples == tuple(sum(len(batch.images) for batch in part) for part in loaded)
        facts = task.facts()
        assert len(found.classes) == (facts.outputs if facts.classes or facts.boxes else 0)
        assert (found.boxes is not None) == task.facts().boxes
        if found.counts is not None:
            labels = [
                tensors_of(batch)["labels" if task.facts().boxes else "targets"] for part in loaded for batch in part
            ]
            loaded_labels = torch.cat([each.flatten() for each in labels])
            assert list(found.counts) == (
                torch.bincount(loaded_labels[loaded_labels >= 0], minlength=len(found.classes)).tolist()
            )
        assert "\n".join(found.lines()).isascii()
        assert json.loads(json.dumps(found.plain()))["parts"]["training"]["images"] == found.samples[0]

    def test_sound_data_is_verified_without_a_word(self, make: Make) -> None:
        """Correct data give no warning."""
        assert list(make().verify()) == []

    def test_it_is_described(self, name: str) -> None:
        """The task and its options have descriptions."""
        check_description(TASKS, name)
