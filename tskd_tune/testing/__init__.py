"""The contract tests that every component of this package passes, for use with your own components.

One test class per component is enough. pytest finds the tests that the class inherits:

    from tskd_tune.testing import DistillerContract

    class TestHint(DistillerContract):
        component = "my_parts:Hint"
        flips = {"weight": {"weight": 2.0}}

Install pytest to use this package. No other module of ``tskd_tune`` imports this package.
"""

import pytest

MODULES = (
    "base",
    "detector_distillers",
    "detectors",
    "distillers",
    "extractors",
    "networks",
    "objectives",
    "observers",
    "scheduling",
    "searching",
    "sections",
    "tasks",
    "teacher_methods",
)
pytest.register_assert_rewrite(*(f"{__name__}.{module}" for module in MODULES))

# After pytest is told to rewrite asserts.
from tskd_tune.testing.detector_distillers import DetectorDistillerContract  # noqa: E402
from tskd_tune.testing.detectors import DetectorContract  # noqa: E402
from tskd_tune.testing.distillers import DistillerContract  # noqa: E402
from tskd_tune.testing.extractors import ExtractorContract, TransformContract  # noqa: E402
from tskd_tune.testing.networks import NetworkContract  # noqa: E402
from tskd_tune.testing.objectives import ObjectiveContract  # noqa: E402
from tskd_tune.testing.observers import ObserverContract  # noqa: E402
from tskd_tune.testing.scheduling import SchedulerContract  # noqa: E402
from tskd_tune.testing.searching import SearcherContract  # noqa: E402
from tskd_tune.testing.sections import SectionContract  # noqa: E402
from tskd_tune.testing.tasks import TaskContract  # noqa: E402
from tskd_tune.testing.teacher_methods import TeacherMethodContract  # noqa: E402

__all__ = [
    "DetectorContract",
    "DetectorDistillerContract",
    "DistillerContract",
    "ExtractorContract",
    "NetworkContract",
    "ObjectiveContract",
    "ObserverContract",
    "SchedulerContract",
    "SearcherContract",
    "SectionContract",
    "TaskContract",
    "TeacherMethodContract",
    "TransformContract",
]
