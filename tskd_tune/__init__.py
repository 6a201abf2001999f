"""Training and sweeps for Temporal Supervised Knowledge Distillation (TSKD).

All names of ``tskd_tune.api`` can be imported from here; ``tskd_tune.api`` is loaded at the first use of such a name.
"""

from typing import TYPE_CHECKING, Any

from tskd_tune.version import __version__

if TYPE_CHECKING:
    from tskd_tune.api import Event, Experiment, Listener, RunFolder, Sweep, check, report, study, sweep, train

__all__ = [
    "Event",
    "Experiment",
    "Listener",
    "RunFolder",
    "Sweep",
    "__version__",
    "check",
    "report",
    "study",
    "sweep",
    "train",
]


def __getattr__(name: str) -> Any:
    """Load ``tskd_tune.api`` at the first use of one of its names, so that light commands do not wait for torch."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from tskd_tune import api

    return getattr(api, name)


def __dir__() -> list[str]:
    """List the loaded names and the names of ``tskd_tune.api``."""
    return sorted({*globals(), *__all__})
