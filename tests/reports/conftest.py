"""What several tests of reports start from: an arm as the findings hold it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from factories import a_row
from tskd_tune.metrics import undeclared
from tskd_tune.reports.findings.arms import arm_findings
from tskd_tune.reports.findings.comparison import Headline
from tskd_tune.reports.findings.records import ArmFindings, Statistic
from tskd_tune.reports.judge.values import Interval

HEADLINE = Headline("test_top1", undeclared("top1"))


def an_arm(
    name: str,
    experiment: dict[str, Any] | None = None,
    *,
    mean: float | None = 70.0,
    interval: tuple[float, float] | None = None,
    **changes: Any,
) -> ArmFindings:
    """Return an arm of one seed with this resolved experiment; its mean is said to be that of five seeds."""
    facts = {"started": "", "finished": "", "experiment": {} if experiment is None else experiment}
    row = a_row(name, arm=name, planned=1, **facts)
    found = arm_findings([row], HEADLINE, 0)
    ends = None if interval is None else Interval(*interval, 0.95, "t")
    headline = Statistic(5, 5, mean, None)
    return replace(found, headline=headline, statistics=replace(found.statistics, interval=ends), **changes)


@pytest.fixture(name="an_arm")
def _an_arm() -> Callable[..., ArmFindings]:
    return an_arm
