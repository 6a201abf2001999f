"""Converts records of older versions, as plain data, to the newest format before validation.

The rest of the code knows only the newest format.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from tskd_tune.metrics import Measured, undeclared
from tskd_tune.plain import Document, Json
from tskd_tune.records.entries.row import ROW_FORMAT, Best

LATER: Final[Mapping[str, Mapping[str, Json]]] = {
    "training": {
        "fold": False,
        "checkpoint": {"seconds": 0.0},
        "graphs": "never",
        "kernels": "deterministic",
        "compile": "never",
    },
    "evaluation": {"validation": "every_epoch"},
}
"""Options that format 1 did not have, by their place in an experiment: versions of that format trained in this way."""

BEFORE: Final[Mapping[int, Mapping[str, Mapping[str, Json]]]] = {
    2: {"training": {"channels_last": False}},
    1: LATER,
}
"""Defaults that were others up to a format of runs, by that format: a run that is resumed is trained as it began.

The file of a sweep holds no option that its user left out.
"""

BRANCHES: Final = ("choice", "grid")
"""Keys of a search space whose value has branches by label."""

NO_DEVIATIONS: Final = ("training.channels_last: ",)
"""How the lines begin that rows of older versions count among the deviations from a preset, and today's rows do not."""

_DESCENT: Final[Mapping[str, Json]] = {
    "optimizer": {"name": "sgd"},
    "schedule": {"name": "steps", "warmup": None, "by": "epoch"},
}
ADDED: Final[Mapping[str, Mapping[str, Json]]] = {
    "training": {**_DESCENT, "batch_norm_groups": 1, "accumulate": 1},
    "evaluation": {"examples": "pictures"},
    "review.plan": {"node": "epoch"},
    "teacher": {"fine_tune": None},
    "teacher.training": _DESCENT,
}
"""Options that later versions of format 2 added, with the values that change nothing."""


def upgrade(record: Document) -> Document:
    """Return a row in the newest format.

    Args:
        record: a row of any format, as plain data; a damaged row stays damaged.

    Raises:
        ValueError: this version cannot read the row's format.
    """
    form = record.get("format")
    if form != ROW_FORMAT and not (isinstance(form, int) and form in STEPS):
        raise ValueError(f"has format {form!r}, but this version reads formats up to {ROW_FORMAT}")
    while record["format"] != ROW_FORMAT:
        try:
            record = STEPS[record["format"]](record)
        except (LookupError, TypeError, StopIteration) as error:
            raise ValueError(f"is not a row of format {form}") from error
    experiment, listed = record.get("experiment"), record.get("deviations")
    if isinstance(listed, list):
        record = {**record, "deviations": [line for line in listed if not str(line).startswith(NO_DEVIATIONS)]}
    return {**record, "experiment": _filled(experiment, ADDED)} if isinstance(experiment, dict) else record


def upgrade_document(document: Document, form: int) -> Document:
    """Return a run's ``sweep.yaml`` with the keys that this version knows, and the defaults that the run began with.

    Args:
        document: the content of the file, as plain data; a damaged document stays damaged.
        form: the format of the run's folder.
    """
    compare = document.get("compare")
    if isinstance(compare, dict) and "looks" in compare:
        renamed = {"interim" if key == "looks" else key: content for key, content in compare.items()}
        document = {**document, "compare": renamed}
    experiment, arms = document.get("experiment"), document.get("arms")
    for options in _before(form):
        experiment = _began_with(experiment, options)
        if isinstance(arms, dict):
            arms = {label: _began_with(arm, options) for label, arm in arms.items()}
    found = {"experiment": experiment, "arms": arms}
    return {**document, **{key: content for key, content in found.items() if key in document}}


def groups_before(form: int) -> list[str]:
    """Return the groups of options of which a default was another one in runs of a format."""
    return sorted({group for options in _before(form) for group in options})


def _before(form: int) -> list[Mapping[str, Mapping[str, Json]]]:
    return [options for last, options in BEFORE.items() if form <= last]


def _began_with(experiment: Json, options: Mapping[str, Mapping[str, Json]]) -> Json:
    """Add options, also to groups that the file leaves out or gives as null; the branches of a ``choice`` win."""
    if not isinstance(experiment, dict):
        return experiment
    for group in options:
        experiment = _without_null(experiment, group, bare=True)
    absent: Document = {group: {} for group in options if group not in experiment}
    return _filled({**experiment, **absent}, options)


def _without_null(experiment: Document, group: str, *, bare: bool) -> Document:
    """Leave out ``group: null``, also in branches, if there is nothing of the group that the null would take away.

    Args:
        experiment: an experiment, or a branch of it.
        group: the key of a group of options.
        bare: whether nothing above the branch has options of the group.
    """
    found, own = dict(experiment), experiment.get(group)
    if bare and group in found and own is None:
        del found[group]
    if bare and isinstance(own, dict) and not own.keys() - set(BRANCHES):
        found[group] = {word: _without_nulls(branches) for word, branches in own.items()}
    bare = bare and not own
    for word in (word for word in BRANCHES if isinstance(found.get(word), dict)):
        found[word] = {label: _branch(one, group, bare=bare) for label, one in found[word].items()}
    return found


def _branch(branch: Json, group: str, *, bare: bool) -> Json:
    return _without_null(branch, group, bare=bare) if isinstance(branch, dict) else branch


def _without_nulls(branches: Json) -> Json:
    """Write empty branches for null ones."""
    if not isinstance(branches, dict):
        return branches
    return {label: {} if branch is None else branch for label, branch in branches.items()}


def _from_1(record: Document) -> Document:
    """Convert format 1, which had only classification of square images and no declared metrics."""
    kept = {name: value for name, value in record.items() if name not in ("best_validation", "best_test")}
    kept |= {"format": 2, "best": _best(record), "measures": _measures(record.get("metrics"))}
    if isinstance(record.get("data"), dict):
        kept["data"] = _data(record["data"])
    if isinstance(record.get("teacher"), dict):
        kept["teacher"] = _teacher(record["teacher"])
    if isinstance(record.get("experiment"), dict):
        kept["experiment"] = _experiment(record["experiment"])
    return kept


def _experiment(old: Document) -> Document:
    """Add the options that came later, with the values that say how versions of format 1 trained."""
    task = old.get("task")
    found = {"observe": [], **_filled(old, LATER)}
    if isinstance(task, dict) and task.get("name") == "image_folder":
        found["task"] = {"feed": "resident", "workers": None, "prefetch": None, **task}
    return found


def _filled(old: Document, added: Mapping[str, Mapping[str, Json]]) -> Document:
    """Add options to those groups that exist; options that are there stay."""
    for place, options in added.items():
        old = _with(old, place.split("."), options)
    return old


def _with(old: Document, place: Sequence[str], options: Mapping[str, Json]) -> Document:
    if not place:
        return {**options, **old}
    inner = old.get(place[0])
    return {**old, place[0]: _with(inner, place[1:], options)} if isinstance(inner, dict) else old


def _best(record: Document) -> list[Document]:
    found = []
    for part, name in (("validation", "best_validation"), ("test", "best_test")):
        old = record.get(name)
        if old is not None:  # an older version wrote null where nothing was measured
            found.append(_best_of(part, old))
    return found


def _best_of(part: str, old: Document) -> Document:
    """Convert ``{epoch, val_METRIC, test_METRIC}``."""
    values = {name: read for name in old if (read := Measured.read(name)) is not None}
    name, read = next((name, read) for name, read in values.items() if read.part == part)
    also = {other: old[other] for other in values if other != name and old[other] is not None}
    return Best.of(old["epoch"], read.part, read.metric, old[name], also).plain()


def _measures(metrics: object) -> list[Document]:
    names = [read for name in metrics if (read := Measured.read(name))] if isinstance(metrics, Mapping) else []
    found = {read.metric: undeclared(read.metric) for read in names}
    # The order in which a classification declares its metrics: accuracies first, the loss last.
    return [metric.plain() for metric in sorted(found.values(), key=lambda metric: metric.mode == "min")]


def _data(old: Document) -> Document:
    shape = [old.get("channels"), old.get("size"), old.get("size")]
    return {"inputs": shape, "outputs": old.get("classes"), "samples": old.get("samples")}


def _teacher(old: Document) -> Document:
    """Convert a teacher; format 1 had keys for validation accuracy and seconds, but never set them."""
    measured = {name for name in old if Measured.read(name) is not None}
    kept = {name: value for name, value in old.items() if name not in measured and name != "seconds"}
    return kept | {"metrics": {name: old[name] for name in sorted(measured) if old[name] is not None}}


STEPS: Final[Mapping[int, Callable[[Document], Document]]] = {1: _from_1}
