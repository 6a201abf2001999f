"""CIFAR-10 and CIFAR-100, read by torchvision."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from filelock import FileLock

from tskd_tune.errors import InputError, RunError
from tskd_tune.paths import PathText
from tskd_tune.plain import Json
from tskd_tune.tasks.base import TASKS, Task, TaskFacts, summary_of
from tskd_tune.tasks.classification import Classification
from tskd_tune.tasks.folders import DATA_VARIABLE, data_folder, require_writable
from tskd_tune.tasks.image_source import ImageParts, ImageSource, Labeled
from tskd_tune.tasks.images import Augmentation, Normalization
from tskd_tune.tasks.options import BatchSize, Download, Flip, HeldOut, Padding, SplitSeed, UsedFraction
from tskd_tune.tasks.resident import Resident
from tskd_tune.tasks.splits import fraction_counts, fraction_of, quotas, stratified
from tskd_tune.tasks.summary import DataSummary
from tskd_tune.tasks.words import first_few

Name = Literal["cifar10", "cifar100"]
Constants = Name

NORMALIZATIONS = {
    "cifar10": Normalization(mean=(125.3 / 255, 123.0 / 255, 113.9 / 255), std=(63.0 / 255, 62.1 / 255, 66.7 / 255)),
    "cifar100": Normalization(mean=(0.5071, 0.4867, 0.4408), std=(0.2675, 0.2565, 0.2761)),
}
"""CIFAR-10's as ReviewKD and TSKD use them, for CIFAR-100 too; CIFAR-100's as CRD's RepDistiller does."""


TEN = "airplane automobile bird cat deer dog frog horse ship truck"
HUNDRED = """
apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly camel can
castle caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur dolphin
elephant flatfish forest fox girl hamster house kangaroo keyboard lamp lawn_mower leopard lion lizard
lobster man maple_tree motorcycle mountain mouse mushroom oak_tree orange orchid otter palm_tree pear
pickup_truck pine_tree plain plate poppy porcupine possum rabbit raccoon ray road rocket rose sea seal shark
shrew skunk skyscraper snail snake spider squirrel streetcar sunflower sweet_pepper table tank telephone
television tiger tractor train trout tulip turtle wardrobe whale willow_tree wolf woman worm
"""
NAMES = {"cifar10": TEN.split(), "cifar100": HUNDRED.split()}
"""The classes in the order of their numbers, as the sets' own files name them."""


@dataclass(frozen=True)
class Known:
    """What is known of a data set without its files: torchvision's class, and images of each class."""

    dataset: str
    classes: int
    train_each: int
    test_each: int


KNOWN = {
    "cifar10": Known("CIFAR10", classes=10, train_each=5000, test_each=1000),
    "cifar100": Known("CIFAR100", classes=100, train_each=500, test_each=100),
}


@dataclass(frozen=True)
class CifarImages(ImageSource):
    """One of the two CIFAR sets, checked against torchvision's checksums as it is read; the options of the task."""

    name: Name
    validation: int
    split_seed: int
    fraction: float | None
    constants: Constants
    root: str | None
    download: bool

    def facts(self) -> TaskFacts:
        """Return the known facts; check only that the files exist or that their folder can be written."""
        known = KNOWN[self.name]
        counts = [known.train_each] * known.classes
        names = self._class_names()
        held = quotas(counts, self.validation, option="validation", names=names, spare=1)
        used = fraction_counts(counts - held, self.fraction, names=names)
        self._require_files()
        samples = (int(used.sum()), int(held.sum()), known.test_each * known.classes)
        return TaskFacts(inputs=(3, 32, 32), outputs=known.classes, samples=samples)

    def summary(self) -> DataSummary:
        """Return the known facts of the set, with the names of its classes."""
        return summary_of(self.facts(), f"{self.name} in {self._folder()}", self._class_names())

    def read(self) -> ImageParts:
        """Read both parts, downloading them first where they are missing."""
        self.facts()
        pool, test, names = self._read(train=True), self._read(train=False), self._class_names()
        targets = pool.targets.numpy()
        taken, left = stratified(targets, self.validation, seed=self.split_seed, option="validation", names=names)
        used = left[fraction_of(targets[left], self.fraction, names=names)]
        return ImageParts(pool.at(used), pool.at(taken), test, NORMALIZATIONS[self.constants])

    def identity(self) -> Mapping[str, Json]:
        """Return the name, the split and the normalization; the files are fixed by torchvision's checksums."""
        # Left out where all is used, so that teachers that were trained before there were fractions are found.
        few = {} if self.fraction in (None, 1) else {"fraction": self.fraction}
        return {
            "data": self.name,
            "validation": self.validation,
            "split_seed": self.split_seed,
            "normalization": self.constants,
            **few,
        }

    def location(self) -> str:
        """Return the folder of the files."""
        return str(self._folder())

    def _require_files(self) -> None:
        if (self._folder() / self._dataset().base_folder).is_dir():
            return
        if not self.download:
            raise InputError(self._missing("task.download is false"))
        require_writable(self._folder())

    def _read(self, *, train: bool) -> Labeled:
        try:
            data = self._dataset()(self._folder(), train=train)
        except RuntimeError:  # torchvision's word for files that are missing or have another checksum
            data = self._downloaded(train=train)
        except OSError as error:
            raise InputError(f"task: {self.name} cannot be read ({error}); repair {self._folder()}") from error
        images = torch.from_numpy(data.data).permute(0, 3, 1, 2).contiguous()
        return Labeled(images, torch.tensor(data.targets, dtype=torch.int64))

    def _downloaded(self, *, train: bool) -> Any:
        folder, wrong = self._folder(), self._wrong_files()
        if not self.download:
            raise InputError(self._missing(wrong or "torchvision cannot read it"))
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with FileLock(folder / f"{self.name}.lock"):
                return self._dataset()(folder, train=train, download=True)
        except (RuntimeError, OSError) as error:  # no network, no such page, no permission, a broken archive
            raise RunError(self._missing(f"{wrong}; the download failed: {error}")) from error

    def _wrong_files(self) -> str:
        """Say which files are missing or damaged: those that have another checksum than torchvision knows."""
        from torchvision.datasets.utils import check_integrity

        dataset, folder = self._dataset(), self._folder() / self._dataset().base_folder
        files = [*dataset.train_list, *dataset.test_list, (dataset.meta["filename"], dataset.meta["md5"])]
        missing = [name for name, _ in files if not (folder / name).exists()]
        damaged = [name for name, md5 in files if name not in missing and not check_integrity(folder / name, md5)]
        if missing and len(missing) == len(files):
            return "none of its files is there"
        words = {"missing": missing, "damaged (another checksum than torchvision knows)": damaged}
        return " and ".join(f"{first_few(names)} {word}" for word, names in words.items() if names)

    def _dataset(self) -> Any:
        import torchvision

        return getattr(torchvision.datasets, KNOWN[self.name].dataset)

    def _folder(self) -> Path:
        return data_folder() if self.root is None else Path(self.root)

    def _class_names(self) -> list[str]:
        return NAMES[self.name]

    def _missing(self, why: str) -> str:
        dataset = self._dataset()
        whole = " whole" if (self._folder() / dataset.base_folder).is_dir() else ""
        return (
            f"task: {self.name} is not{whole} in {self._folder()} ({why}); put {dataset.filename} from {dataset.url} "
            f"there and unpack it, or name the folder that holds {dataset.base_folder}/ by task.root or "
            f"{DATA_VARIABLE}"
        )


def _register(name: Name, summary: str, folder: str, remark: str = "") -> Callable[..., Task]:
    """Register the task of a set; ``folder`` holds its files, and ``remark`` is said about its normalization."""

    @TASKS.register(name, source="Krizhevsky 2009, Learning Multiple Layers of Features from Tiny Images")
    def task(
        *,
        batch_size: BatchSize = 128,
        validation: HeldOut = 0,
        split_seed: SplitSeed = 0,
        fraction: UsedFraction = None,
        padding: Padding = 4,
        flip: Flip = True,
        normalization: Constants = name,
        root: PathText | None = None,
        download: Download = True,
    ) -> Task:
        source = CifarImages(name, validation, split_seed, fraction, normalization, root, download)
        return Task(source, Classification(), Resident(Augmentation(padding, flip), batch_size))

    task.__doc__ = f"""{summary}, 50,000 color images of 32 x 32 to train and 10,000 to test.

    Args:
        normalization: whose mean and standard deviation pixels are normalized with{remark}.
        root: folder that holds ``{folder}``; null: ``TSKD_TUNE_DATA``, otherwise the user's cache folder.
    """
    return task


_register("cifar10", "CIFAR-10: ten classes", "cifar-10-batches-py")
_register("cifar100", "CIFAR-100: a hundred classes", "cifar-100-python", "; published work on CIFAR-100 uses either")
