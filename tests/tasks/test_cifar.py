from __future__ import annotations

import hashlib
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision

from tskd_tune.errors import InputError, RunError
from tskd_tune.tasks import build
from tskd_tune.tasks import cifar as module
from tskd_tune.tasks.cifar import KNOWN, CifarImages, Known
from tskd_tune.training.streams import Streams

CPU = torch.device("cpu")
NOWHERE = "http://127.0.0.1:9/archive.tar.gz"
EACH = {"cifar10": (4, 2), "cifar100": (3, 1)}


def pixels(samples: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (samples, 3072), dtype=np.uint8)


def dump(path: Path, content: object) -> list[str]:
    path.write_bytes(pickle.dumps(content))
    return [path.name, hashlib.md5(path.read_bytes()).hexdigest()]


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Both sets in their own layout, with a few images of each class; torchvision told their checksums."""
    for name, (train_each, test_each) in EACH.items():
        known = KNOWN[name]
        dataset = getattr(torchvision.datasets, known.dataset)
        folder = tmp_path / dataset.base_folder
        folder.mkdir()
        key = "labels" if name == "cifar10" else "fine_labels"
        lists: dict[str, list[list[str]]] = {}
        for part, each in (("train_list", train_each), ("test_list", test_each)):
            files = [file for file, _ in getattr(dataset, part)]
            labels = np.arange(known.classes * each) % known.classes
            shares = np.array_split(labels, len(files))
            lists[part] = [
                dump(folder / file, {"data": pixels(len(share), seed), key: share.tolist()})
                for seed, (file, share) in enumerate(zip(files, shares, strict=True))
            ]
        meta = dataset.meta
        names = [f"class {label}" for label in range(known.classes)]
        _, md5 = dump(folder / meta["filename"], {meta["key"]: names})
        monkeypatch.setattr(dataset, "train_list", lists["train_list"])
        monkeypatch.setattr(dataset, "test_list", lists["test_list"])
        monkeypatch.setattr(dataset, "meta", meta | {"md5": md5})
        monkeypatch.setattr(dataset, "url", NOWHERE)
        monkeypatch.setitem(module.KNOWN, name, Known(known.dataset, known.classes, train_each, test_each))
    return tmp_path


def source(
    name: str,
    root: Path | None,
    validation: int = 0,
    split_seed: int = 0,
    fraction: float | None = None,
    download: bool = False,
):
    return CifarImages(
        name,
        validation=validation,
        split_seed=split_seed,
        fraction=fraction,
        constants="cifar10",
        root=None if root is None else str(root),
        download=download,
    )


def test_the_real_sizes_are_known_without_files() -> None:
    assert build("cifar100", validation=5000).facts().samples == (45_000, 5000, 10_000)
    assert build("cifar10").facts().samples == (50_000, 0, 10_000)
    assert (build("cifar100").facts().outputs, build("cifar10").facts().outputs) == (100, 10)
    assert build("cifar100", batch_size=128).steps() == 391
    assert build("cifar100", batch_size=64).steps() == 782


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_images_are_read_as_torchvision_reads_them(name: str, small: Path) -> None:
    read = source(name, small).read()
    for part, train in ((read.training, True), (read.test, False)):
        theirs = getattr(torchvision.datasets, KNOWN[name].dataset)(small, train=train)
        assert len(theirs) == len(part.targets) == KNOWN[name].classes * EACH[name][0 if train else 1]
        for image, target, (picture, label) in zip(part.images, part.targets, theirs, strict=True):
            assert np.array_equal(image.permute(1, 2, 0).numpy(), np.asarray(picture))
            assert target == label


def test_the_validation_part_comes_out_of_the_training_part(small: Path) -> None:
    whole, split = source("cifar10", small).read(), source("cifar10", small, validation=10).read()
    assert torch.bincount(split.validation.targets).tolist() == [1] * 10
    assert torch.bincount(split.training.targets).tolist() == [3] * 10
    both = torch.cat([split.training.images, split.validation.images]).flatten(1).tolist()
    assert sorted(both) == sorted(whole.training.images.flatten(1).tolist())
    assert torch.equal(split.test.images, whole.test.images)
    other = source("cifar10", small, validation=10, split_seed=1).read()
    assert not torch.equal(other.validation.images, split.validation.images)


def test_a_fraction_is_chosen_out_of_what_is_left_to_train_on(small: Path) -> None:
    whole = source("cifar10", small, validation=10).read()
    part = source("cifar10", small, validation=10, fraction=0.5).read()
    one = source("cifar10", small, validation=10, fraction=0.2).read()
    assert torch.bincount(part.training.targets).tolist() == [2] * 10
    assert torch.bincount(one.training.targets).tolist() == [1] * 10
    rows = [{image.numpy().tobytes() for image in parts.training.images} for parts in (one, part, whole)]
    assert rows[0] < rows[1] < rows[2]
    assert torch.equal(part.validation.images, whole.validation.images)
    assert torch.equal(part.test.images, whole.test.images)
    assert source("cifar10", small, validation=10, fraction=0.5).facts().samples == (20, 10, 20)


def test_facts_of_a_fraction_of_the_real_set() -> None:
    assert build("cifar100", validation=5000, fraction=0.1).facts().samples == (4500, 5000, 10_000)
    assert build("cifar10", fraction=0.01).facts().samples == (500, 0, 10_000)
    with pytest.raises(
        InputError, match=r"task.fraction: 0.0005 of the 500 training images of class 'apple' is not one"
    ):
        build("cifar100", fraction=0.0005).facts()


def test_the_normalizations_are_those_of_the_field() -> None:
    ten, hundred = module.NORMALIZATIONS["cifar10"], module.NORMALIZATIONS["cifar100"]
    assert ten.mean == pytest.approx((0.4914, 0.4824, 0.4467), abs=5e-5)
    assert ten.std == pytest.approx((0.2471, 0.2435, 0.2616), abs=5e-5)
    assert (hundred.mean, hundred.std) == ((0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761))


def test_the_normalization_is_an_option_and_each_set_has_its_own(small: Path) -> None:
    def first(name: str, **options: str) -> torch.Tensor:
        task = build(name, root=str(small), padding=0, flip=False, **options)
        feed = task.training(CPU)
        return feed.batch(next(feed.draws(Streams(1, 0)))).images

    for name, other in (("cifar10", "cifar100"), ("cifar100", "cifar10")):
        assert torch.equal(first(name), first(name, normalization=name))
        assert not torch.equal(first(name), first(name, normalization=other))


def test_the_folder_is_the_data_folder_by_default(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TSKD_TUNE_DATA", str(small))
    assert len(source("cifar10", None).read().training.targets) == 40


def test_missing_files_that_may_not_be_downloaded_are_refused_by_facts(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"cifar100 is not in .*cifar-100-python.tar.gz.*there and unpack it"):
        source("cifar100", tmp_path).facts()


def test_a_folder_that_cannot_be_written_is_refused_by_facts(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"cannot be written.*task.root"):
        source("cifar100", tmp_path / "file", download=True).facts()


def test_a_broken_file_is_refused(small: Path) -> None:
    (small / "cifar-100-python" / "train").write_bytes(b"broken")
    with pytest.raises(InputError, match=r"not whole in .* \(train damaged \(another checksum than torchvision knows"):
        source("cifar100", small).read()


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_truncated_and_missing_files_are_all_named(name: str, small: Path) -> None:
    dataset = getattr(torchvision.datasets, KNOWN[name].dataset)
    folder = small / dataset.base_folder
    first, test = dataset.train_list[0][0], dataset.test_list[0][0]
    (folder / first).write_bytes((folder / first).read_bytes()[:50])
    (folder / test).unlink()
    task = build(name, root=str(small), download=False)
    with pytest.raises(InputError, match=rf"{name} is not whole in .* \({test} missing and {first} damaged"):
        task.verify()


def test_damaged_names_are_found(small: Path) -> None:
    (small / "cifar-10-batches-py" / "batches.meta").write_bytes(b"broken")
    with pytest.raises(InputError, match=r"batches.meta damaged"):
        build("cifar10", root=str(small), download=False).verify()


def test_the_names_are_those_of_the_sets() -> None:
    assert [len(names) for names in module.NAMES.values()] == [10, 100]
    assert module.NAMES["cifar100"] == sorted(set(module.NAMES["cifar100"]))
    assert build("cifar10").summary().classes[:2] == ("airplane", "automobile")


def test_a_download_without_a_network_says_what_to_do(small: Path, tmp_path: Path) -> None:
    (small / "cifar-100-python" / "train").unlink()
    with pytest.raises(RunError, match=r"the download failed: .*; put cifar-100-python.tar.gz from http"):
        source("cifar100", small, download=True).read()


def test_an_archive_in_the_folder_is_unpacked_without_a_network(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import tarfile

    dataset = torchvision.datasets.CIFAR100
    archive = small / "elsewhere" / dataset.filename
    archive.parent.mkdir()
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(small / dataset.base_folder, dataset.base_folder)
    monkeypatch.setattr(dataset, "tgz_md5", hashlib.md5(archive.read_bytes()).hexdigest())
    assert len(source("cifar100", archive.parent, download=True).read().test.targets) == 100


def test_the_fingerprint_knows_the_data_and_not_the_folder(tmp_path: Path) -> None:
    plain = build("cifar100").fingerprint()
    assert build("cifar100", root=str(tmp_path), download=False, batch_size=64).fingerprint() == plain
    others = [{"validation": 100}, {"split_seed": 1}, {"padding": 2}, {"flip": False}, {"normalization": "cifar10"}]
    shares = [{"fraction": 0.5}, {"fraction": 0.1}]
    prints = {build("cifar100", **options).fingerprint() for options in [*others, *shares]}
    assert len(prints | {plain, build("cifar10", normalization="cifar100").fingerprint()}) == 9


def test_the_fingerprint_stays_what_it_was() -> None:
    """Written down before there were fractions: one that moved would lose cached teachers."""
    old = {"split_seed": 2, "padding": 2, "flip": False, "normalization": "cifar10"}
    for name, options, expected in (
        ("cifar10", {}, "b24b7b33f85fe09aabd05a9cbd3cc90cfa1662a6dc62cc3176638288b5bb4333"),
        ("cifar100", {}, "5ee819907456dcf5cd57d0a674638a4e04ca10f8d62deaadac756eba42cb84c9"),
        ("cifar100", {"validation": 5000}, "810caa840140f4fbb3092f4d7d982a98155fbe2eee69c87041aaed2ec8f01147"),
        ("cifar100", {"validation": 5000, **old}, "2a668c5adf2ad56baee1a95b5e78f4af209761f04ebde074e253c932eb4102f1"),
    ):
        for whole in ({}, {"fraction": None}, {"fraction": 1.0}):
            assert build(name, **options, **whole).fingerprint() == expected
