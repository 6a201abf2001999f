"""How many trainings a GPU holds together: ``resources: {together: auto}``.

A probe on a worker with a GPU takes a few real steps of each kind of experiment on random images, with a review, and
measures the memory. On a CPU trainings gain nothing from sharing a process, so there each has its own.
"""

from __future__ import annotations

import gc
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import ray
import torch

from tskd_tune.experiment import Experiment
from tskd_tune.experiment.assembly import assemble, task_of, teacher_network
from tskd_tune.records.entries.events import Event, Listener
from tskd_tune.sweeps.estimating.estimate import MOST_POINTS, evenly, one_of_each
from tskd_tune.sweeps.estimating.stopwatch import Stopwatch, pace
from tskd_tune.sweeps.messages.trial_config import TrialConfig
from tskd_tune.sweeps.recorder import reason_of_loss
from tskd_tune.tasks.stand_ins import stand_in_targets

# The share of the free memory that trainings may fill: evaluation and fragments need memory that no step shows.
SHARE: Final = 0.8
# Six trainings on an H200 took less time a step of each than three, and less than twelve.
MOST: Final = 6
# Long enough for every step of a probe, on any GPU; a probe takes at most `stopwatch.MOST_STEPS` of a kind.
SECONDS: Final = 60.0
GIBIBYTE: Final = 2**30


@dataclass(frozen=True)
class Memory:
    """The memory of a GPU, in bytes.

    Attributes:
        free: what is free for the tensors of trainings.
        held: what the data of the largest task take, once for all trainings.
        peak: what the largest training takes beside them.
    """

    free: int
    held: int
    peak: int

    @property
    def fitting(self) -> int:
        """The number of trainings that fit with a margin, at least 1 and at most `MOST`."""
        return max(1, min(MOST, int((SHARE * self.free - self.held) / max(1, self.peak))))


def fitting(configs: Sequence[TrialConfig], resources: Mapping[str, float], listener: Listener) -> int:
    """Return how many trainings of a sweep share a GPU, and tell the listener why.

    Args:
        configs: the trials of the sweep.
        resources: what one trial takes, as `resources.needed` has it.
        listener: is called with a sentence.
    """
    if not resources.get("gpu"):
        listener(_note("resources.together: auto is 1 on a CPU, where trainings gain nothing from sharing a process"))
        return 1
    kinds = one_of_each({config.run: Experiment.read(config.experiment) for config in configs})
    documents = {config.run: config.experiment for config in configs}
    probe: Any = ray.remote(measure).options(num_cpus=resources["cpu"], num_gpus=resources["gpu"], max_retries=0)
    try:
        found: Memory | None = ray.get(probe.remote([documents[run] for run in evenly(kinds, MOST_POINTS)]))
    except ray.exceptions.RayError as error:
        listener(_note(f"resources.together: auto is 1, because the memory was not measured: {reason_of_loss(error)}"))
        return 1
    if found is None:
        listener(_note("resources.together: auto is 1, because the trainings compute on a CPU"))
        return 1
    listener(_note(sentence(found)))
    return found.fitting


def sentence(memory: Memory) -> str:
    """Return how many trainings share a GPU, and why."""
    count, peak, free = memory.fitting, memory.peak / GIBIBYTE, memory.free / GIBIBYTE
    shares = f"{count} trainings share a GPU" if count > 1 else "each training has a GPU for itself"
    return (
        f"resources.together: {shares}: the largest was measured with {peak:.2f} GiB, of {free:.1f} GiB free; auto"
        f" fills {100 * SHARE:g} % of it, with at most {MOST} trainings"
    )


def measure(documents: Sequence[Mapping[str, object]]) -> Memory | None:
    """Measure experiments on a worker, one after the other; None where they compute on a CPU.

    Raises:
        TskdTuneError: an experiment cannot be built.
    """
    experiments = [Experiment.read(document) for document in documents]
    device = experiments[0].training.compute().device
    if device.type != "cuda":
        return None
    torch.zeros(1, device=device)  # so that what the process itself takes is not counted as free
    torch.cuda.empty_cache()
    free, _ = torch.cuda.mem_get_info(device)
    held = max(task.feeding.bytes_held(task.facts()) for task in map(task_of, experiments))
    return Memory(free, held, max(_peak(experiment, device) for experiment in experiments))


def _peak(experiment: Experiment, device: torch.device) -> int:
    gc.collect()  # the training before, whose memory would be given to this one and not be counted
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_reserved(device)
    step_through(experiment)
    return torch.cuda.max_memory_reserved(device) - before


def step_through(experiment: Experiment) -> None:
    """Build a training, fill its memory, and take general steps and reviews on random images."""
    compute = experiment.training.compute()
    watch = Stopwatch(task_of(experiment), compute, lambda: 0.0)
    facts = watch.task.facts()
    teacher = teacher_network(experiment, facts) if experiment.needs_teacher else None
    trainer = assemble(experiment, watch.task, teacher, stand_in_targets(facts))
    pace(experiment, trainer, watch, SECONDS)
    compute.synchronize()


def _note(text: str) -> Event:
    return Event("note", "", reason=text)
