"""Makes the scheduler of a pruner of Optuna, which is given by its class."""

from __future__ import annotations

import math
from functools import partial
from typing import Final

from optuna.pruners import BasePruner, PatientPruner, WilcoxonPruner

from tskd_tune.errors import InputError
from tskd_tune.plain import Document
from tskd_tune.sweeps.scheduling.judging import Judging
from tskd_tune.sweeps.scheduling.pruning import Pruning, SeedPruning
from tskd_tune.sweeps.searching.optuna_parts import part_of, pruner_of
from tskd_tune.sweeps.searching.plug_in_errors import kept

WHERE: Final = "scheduler.pruner"
# Optuna's default.
P_THRESHOLD: Final = 0.1


def pruning(given: str | Document, metric: str, mode: str, *, grace: int, epochs: int) -> Judging:
    """Return the scheduler of a pruner; pruners that halve begin at the end of the grace period.

    Args:
        given: the class of the pruner, with its options.
        metric: the key of the number that is compared.
        mode: ``max`` or ``min``.
        grace: number of trained epochs before the pruner is asked.
        epochs: number of epochs of a training.

    Raises:
        InputError: there is no such pruner, or an option is unknown or wrong.
    """
    part = part_of(given, "BasePruner", WHERE)
    pruner, guard = pruner_of(part, min_resource=grace, max_resource=epochs), partial(kept, part)
    if _over_seeds(pruner):
        threshold = part.options.get("p_threshold", P_THRESHOLD)
        assert isinstance(threshold, int | float)
        return SeedPruning(pruner, metric, mode, grace=grace, least_seeds=_least_seeds(threshold), guard=guard)
    return Pruning(pruner, metric, mode, grace=grace, guard=guard)


def _over_seeds(pruner: BasePruner) -> bool:
    if isinstance(pruner, PatientPruner) and isinstance(getattr(pruner, "_wrapped_pruner", None), WilcoxonPruner):
        raise InputError(
            f"{WHERE}: PatientPruner waits for epochs, but WilcoxonPruner compares seeds; use one of them without the"
            " other"
        )
    return isinstance(pruner, WilcoxonPruner)


def _least_seeds(threshold: float) -> int:
    """Return the smallest number of pairs with which a one-sided Wilcoxon test can fall below a threshold.

    Where all n pairs differ in the same direction, p is 1 / 2 ** n.
    """
    if threshold <= 0:
        raise InputError(f"{WHERE}.p_threshold: is {threshold:g}, so nothing is ever stopped; give a number above 0")
    return max(2, math.floor(-math.log2(threshold)) + 1)
