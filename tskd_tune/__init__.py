"""Sweeps of Temporal Supervised Knowledge Distillation (TSKD), and the training that they sweep over.

What ``tskd_tune.api`` offers can be imported from here; it is loaded when one of its names is used.
"""

from typing import TYPE_CHECKING, Any

from tskd_tune.version import __version__

if TYPE_CHECKING:
    from tskd_tune.api import Experiment, Sweep, check, report, sweep, train

__all__ = ["Experiment", "Sweep", "__version__", "check", "report", "sweep", "train"]


def __getattr__(name: str) -> Any:
    """Load the front door when one of its names is used, so that light commands do not wait for torch."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from tskd_tune import api

    return getattr(api, name)


def __dir__() -> list[str]:
    """List the names of the front door beside those that are loaded."""
    return sorted({*globals(), *__all__})
