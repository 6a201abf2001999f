"""How sure a difference is over seeds, over images and over both, in words."""

from __future__ import annotations

from tskd_tune.metrics import Measured, Metric
from tskd_tune.reports.findings.summary import Findings
from tskd_tune.reports.judge.crossed import Crossed, Sampling
from tskd_tune.reports.judge.records import Finding
from tskd_tune.reports.judge.sentences import title_of
from tskd_tune.reports.judge.words import difference_text, seeds_text, signed
from tskd_tune.words import count

SINGLE = (
    "These intervals are those of single comparisons, without Holm's correction. The verdicts are on other seeds"
    " and the same images."
)


def crossed_lines(found: Findings) -> list[str]:
    """Return a sentence for each comparison whose runs kept which images are right, and how to read them."""
    findings = found.family.family.findings if found.family else ()
    lines = [f"{title_of(finding.contrast)}: {text}" for finding in findings if (text := crossed_text(finding, found))]
    return [*lines, SINGLE] if lines else []


def crossed_text(finding: Finding, found: Findings) -> str:
    """Return what is known of a difference over seeds and images; empty where it is not known."""
    item = finding.crossed
    if item is None:
        return ""
    read = Measured.read(found.headline)
    images = f"{read.part if read else ''} image".strip()
    over = ((item.over_seeds, "seeds"), (item.over_images, f"{images}s"), (item.over_both, "both"))
    told = [f"{_interval(one, found.metric)} for other {name}" for one, name in over if one is not None]
    sizes = f"{seeds_text(len(item.seeds))} and {count(item.images, images)}"
    head = f"{difference_text(item.difference, found.metric)} over {sizes}"
    if not told:
        return f"{head}; nothing varies, so there is no interval."
    intervals = ", ".join(told).replace("other both", "both")
    return f"{head}: 95 % intervals {intervals}.{_doubt(item, images)}"


def _interval(one: Sampling, metric: Metric) -> str:
    return f"{signed(one.interval.low, metric)} to {signed(one.interval.high, metric)}"


def _doubt(item: Crossed, images: str) -> str:
    """Say that other images may undo a difference that is shown for other seeds."""
    seeds, both = item.over_seeds, item.over_both
    if seeds is None or both is None or _contains_0(seeds) or not _contains_0(both):
        return ""
    return f" On other {images}s the difference may be 0: what is shown holds for these {item.images:,} images."


def _contains_0(one: Sampling) -> bool:
    return one.interval.low <= 0 <= one.interval.high
