"""The start of a fine-tuned teacher: given weights, with a new head where the task has other classes."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from pathlib import Path

from tskd_tune.errors import InputError
from tskd_tune.experiment.assembly import task_of, teacher_network
from tskd_tune.experiment.schema import Experiment
from tskd_tune.networks import NETWORKS
from tskd_tune.networks.base import Network
from tskd_tune.networks.pretrained import identity, is_published, load_published
from tskd_tune.networks.weights import head_classes, load_into, read_state
from tskd_tune.networks.wrapped import Wrapped


def load_start(experiment: Experiment, network: Network) -> list[str]:
    """Load the given weights of a teacher that is fine-tuned, and return the names of the head where the head is new.

    The head keeps its random numbers if the weights are for another number of classes. All other tensors must fit.

    Raises:
        InputError: there are no such weights, or something else than the classes differs.
    """
    teacher, facts = experiment.teacher, task_of(experiment).facts()
    assert teacher is not None
    classes = _classes(experiment) or facts.outputs
    given = NETWORKS.make(teacher, classes, facts.probe[0])
    if is_published(teacher.weights):
        load_published(given, teacher.weights, name=teacher.name)
    else:
        load_into(given, Path(teacher.weights), name=teacher.name)
    own, state = network.state_dict(), given.state_dict()
    new = [name for name in own if own[name].shape != state[name].shape]
    network.load_state_dict({name: own[name] if name in new else state[name] for name in own})
    return new


def start_digest(weights: str) -> str:
    """Return a digest of given weights: of the content of a file, or of the name and version of published weights.

    Raises:
        InputError: there is no such file, or the package is not installed.
    """
    if is_published(weights):
        return ":".join(identity(weights).values())
    path = Path(weights)
    try:
        facts = path.stat()
    except OSError as error:
        raise InputError(f"teacher.weights: there is no file '{path}'; give the path of a checkpoint") from error
    return _digest(path, facts.st_mtime_ns, facts.st_size)


@lru_cache(maxsize=64)
def _digest(path: Path, changed: int, size: int) -> str:
    """Return the digest of a file, read again only if the file has changed: many points of a sweep share it."""
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]


def _classes(experiment: Experiment) -> int | None:
    """Return the number of classes that given weights are for; None if it cannot be found."""
    teacher = experiment.teacher
    assert teacher is not None
    if not is_published(teacher.weights):
        return head_classes(read_state(Path(teacher.weights)).state)
    network = teacher_network(experiment, task_of(experiment).facts())
    package, _, tag = teacher.weights.partition(":")
    if not isinstance(network, Wrapped) or network.publisher != package:
        return None  # `load_published` says so
    try:
        return network.published_classes(tag)
    except InputError as error:
        raise InputError(f"teacher.weights: {error}") from error
