"""Builds the trainer of an experiment from the options.

Each part is initialized from its own random stream. So an extra part in one arm (an extractor, a distiller's
regressor) does not change the student, the data order or the augmentation of the seed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from torch import Tensor, nn

from tskd_tune.contracts import Probe
from tskd_tune.distillers import DISTILLERS
from tskd_tune.distillers.base import Distiller, Need, needs_of
from tskd_tune.experiment.misfits import refuse_method, refuse_misfits, refuse_needs, refuse_resolution
from tskd_tune.experiment.review import Review
from tskd_tune.experiment.schema import Experiment
from tskd_tune.experiment.shared_tasks import shared_task
from tskd_tune.method.extractors import EXTRACTORS, Extractor, ExtractorSite, build_extractors
from tskd_tune.method.memory import Frozen, Memory
from tskd_tune.method.review import ReviewLoss
from tskd_tune.method.sequences import Target
from tskd_tune.method.taps import Taps
from tskd_tune.method.transforms import TRANSFORMS
from tskd_tune.networks import NETWORKS
from tskd_tune.networks.base import Network
from tskd_tune.networks.resolution import Downsample
from tskd_tune.networks.weights import load_into
from tskd_tune.tasks.base import Task, TaskFacts
from tskd_tune.teaching import TEACHER_METHODS, Setting, TeacherMethod, method_needs
from tskd_tune.training.engines import engine_for
from tskd_tune.training.group import Group
from tskd_tune.training.observers import OBSERVERS
from tskd_tune.training.replay import Replay, State, read_trajectory
from tskd_tune.training.reviewing import ExtractorTraining, Reviewing
from tskd_tune.training.streams import initialization
from tskd_tune.training.teachers import TeacherFile
from tskd_tune.training.trainer import Trainer


def build(experiment: Experiment, teacher: TeacherFile | None, group: Group | None = None) -> Trainer:
    """Build the trainer of an experiment; load the data and read the teacher.

    Args:
        experiment: the options.
        teacher: the teacher; None if the experiment needs none.
        group: the workers that share each batch, of which this process is one; None: it trains alone.

    Raises:
        InputError: data, weights or options do not fit together.
    """
    compute = experiment.training.compute()
    task = task_of(experiment)
    feed = task.training(compute.device)
    network = None
    past: Sequence[State] = ()
    if teacher is not None:
        network = teacher_network(experiment, task.facts())
        if teacher.path is not None:
            load_into(network, teacher.path, name=teacher.name)
            past = trajectory(experiment, teacher.path)
    return assemble(experiment, task, network, feed.targets, past, group=group)


def build_teacher(experiment: Experiment) -> Trainer:
    """Build the trainer of an experiment's teacher, and load the data.

    Raises:
        InputError: data or options do not fit together.
    """
    task = task_of(experiment)
    feed = task.training(experiment.training.compute().device)
    return assemble_teacher(experiment, task, feed.targets)


def trajectory(experiment: Experiment, path: Path) -> Sequence[State]:
    """Read the snapshots of a teacher's training to replay from the teacher's file; none without replay.

    Raises:
        InputError: the file does not have these snapshots.
    """
    assert experiment.teacher is not None
    count = experiment.teacher.replay
    return () if count is None else read_trajectory(path, count)


def assemble(
    experiment: Experiment,
    task: Task,
    teacher: Network | None,
    targets: Tensor,
    past: Sequence[State] = (),
    *,
    group: Group | None = None,
) -> Trainer:
    """Build a trainer from a task and a teacher's network, which is frozen unless it is trained too.

    Args:
        experiment: the options.
        task: the data; the data need not be loaded.
        teacher: the teacher's network with its weights; None if the experiment needs no teacher.
        targets: ``[N]``, the class of every training sample.
        past: the snapshots of the teacher's training to replay.
        group: the workers that share each batch; None: there is one.

    Raises:
        InputError: parts do not fit together.
    """
    facts = task.facts()
    student = student_network(experiment, facts)
    probe = probe_of(student, teacher, facts, targets)
    refuse_misfits(experiment, probe, facts)
    with initialization(experiment.seed, "distiller"):
        distiller: Distiller = DISTILLERS.make(experiment.distiller, probe)
    refuse_needs("distiller", experiment.distiller, distiller.needs, needs_of(experiment.distiller))
    review = None
    if experiment.review is not None:
        review = _reviewing(experiment, experiment.review, probe, facts)
    return Trainer(
        task,
        student,
        _teaching(experiment, teacher, distiller, review),
        distiller,
        review,
        recipe=experiment.training.recipe(),
        schedule=experiment.schedule(),
        compute=experiment.training.compute().shared_with(group),
        engine=engine_for(experiment.training.graphs),
        replay=Replay(teacher, past, experiment.training.epochs) if teacher is not None and past else None,
        observers=[OBSERVERS.make(observer) for observer in experiment.observe],
    )


def assemble_teacher(experiment: Experiment, task: Task, targets: Tensor) -> Trainer:
    """Build the trainer of an experiment's teacher: the teacher learns, with the losses of its method."""
    plain = experiment.teacher_experiment()
    network = student_network(plain, task.facts())
    return Trainer(
        task,
        network,
        None,
        method_of(experiment, network, task.facts(), len(targets)),
        None,
        recipe=plain.training.recipe(),
        schedule=plain.schedule(),
        compute=plain.training.compute(),
        engine=engine_for(plain.training.graphs),
    )


def task_of(experiment: Experiment) -> Task:
    """Return the experiment's task; experiments of one process with the same task options share the task."""
    return shared_task(experiment.task)


def student_network(experiment: Experiment, facts: TaskFacts) -> Network:
    """Initialize the student from the experiment's seed."""
    with initialization(experiment.seed, "student"):
        return _new_student(experiment, facts)


def _new_student(experiment: Experiment, facts: TaskFacts) -> Network:
    """Create a student from torch's current random state; its images are downsampled if ``resolution`` is set."""
    network = NETWORKS.make(experiment.student, facts.outputs, facts.probe[0])
    size = experiment.student.resolution
    if size is not None:
        refuse_resolution(size, facts)
        network.register_forward_pre_hook(Downsample(size))
    return network


def teacher_network(experiment: Experiment, facts: TaskFacts) -> Network:
    """Initialize the teacher's network; weights are loaded later."""
    assert experiment.teacher is not None
    with initialization(experiment.seed, "teacher"):
        return NETWORKS.make(experiment.teacher, facts.outputs, facts.probe[0])


def probe_of(student: Network, teacher: Network | None, facts: TaskFacts, targets: Tensor) -> Probe:
    """Find the shapes of both networks; distiller and review are built from these shapes."""
    shapes = student.probe(*facts.probe)
    return Probe(
        student=shapes,
        teacher=shapes if teacher is None else teacher.probe(*facts.probe),
        classes=facts.outputs,
        targets=targets,
        teacher_norms={} if teacher is None else teacher.stage_norms(),
        varying=None in facts.inputs,
    )


def method_of(experiment: Experiment, network: Network, facts: TaskFacts, samples: int) -> TeacherMethod:
    """Build the losses of a teacher's training, from a random stream of the teacher's seed."""
    assert experiment.teacher is not None
    training = experiment.teacher.training
    shapes = network.probe(*facts.probe)
    refuse_method(training.method, experiment.teacher.name, shapes)
    with initialization(training.seed, "teacher_method"):
        setting = Setting(
            network=network,
            teacher=shapes,
            student=_new_student(experiment, facts).probe(*facts.probe),
            tail=lambda stage: _new_student(experiment, facts).tail(stage),
            classes=facts.outputs,
            samples=samples,
            epochs=training.epochs,
        )
        method = TEACHER_METHODS.make(training.method, setting)
    refuse_needs("teacher.training.method", training.method, method.needs, method_needs(training.method))
    return method


def _teaching(
    experiment: Experiment, teacher: Network | None, distiller: Distiller, review: Reviewing | None
) -> nn.Module | None:
    if teacher is None or Need.TRAINABLE_TEACHER in distiller.needs:
        return teacher
    assert experiment.teacher is not None
    points = review.loss.taps.teacher_points if review is not None and experiment.training.fold else None
    return Frozen(teacher, take=True, batch_norm=experiment.teacher.batch_norm, fold=points)


def _reviewing(experiment: Experiment, review: Review, probe: Probe, facts: TaskFacts) -> Reviewing:
    def fresh_loss(*numbers: int) -> ReviewLoss:
        with initialization(experiment.seed, "extractor", *numbers):
            return review_loss(review, probe)

    def fresh_extractors(node: int) -> Mapping[str, Tensor]:
        return fresh_loss(node).state_dict()

    loss = fresh_loss()
    points = loss.taps.student_points if experiment.training.fold else None
    return Reviewing(
        experiment.plan_of(review),
        loss,
        Memory(review.k, _replacement(experiment, review, facts), points, **review.memory.options()),
        strength=review.strength(),
        extractors=ExtractorTraining(**review.extractor.training.options()),
        fresh_extractors=fresh_extractors,
    )


def _replacement(experiment: Experiment, review: Review, facts: TaskFacts) -> Callable[[int], nn.Module] | None:
    """Return a maker of untrained networks for the control ``random_memory``; None for any other order."""
    if review.sequence_order != "random_memory":
        return None
    device = experiment.training.compute().device

    def untrained(number: int) -> nn.Module:
        with initialization(experiment.seed, "random_memory", number):
            return _new_student(experiment, facts).to(device)

    return untrained


def review_loss(review: Review, probe: Probe) -> ReviewLoss:
    """Build the loss of a review; torch's current random state initializes the extractors."""
    taps = Taps(probe.student, probe.teacher, **review.taps.options())
    sequence = review.knowledge_sequence()

    def extractor(site: ExtractorSite) -> Extractor:
        return EXTRACTORS.make(review.extractor, site)

    return ReviewLoss(
        taps,
        TRANSFORMS.make(review.transform),
        sequence,
        Target(**review.target.options()),
        build_extractors(
            extractor, sequence.steps(review.k), taps.sites, share=review.extractor.share, varying=probe.varying
        ),
        reduction=review.reduction,
        tap_reduction=review.tap_reduction,
    )
