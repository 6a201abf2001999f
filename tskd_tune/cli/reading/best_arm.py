"""The best arm of a run so far, by the validation set."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from tskd_tune.metrics import Metric, heading, metric_of
from tskd_tune.records.entries.design import Design
from tskd_tune.records.entries.row import Row, declared
from tskd_tune.reports.findings.records import values_by_seed
from tskd_tune.reports.findings.scale import cut, is_beyond
from tskd_tune.reports.findings.several_teachers import without_teacher
from tskd_tune.reports.judge import statistics


@dataclass(frozen=True)
class Best:
    """The arm with the best mean of the validation metric among the seeds that are done, of ``among`` arms."""

    arm: str
    metric: str
    among: int
    found: statistics.Arm
    measures: Sequence[Metric] = ()

    def plain(self) -> dict[str, object]:
        """Return the facts as plain data, without the declarations of the metrics."""
        return {"arm": self.arm, "metric": self.metric, "among": self.among, "found": asdict(self.found)}

    def line(self) -> str:
        """Return ``at, val top-1 (%) 70.00, 95 % interval 69.10 to 70.90 (3 seeds)``."""
        return f"{self.arm}, {heading(self.metric, self.measures)} {self._text(self.found.mean)}{self._interval()}"

    def _text(self, value: float | None) -> str:
        return "unknown" if value is None else f"{value:.{metric_of(self.metric, self.measures).digits}f}"

    def _interval(self) -> str:
        interval = self.found.interval
        if interval is None:
            return f" ({self.found.note})"
        if not is_beyond(metric_of(self.metric, self.measures), interval):
            ends = f"{self._text(interval.low)} to {self._text(interval.high)}"
            return f", 95 % interval {ends} ({self.found.n} seeds)"
        low, high = map(self._text, cut(interval.low, interval.high))
        return f", 95 % interval {low} to {high}, cut at the end of the scale ({self.found.n} seeds)"


def best_of(rows: Sequence[Row], design: Design) -> Best | None:
    """Return the arm with the best mean over its finished seeds; the test set is never used.

    None where the design has no metric to choose by, or where no finished seed was measured on the validation set.
    """
    if design.metric is None:
        return None
    groups: dict[str, list[Row]] = {}
    for row in rows:
        value = row.metrics.get(design.metric)
        if row.status == "done" and value is not None:
            point = row.run if design.searched else json.dumps([row.arm, without_teacher(row.point)], sort_keys=True)
            groups.setdefault(point, []).append(row)
    arms = [statistics.arm(values_by_seed(group, design.metric), name=group[0].arm) for group in groups.values()]
    if not arms:
        return None
    sign = 1 if design.mode == "max" else -1
    best = max(arms, key=lambda arm: sign * (arm.mean or 0.0))
    return Best(best.name, design.metric, len(arms), best, declared(rows))
