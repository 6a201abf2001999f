"""A streamed training sees the bits of a resident one, with any number of workers, from any step on."""

from __future__ import annotations

import gc
import multiprocessing
import pickle
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch
from PIL import Image
from torch import Tensor

from tskd_tune.errors import InputError, RunError
from tskd_tune.experiment import Experiment
from tskd_tune.experiment.identity import identity
from tskd_tune.experiment.ready import build_trainer
from tskd_tune.tasks import build, decoders, decoding
from tskd_tune.tasks.base import Feed, Task
from tskd_tune.tasks.cuts import PaddedCut
from tskd_tune.tasks.file_samples import FileSamples
from tskd_tune.tasks.images import Augmentation
from tskd_tune.tasks.resident import OWNER
from tskd_tune.tasks.shards import Shard, sharded
from tskd_tune.tasks.streamed import Cropped, StreamedFeed
from tskd_tune.training.streams import Streams

CPU = torch.device("cpu")
OPTIONS: dict[str, Any] = {"size": 8, "batch_size": 6, "validation": 6, "padding": 2}


@pytest.fixture(autouse=True)
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("TSKD_TUNE_DATA", str(tmp_path / "data"))
    OWNER.clear()
    yield tmp_path / "data"
    OWNER.clear()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    stream = np.random.default_rng(5)
    for name in "abc":
        (tmp_path / "set" / name).mkdir(parents=True)
        for number in range(12):
            pixels = stream.integers(0, 256, (9, 11, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "set" / name / f"{number:02}.png")
    return tmp_path / "set"


def made(root: Path, **options: Any) -> Task:
    return build("image_folder", root=str(root), **{**OPTIONS, **options})


def seen(feed: Feed, epoch: int | None = 0, start: int = 0) -> list[tuple[Tensor, Tensor, Tensor]]:
    streams = None if epoch is None else Streams(1, epoch)
    batches = [feed.batch(draw) for draw in feed.draws(streams, start)]
    return [(batch.images, batch.targets, batch.indices) for batch in batches]


def same(first: list[tuple[Tensor, ...]], second: list[tuple[Tensor, ...]]) -> bool:
    return len(first) == len(second) and all(
        torch.equal(mine, theirs)
        for one, other in zip(first, second, strict=True)
        for mine, theirs in zip(one, other, strict=True)
    )


@pytest.mark.parametrize("workers", [0, 1, 3])
@pytest.mark.parametrize("normalization", ["measured", "imagenet"])
def test_every_batch_has_the_bits_of_the_resident_feed(root: Path, workers: int, normalization: str) -> None:
    resident = made(root, normalization=normalization)
    mine = made(root, normalization=normalization, feed="streamed", workers=workers)
    kept, stream = resident.training(CPU), mine.training(CPU)
    assert torch.equal(kept.targets, stream.targets)
    assert kept.steps() == stream.steps() == mine.steps() == 4
    for epoch in (0, 3):
        assert same(seen(stream, epoch), seen(kept, epoch))
    assert same(seen(stream, None), seen(kept, None))
    assert not same(seen(stream, 0), seen(stream, 1))
    for part in ("validation", "test"):
        assert same(seen(mine.evaluation(part, CPU), None), seen(resident.evaluation(part, CPU), None))  # type: ignore[arg-type]


def test_an_evaluation_has_the_batches_of_the_resident_feed(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tskd_tune.tasks.images.CPU_EVALUATION_VALUES", 3 * 64 * 4)
    batches = [seen(made(root, feed=feed).evaluation("test", CPU), None) for feed in ("resident", "streamed")]
    assert [len(indices) for _, _, indices in batches[0]] == [4, 3]
    assert same(*batches)


@pytest.mark.parametrize("workers", [0, 2])
def test_an_epoch_can_begin_within_itself_and_be_left(root: Path, workers: int) -> None:
    feed = made(root, feed="streamed", workers=workers).training(CPU)
    whole = seen(feed, 2)
    left = feed.draws(Streams(1, 2))
    next(left)
    assert same(seen(feed, 2, start=3), whole[3:])
    assert same(seen(feed, 2), whole)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_share_of_a_batch_alone_is_decoded(root: Path, workers: int) -> None:
    whole = seen(made(root, feed="streamed", workers=workers).training(CPU))
    parts = []
    for rank in range(2):
        feed = sharded(made(root, feed="streamed", workers=workers).training(CPU), Shard(rank, 2, least=2))
        assert isinstance(feed, StreamedFeed)
        parts.append(seen(feed))
        assert seen(feed, start=1)[0][2].tolist() == parts[-1][1][2].tolist()
    for wanted, first, second in zip(whole, *parts, strict=True):
        if len(wanted[2]) < 4:
            assert same([wanted], [first]) and same([wanted], [second])
        else:
            joined = [torch.cat(pair) for pair in zip(first, second, strict=True)]
            assert all(map(torch.equal, joined, wanted))


def test_a_streamed_training_ends_as_a_resident_one(root: Path) -> None:
    def trained(**options: Any) -> tuple[list[Tensor], list[Mapping[str, float]]]:
        experiment = Experiment.read(
            {
                "task": {"name": "image_folder", "root": str(root), **OPTIONS, **options},
                "student": "resnet8",
                "review": None,
                "training": {"epochs": 2, "lr": 0.05, "device": "cpu"},
            }
        )
        trainer = build_trainer(experiment)
        history = [trainer.epoch() for _ in range(2)]
        numbers = [record.numbers for record in history]
        return list(trainer.student.state_dict().values()), numbers

    resident = trained()
    for workers in (0, 2):
        weights, history = trained(feed="streamed", workers=workers)
        assert all(map(torch.equal, weights, resident[0]))
        assert history == resident[1]


def test_nothing_is_kept_but_the_measured_normalization(
    root: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = made(root, feed="streamed", workers=0)
    assert list(task.verify()) == []
    first = task.training(CPU)
    assert [path.suffixes for path in (data / "decoded").iterdir() if path.suffix != ".lock"] == [
        [".normalization", ".json"]
    ]
    expected = made(root).source.read().normalization  # type: ignore[attr-defined]
    monkeypatch.setattr(decoding, "_decode", None)
    again = made(root, feed="streamed", workers=0)
    assert again.source.normalization() == expected  # type: ignore[attr-defined]
    assert again.training(CPU).steps() == first.steps()


def test_damaged_and_vanished_files_are_named_by_a_sentence(root: Path) -> None:
    for workers in (0, 2):
        feed = made(root, normalization="imagenet", feed="streamed", workers=workers).training(CPU)
        victim = next(iter(root.rglob("*.png")))
        content = victim.read_bytes()
        for path in root.rglob("*.png"):
            path.write_bytes(b"")
        with pytest.raises(InputError, match=r"^task.root: 1 of 1 image cannot be read; .*\n  .*: it is empty$"):
            seen(feed)
        for path in root.rglob("*.png"):
            path.unlink()
        with pytest.raises(RunError, match=r"^task: .*png vanished while the images were read") as gone:
            seen(feed)
        assert "task.workers" not in str(gone.value), "the remedy is not that of a dead worker"
        for name in "abc":
            for number in range(12):
                (root / name / f"{number:02}.png").write_bytes(content)


def test_an_error_of_the_samples_own_code_is_not_taken_for_a_dead_worker(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    feed = made(root, normalization="imagenet", feed="streamed", workers=0).training(CPU)

    def broken(loader: object) -> Any:
        raise RuntimeError("a mistake of one's own")
        yield

    monkeypatch.setattr(feed, "_loader", broken(None))
    with pytest.raises(RuntimeError, match="a mistake of one's own") as raised:
        seen(feed)
    assert not isinstance(raised.value, RunError)


def test_all_damaged_files_are_counted_before_a_training(root: Path) -> None:
    for path in sorted(root.rglob("*.png"))[:3]:
        path.write_bytes(b"")
    with pytest.raises(InputError, match=r"3 of 36 images cannot be read; repair or remove:"):
        made(root, feed="streamed").verify()


def children() -> set[int]:
    return {child.pid for child in psutil.Process().children(recursive=True)}


def gone(pids: set[int], within: float = 120.0) -> bool:
    deadline = time.monotonic() + within
    while time.monotonic() < deadline:
        gc.collect()
        if not pids & children():
            return True
        time.sleep(0.05)
    return False


def test_workers_start_once_and_end_with_the_feed(root: Path) -> None:
    before = children()
    feed = made(root, feed="streamed", workers=2).training(CPU)
    assert children() == before
    seen(feed)
    workers = children() - before
    assert len(workers) == 2
    seen(feed, 1)
    assert children() - before == workers
    del feed
    assert gone(workers)


def test_workers_outlive_ctrl_c(root: Path) -> None:
    before = children()
    feed = made(root, feed="streamed", workers=2).training(CPU)
    draws = feed.draws(Streams(1, 0))
    of_both_workers = [next(draws), next(draws)]
    for pid in children() - before:
        psutil.Process(pid).send_signal(signal.SIGINT)
    assert len([*of_both_workers, *draws]) == feed.steps()


def test_a_worker_that_dies_is_said(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def dying() -> Iterator[Any]:
        raise RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed.")
        yield

    feed = made(root, feed="streamed", workers=1).training(CPU)
    monkeypatch.setattr(feed, "_loader", dying())
    words = r"task: a process that decodes images ended \(DataLoader worker .* Killed\.\); lower task.workers"
    with pytest.raises(RunError, match=words):
        next(feed.draws(Streams(1, 0)))


def test_workers_can_be_started_as_on_a_mac(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    task = made(root, feed="streamed", workers=1)
    expected = seen(made(root).training(CPU))
    plain = decoders.DataLoader

    def spawned(*args: Any, **options: Any) -> Any:
        return plain(*args, multiprocessing_context=multiprocessing.get_context("spawn"), **options)

    monkeypatch.setattr(decoders, "DataLoader", spawned)
    assert same(seen(task.training(CPU)), expected)


def test_what_workers_get_can_be_pickled_and_is_small(root: Path) -> None:
    samples = made(root, feed="streamed").source.samples("training")  # type: ignore[attr-defined]
    assert isinstance(samples, FileSamples)
    assert len(pickle.dumps(Cropped(samples, PaddedCut(Augmentation(2, flip=True))))) < 10_000


def test_torchs_global_generator_is_left_alone(root: Path) -> None:
    feed = made(root, feed="streamed", workers=2).training(CPU)
    torch.manual_seed(3)
    before = torch.get_rng_state()
    seen(feed)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"workers": 2}, r"task.workers: 2 does not apply where task.feed is 'resident'"),
        ({"prefetch": 2}, r"task.prefetch: 2 does not apply where task.feed is 'resident'"),
        ({"feed": "streamed", "workers": 0, "prefetch": 2}, r"task.prefetch: 2 does not apply where task.workers is 0"),
    ],
)
def test_options_that_do_not_apply_are_refused(root: Path, options: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        made(root, **options)


def test_a_streamed_training_needs_no_memory_for_its_images_and_finds_the_teachers_of_a_resident_one(
    root: Path,
) -> None:
    resident, mine = made(root), made(root, feed="streamed")
    facts = mine.facts()
    assert resident.feeding.bytes_held(facts) == 36 * (3 * 64 + 32)
    assert mine.feeding.bytes_held(facts) == 36 * 32
    assert mine.fingerprint() == resident.fingerprint()


def test_workers_and_prefetch_reach_the_loader(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made_with: list[tuple[int, int | None]] = []
    plain: Callable[..., Any] = decoders.DataLoader

    def watched(*args: Any, **options: Any) -> Any:
        made_with.append((options["num_workers"], options["prefetch_factor"]))
        return plain(*args, **options)

    monkeypatch.setattr(decoders, "DataLoader", watched)
    monkeypatch.setattr("os.cpu_count", lambda: 3)
    for options in ({}, {"workers": 2}, {"workers": 1, "prefetch": 5}, {"workers": 0}, {"workers": 99}):
        made(root, feed="streamed", **options).training(CPU)
    assert made_with == [(3, 2), (2, 2), (1, 5), (0, None), (4, 2)]  # never more than an epoch has batches


def test_how_images_are_fed_gives_a_training_no_other_name() -> None:
    def name(**options: Any) -> str:
        task = {"name": "image_folder", "root": "/images", **options}
        return identity(Experiment.read({"task": task, "student": "resnet8", "review": None}))

    assert name() == name(feed="streamed") == name(feed="streamed", workers=3, prefetch=1)
    assert name() != name(size=16)
