"""The contract tests that every component of the package passes, as a kit for components of your own.

A test class per component is enough. pytest finds the tests that the class inherits:

    from tskd_tune.testing import DistillerContract

    class TestHint(DistillerContract):
        component = "my_parts:Hint"
        flips = {"weight": {"weight": 2.0}}

pytest has to be installed; nothing else of the package imports this one.
"""

import pytest

MODULES = (
    "base",
    "distillers",
    "extractors",
    "networks",
    "objectives",
    "searching",
    "sections",
    "tasks",
    "teacher_methods",
)
pytest.register_assert_rewrite(*(f"{__name__}.{module}" for module in MODULES))

from tskd_tune.testing.distillers import DistillerContract  # noqa: E402 (after the rewrite of asserts is set up)
from tskd_tune.testing.extractors import ExtractorContract, TransformContract  # noqa: E402
from tskd_tune.testing.networks import NetworkContract  # noqa: E402
from tskd_tune.testing.objectives import ObjectiveContract  # noqa: E402
from tskd_tune.testing.searching import SearcherContract  # noqa: E402
from tskd_tune.testing.sections import SectionContract  # noqa: E402
from tskd_tune.testing.tasks import TaskContract  # noqa: E402
from tskd_tune.testing.teacher_methods import TeacherMethodContract  # noqa: E402

__all__ = [
    "DistillerContract",
    "ExtractorContract",
    "NetworkContract",
    "ObjectiveContract",
    "SearcherContract",
    "SectionContract",
    "TaskContract",
    "TeacherMethodContract",
    "TransformContract",
]
