"""Reads and checks the YAML file of a single experiment, and makes its label for tables."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from tskd_tune import documents
from tskd_tune.errors import InputError
from tskd_tune.experiment import Experiment
from tskd_tune.experiment.locations import located
from tskd_tune.experiment.teacher import check_weights
from tskd_tune.experiment.verification import verify
from tskd_tune.outside import short_name
from tskd_tune.paths import in_shell
from tskd_tune.places import Places
from tskd_tune.sweeps.space.search_space import SearchSpace


def read(path: Path, settings: Iterable[str] = ()) -> Experiment:
    """Read an experiment's YAML file, resolve ``extends``, and apply settings ``a.b=c``.

    Raises:
        InputError: the file is a sweep or a search space, or has mistakes (one sentence per mistake).
    """
    return _read(path, settings)[0]


def _read(path: Path, settings: Iterable[str]) -> tuple[Experiment, Places]:
    document = documents.load(path)
    if "experiment" in document.data:
        raise InputError(
            f"{path}: is a sweep (it has an 'experiment' key); run it with `tskd-tune sweep {in_shell(path)}`"
        )
    document = document.with_settings(settings)
    with document.places.named():
        return parse(document.data), document.places


def read_checked(path: Path, settings: Iterable[str] = ()) -> Experiment:
    """Read an experiment's file as `read` does, and check it as `check` does, with the place of each mistake.

    Raises:
        InputError: as both.
    """
    experiment, places = _read(path, settings)
    with places.named():
        check(experiment)
    return experiment


def parse(document: Mapping[str, object]) -> Experiment:
    """Validate an experiment as plain data.

    Raises:
        InputError: the data is a search space, or has mistakes (one sentence per mistake).
    """
    data = located(dict(document))
    holes = SearchSpace(data).holes()
    if holes:
        raise InputError(
            f"{holes[0].name}: has a value to search ({holes[0].kind}), so the file is a search space; put the file's"
            " keys under 'experiment:' of a sweep, or set the key with --set"
        )
    return Experiment.read(data)


def check(experiment: Experiment) -> None:
    """Refuse, before training and before writing files, an experiment whose parts do not fit together.

    Raises:
        InputError: data or weights are missing, or a part does not fit another part.
    """
    verify(experiment)
    check_weights(experiment)


def label(experiment: Experiment) -> str:
    """Return the label of a single training in tables: ``resnet20, kd, review``."""
    plain = Experiment.model_fields["distiller"].get_default(call_default_factory=True)
    distiller = [] if experiment.distiller == plain else [short_name(experiment.distiller.name)]
    review = ["review"] if experiment.review is not None else []
    return ", ".join([short_name(experiment.student.name), *distiller, *review])
