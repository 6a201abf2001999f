"""Refuses parts that do not fit together, once networks are built: what a part needs and another does not have."""

from __future__ import annotations

from tskd_tune.contracts import Probe, Shapes
from tskd_tune.distillers import needs_of
from tskd_tune.distillers.base import Need, masks_of
from tskd_tune.errors import InputError
from tskd_tune.experiment.schema import Experiment
from tskd_tune.registry import Component
from tskd_tune.tasks.base import TaskFacts
from tskd_tune.teaching import Need as MethodNeed
from tskd_tune.teaching import method_needs


def refuse_misfits(experiment: Experiment, probe: Probe, facts: TaskFacts) -> None:
    """Refuse networks that are not for the task, and a distiller that needs what they do not have.

    Distillers themselves check the stages that they need.

    Raises:
        InputError: a classifier is to detect, or a detector to classify; or there are no logits, no embedding, no
            boxes, or no batch norms of the teacher; or the task's images are padded and the distiller does not know it.
    """
    networks = [("student", experiment.student.name, probe.student)]
    if experiment.teacher is not None and experiment.needs_teacher:
        networks.append(("teacher", experiment.teacher.name, probe.teacher))
    for key, name, shapes in networks:
        _refuse_network(key, name, shapes, experiment.task.name, facts)
    _refuse_distiller(experiment, probe)


def _refuse_network(key: str, name: str, shapes: Shapes, task: str, facts: TaskFacts) -> None:
    if facts.boxes and not shapes.boxes:
        raise InputError(
            f"{key}: '{name}' is no detector, but the task '{task}' is detection; choose a detector, such as"
            " faster_rcnn_resnet50_fpn"
        )
    if shapes.boxes and not facts.boxes:
        raise InputError(
            f"{key}: '{name}' is a detector, but the samples of the task '{task}' have no boxes; choose another"
            " network, or a task with boxes, such as coco"
        )
    if shapes.logits and shapes.logits != (facts.outputs,):
        raise InputError(
            f"{key}: '{name}' gives logits of the shape {[*shapes.logits]} for an image, but the task '{task}' has"
            f" {facts.outputs} outputs; give the last layer as many units as the constructor's first argument says"
        )


def refuse_needs(key: str, component: Component, needs: frozenset[str], declared: frozenset[str]) -> None:
    """Refuse a distiller or a teacher method of a user that would not be called, or that needs more than it declares.

    Args:
        key: the key of the component, as the beginning of a message.
        component: the component.
        needs: what the built component needs.
        declared: what it says that it needs before it is built.

    Raises:
        InputError: with what to do.
    """
    where = f"{key}: '{component.name}'"
    if needs - declared:
        raise InputError(
            f"{where} needs {', '.join(sorted(needs - declared))}, but does not say so before it is built; a function"
            " says so by the class that it returns (-> MyDistiller), a class by 'needs' or 'needs_with'"
        )
    if ":" in component.name and not needs:
        raise InputError(
            f"{where} needs nothing, so it would never be called; name what it reads in the class, for example"
            " needs = frozenset({Need.LOGITS})"
        )


def refuse_method(method: Component, name: str, shapes: Shapes) -> None:
    """Refuse a teacher's method that reads the logits of a classifier where the teacher is none.

    Raises:
        InputError: the teacher has no logits.
    """
    if MethodNeed.LOGITS in method_needs(method) and not shapes.logits:
        raise InputError(
            f"teacher.training.method: '{method.name}' reads the logits of a classifier, but the output of '{name}' has"
            " none; set method: plain"
        )


def refuse_resolution(size: int, facts: TaskFacts) -> None:
    """Refuse smaller images for the student where they are not smaller, or where boxes are in pixels of the task's.

    Raises:
        InputError: the task is detection, or its images are not larger.
    """
    if facts.boxes:
        raise InputError(
            f"student.resolution: {size}, but the boxes of the task are in pixels of its images; leave it out, and let"
            " the task scale the images"
        )
    pixels = min(facts.image[1:])
    if size > pixels:
        raise InputError(
            f"student.resolution: {size} is more than the {pixels} pixels of the task's images; lower"
            " student.resolution, or leave it out"
        )


def _refuse_distiller(experiment: Experiment, probe: Probe) -> None:
    """Refuse a distiller that needs what the networks do not have; distillers check the stages that they need.

    Raises:
        InputError: there are no logits, no embedding, no boxes, or no batch norms of the teacher; or the task's images
            are padded and the distiller does not know it.
    """
    needs, name = needs_of(experiment.distiller), experiment.distiller.name
    taught = [] if experiment.teacher is None else [(experiment.teacher.name, probe.teacher)]
    for network, shapes in [(experiment.student.name, probe.student), *taught]:
        has = {Need.LOGITS: shapes.logits, Need.EMBEDDING: shapes.embedding, Need.BOXES: shapes.boxes}
        for need, found in has.items():
            if need in needs and not found:
                raise InputError(
                    f"distiller: '{name}' reads the {need} of the student and the teacher, but the output of"
                    f" '{network}' has no {need}; choose another distiller or network"
                )
    if probe.varying and not masks_of(experiment.distiller):
        raise InputError(
            f"distiller: '{name}' compares whole maps, but the task's images have different sizes, and '{name}' would"
            " compare their padding too; choose detection_kd, fitnet, fgfi, review_kd or none"
        )
    if Need.BATCH_NORMS in needs and not probe.teacher_norms:
        raise InputError(
            f"distiller: '{name}' uses the teacher's batch norms, but '{taught[0][0]}' has none; choose another"
            " teacher or distiller"
        )
