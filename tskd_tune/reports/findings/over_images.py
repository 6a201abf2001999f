"""Pairs the runs of each comparison image by image: how sure is the difference over seeds, over images, over both?

A run keeps which images its student got right (`tskd_tune.records.kept.hits`). Two runs are paired only if a digest
says that they were evaluated on the same data in the same order. The verdict of a comparison does not depend on this.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from tskd_tune.metrics import measured
from tskd_tune.records.entries.row import Row
from tskd_tune.records.kept.hits import KeptHits, hits_of
from tskd_tune.records.runs.run_folder import RunFolder
from tskd_tune.reports.findings.comparison import Comparison
from tskd_tune.reports.findings.grouping import few
from tskd_tune.reports.findings.records import ArmFindings
from tskd_tune.reports.findings.several_teachers import has_several
from tskd_tune.reports.judge.contrasts import Contrast
from tskd_tune.reports.judge.crossed import Crossed, crossed
from tskd_tune.reports.judge.records import Finding
from tskd_tune.reports.judge.sentences import title_of
from tskd_tune.reports.judge.words import runs_of

NO_SEED = "the two arms have no common seed"
NO_HITS = (
    "no file says which images are right (hits.json): runs of earlier versions have none, nor have tasks that are not"
    " right or wrong about an image"
)
SEVERAL = "an arm was trained under several teachers, and what these add is shown in place of the images"
ROUNDING = 1e-6
"""The largest difference of an accuracy in percent from the share of the images that are right."""


@dataclass(frozen=True)
class _Hits:
    """The hits of the runs of two arms: for each of the common seeds those of the arm and of the baseline."""

    seeds: Sequence[int]
    pairs: Sequence[tuple[KeptHits, KeptHits]]


@dataclass(frozen=True)
class _Without:
    """Why a comparison cannot be made image by image; ``refused`` where its files are there and do not fit."""

    reason: str
    refused: bool = False


@dataclass
class _Runs:
    """The hits of the runs that are done; each file is read once."""

    run: RunFolder
    rows: Mapping[str, Mapping[int, Row]]
    headline: str
    under_several: frozenset[str]
    read: dict[tuple[str, int], KeptHits | None] = field(default_factory=dict)

    def of(self, arm: str, seed: int) -> KeptHits | None:
        """Return the hits of a run; None where it has none."""
        key = arm, seed
        if key not in self.read:
            self.read[key] = hits_of(self.run, self.rows[arm][seed])
        return self.read[key]


def with_images(run: RunFolder, arms: Sequence[ArmFindings], found: Comparison, headline: str) -> Comparison:
    """Add to each comparison how sure its difference is over seeds, over images and over both, or why it is not known.

    A comparison whose runs were evaluated on different data gets a note.

    Args:
        run: the folder of the run.
        arms: its arms.
        found: the comparisons with their verdicts.
        headline: the metric by which the arms are compared, as named in rows.

    Raises:
        RunError: the storage or the disk fails.
    """
    verdicts = found.verdicts
    if verdicts is None:
        return found
    done = {arm.arm: {row.seed: row for row in arm.rows if row.status == "done"} for arm in arms}
    runs = _Runs(run, done, headline, frozenset(arm.arm for arm in arms if has_several(arm.rows)))
    findings, notes = [], list(verdicts.notes)
    for finding in verdicts.family.findings:
        item, images = finding.contrast, _images(finding.contrast, runs)
        findings.append(_with(finding, images))
        if isinstance(images, _Without) and images.refused:
            notes.append(f"{title_of(item)}: nothing can be said over images, because {images.reason}.")
    family = replace(verdicts.family, findings=tuple(findings))
    return replace(found, verdicts=replace(verdicts, family=family, notes=tuple(notes)))


def _with(finding: Finding, images: Crossed | _Without) -> Finding:
    if isinstance(images, _Without):
        return replace(finding, crossed_reason=images.reason)
    return replace(finding, crossed=images)


def _images(item: Contrast, runs: _Runs) -> Crossed | _Without:
    found = _hits(item, runs)
    if isinstance(found, _Without):
        return found
    differences = np.stack([ours.right().astype(np.int8) - theirs.right() for ours, theirs in found.pairs])
    return crossed(differences, found.seeds)


def _hits(item: Contrast, runs: _Runs) -> _Hits | _Without:
    """Return the hits of all common seeds of two arms, which fit together, or why there are none."""
    if not item.seeds:
        return _Without(NO_SEED)
    if {item.arm, item.baseline} & runs.under_several:
        return _Without(SEVERAL)
    pairs: list[tuple[KeptHits, KeptHits]] = []
    for seed in item.seeds:
        ours, theirs = runs.of(item.arm, seed), runs.of(item.baseline, seed)
        if ours is None or theirs is None:
            some = any(runs.of(arm, one) for arm in (item.arm, item.baseline) for one in item.seeds)
            lacking = item.arm if ours is None else item.baseline
            return (
                _Without(f"seed {seed} of '{lacking}' lacks its hits.json", refused=True) if some else _Without(NO_HITS)
            )
        pairs.append((ours, theirs))
    found = _Hits(item.seeds, pairs)
    names = {measured(hits.part, hits.metric) for pair in pairs for hits in pair}
    if names != {runs.headline}:
        others = ", ".join(sorted(names - {runs.headline}))
        return _Without(f"the arms are compared by {runs.headline}, but the images that are right give {others}")
    problem = next(_misfits(item, found, runs), "")
    return _Without(problem, refused=True) if problem else found


def _misfits(item: Contrast, found: _Hits, runs: _Runs) -> Iterator[str]:
    """Yield why the hits of two arms do not fit together or do not fit to their rows."""
    by_data: dict[str, dict[str, list[int]]] = {}
    for seed, pair in zip(found.seeds, found.pairs, strict=True):
        for arm, hits in zip((item.arm, item.baseline), pair, strict=True):
            by_data.setdefault(hits.data, {}).setdefault(arm, []).append(seed)
    if len(by_data) > 1:
        told = [f"{data}: {_named(of)}" for data, of in by_data.items()]
        yield f"the runs were evaluated on different data (digest {few(told)}); train the arms on one set of images"
    sizes = {hits.samples for pair in found.pairs for hits in pair}
    if len(sizes) > 1:
        yield f"the runs were evaluated on different numbers of images ({', '.join(map(str, sorted(sizes)))})"
    for seed, pair in zip(found.seeds, found.pairs, strict=True):
        for arm, hits in zip((item.arm, item.baseline), pair, strict=True):
            value, share = runs.rows[arm][seed].metrics[runs.headline], 100 * float(hits.right().mean())
            if value is None or abs(value - share) > ROUNDING:
                yield (
                    f"of seed {seed} of '{arm}' {share:.6g} % of the images are right, but the row says {value:.6g};"
                    " hits.json is from another evaluation, so delete it"
                )


def _named(arms: Mapping[str, Sequence[int]]) -> str:
    return ", ".join(f"'{arm}', seed{'' if len(seeds) == 1 else 's'} {runs_of(seeds)}" for arm, seeds in arms.items())
