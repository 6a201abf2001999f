"""Tasks by their options: experiments of one process with the same task options share the task."""

from __future__ import annotations

import json
from functools import lru_cache

from tskd_tune.registry import Component
from tskd_tune.tasks import TASKS
from tskd_tune.tasks.base import Task


def shared_task(options: Component) -> Task:
    """Return the task with these options, which is made once; this touches no file."""
    return _shared_task(json.dumps(options.plain(), sort_keys=True))


@lru_cache(maxsize=8)
def _shared_task(words: str) -> Task:
    component: Component = TASKS.slot().parse(json.loads(words))
    return TASKS.make(component)
