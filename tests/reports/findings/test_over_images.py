"""The runs of a comparison are paired image by image, if they were evaluated on the same images."""

from __future__ import annotations

import base64
import csv
import io
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

import factories
from tskd_tune.metrics import undeclared
from tskd_tune.records.entries.state import Begun
from tskd_tune.records.kept.hits import HITS, KeptHits
from tskd_tune.records.kept.kept_files import written
from tskd_tune.records.runs.run_folder import RunFolder
from tskd_tune.reports.findings.over_images import NO_HITS
from tskd_tune.reports.findings.summary import summary
from tskd_tune.reports.forms.crossed_lines import SINGLE, crossed_lines
from tskd_tune.reports.forms.exports import as_csv
from tskd_tune.reports.forms.markdown import markdown
from tskd_tune.reports.forms.plain import as_json
from tskd_tune.reports.judge.records import Finding
from tskd_tune.reports.page.report import html

IMAGES = 203
Make = Callable[..., RunFolder]
Right = Mapping[int, np.ndarray]


def drawn(seeds: int, gain: float, number: int) -> dict[int, np.ndarray]:
    """Return seed -> which images are right; images differ in how hard they are, and seeds hardly."""
    hard = np.random.default_rng(0).normal(1.0, 2.0, IMAGES)
    random = np.random.default_rng(number)
    return {seed: hard + gain + random.normal(0, 0.4, IMAGES) > 0 for seed in range(1, seeds + 1)}


PLAIN, REVIEW = drawn(5, 0.0, 1), drawn(5, 0.5, 2)


def kept(right: np.ndarray, **facts: Any) -> KeptHits:
    bits = base64.b64encode(np.packbits(right).tobytes()).decode()
    return KeptHits(**({"part": "test", "metric": "top1", "data": "d1", "samples": len(right), "bits": bits} | facts))


@pytest.fixture
def made(tmp_path: Path) -> Make:
    """Make a run of two arms; ``change`` gets arm, seed and file, and returns the file to keep, or None for none."""

    def make(
        plain: Right = PLAIN,
        review: Right = REVIEW,
        *,
        change: Callable[[str, int, KeptHits], KeptHits | None] = lambda arm, seed, hits: hits,
    ) -> RunFolder:
        folder = RunFolder.create(tmp_path, "first", "sweep", {}, expected=len(plain) + len(review))
        rows = []
        for place, (arm, every) in enumerate({"plain": plain, "review": review}.items()):
            run, identity = f"t{place}", f"{place}" * 12
            folder.begin(Begun(run=run, identity=identity, arm=arm, seeds=[*every]))
            for seed, right in every.items():
                facts = {"measures": [undeclared("top1")], "metrics": {"test_top1": 100 * float(right.mean())}}
                experiment = {"review": {"k": 1, "delta": 1} if place else None, "task": {"name": "t"}}
                rows.append(factories.a_row(run, seed, arm, identity=identity, experiment=experiment, **facts))
                file = folder.student_path(run, seed).with_name(HITS)
                file.parent.mkdir(parents=True)
                hits = change(arm, seed, kept(right))
                if hits is not None:
                    file.write_bytes(written(hits))
        factories.write_rows(folder, rows)
        return folder

    return make


def only(folder: RunFolder) -> Finding:
    family = summary(folder).family
    assert family is not None
    (finding,) = family.family.findings
    return finding


def notes(folder: RunFolder) -> str:
    family = summary(folder).family
    assert family is not None
    return "\n".join(family.notes)


def test_the_runs_of_a_comparison_are_paired_by_seed_and_image(made: Make) -> None:
    item = only(made()).crossed
    table = np.stack([100.0 * REVIEW[seed] - 100.0 * PLAIN[seed] for seed in PLAIN])
    assert item is not None and (item.seeds, item.images) == ((1, 2, 3, 4, 5), IMAGES)
    expected = stats.ttest_1samp(table.mean(axis=0), 0.0).confidence_interval(0.95)
    assert item.over_images is not None and item.over_images.interval.low == pytest.approx(expected.low)
    assert item.difference == pytest.approx(table.mean())


def test_the_difference_and_its_interval_over_seeds_are_those_of_the_verdict(made: Make) -> None:
    finding = only(made())
    item, contrast = finding.crossed, finding.contrast
    assert item is not None and item.over_seeds is not None and contrast.interval is not None
    assert item.difference == pytest.approx(contrast.difference)
    assert item.over_seeds.interval.low == pytest.approx(contrast.interval.low)


def test_the_verdict_is_the_same_with_and_without(made: Make, tmp_path: Path) -> None:
    folder = made()
    with_hits = only(folder)
    for file in folder.path.rglob(HITS):
        file.unlink()
    without = only(folder)
    assert (with_hits.verdict, with_hits.sentence) == (without.verdict, without.sentence)
    assert with_hits.contrast == without.contrast


def test_only_common_seeds_are_paired(made: Make) -> None:
    item = only(made(review={seed: REVIEW[seed] for seed in (2, 4, 5)})).crossed
    assert item is not None and item.seeds == (2, 4, 5)


def test_every_form_shows_it_once_and_the_page_folds_it(made: Make) -> None:
    folder = made()
    found, item = summary(folder), only(folder).crossed
    assert item is not None and item.over_seeds is not None and item.over_both is not None
    line, how = crossed_lines(found)
    low, high = item.over_both.interval.low, item.over_both.interval.high
    assert line.startswith(
        f"'review' against 'plain': {item.difference:+.2f} points over 5 seeds and 203 test images: "
    )
    assert f", {low:+.2f} to {high:+.2f} for both." in line and how == SINGLE
    assert line.count(" for other ") == 2 and "for other seeds," in line and "for other test images," in line
    assert "## Over seeds and images" in markdown(found)
    page = html(folder, found)
    assert page.count("<summary>Over seeds and images</summary>") == 1
    assert f"{item.difference:+.2f} points over 5 seeds and 203 test images" in page
    plain: Any = as_json(found)["family"]
    assert plain["findings"][0]["crossed"]["over_both"]["interval"]["low"] == low
    (row,) = csv.DictReader(io.StringIO(as_csv(found, "verdicts")))
    assert float(row["over_both_high"]) == high and row["images"] == "203"
    assert float(row["over_seeds_low"]) == item.over_seeds.interval.low


def test_a_difference_that_other_images_may_undo_is_said(made: Make) -> None:
    """Every seed finds the same 12 images more and the same 7 fewer: sure over seeds, and 12 against 7 over images."""
    review = {}
    for seed, right in PLAIN.items():
        stable = right.copy()
        stable[:12], stable[12:19], stable[20] = True, False, seed == 1
        review[seed] = stable
    plain = {seed: right.copy() for seed, right in PLAIN.items()}
    for right in plain.values():
        right[:12], right[12:19], right[20] = False, True, False
    folder = made(plain, review)
    finding = only(folder)
    assert finding.verdict == "resolved"
    line = crossed_lines(summary(folder))[0]
    assert line.endswith("On other test images the difference may be 0: what is shown holds for these 203 images.")
    assert "may be 0" not in crossed_lines(summary(made_again(folder)))[0]


def made_again(folder: RunFolder) -> RunFolder:
    """Replace what the arms of a run got right by what all images agree about."""
    rows = []
    for row in folder.rows():
        right = (PLAIN if row.arm == "plain" else drawn(5, 3.0, 2))[row.seed]
        folder.student_path(row.run, row.seed).with_name(HITS).write_bytes(written(kept(right)))
        rows.append(row.model_copy(update={"metrics": {"test_top1": 100 * float(right.mean())}}))
    factories.write_rows(folder, rows)
    return RunFolder.open(folder.path)


def test_identical_runs_have_no_interval_and_it_is_said(made: Make) -> None:
    folder = made(PLAIN, PLAIN)
    assert (
        "+0.00 points over 5 seeds and 203 test images; nothing varies, so there is no interval."
        in (crossed_lines(summary(folder))[0])
    )


@pytest.mark.parametrize(
    "gone", [{("plain", 1), ("plain", 3)}, {("review", 2)}, {(a, s) for a in ("plain", "review") for s in PLAIN}]
)
def test_runs_without_the_file_show_nothing_and_the_json_says_why(gone: set[tuple[str, int]], made: Make) -> None:
    folder = made(change=lambda arm, seed, hits: None if (arm, seed) in gone else hits)
    found, finding = summary(folder), only(folder)
    assert finding.crossed is None
    # Where no run has the file, nothing is missing; where only some lack it, a note says so.
    lacking = {1: "seed 2 of 'review'", 2: "seed 1 of 'plain'"}.get(len(gone))
    assert finding.crossed_reason == (f"{lacking} lacks its hits.json" if lacking else NO_HITS)
    assert crossed_lines(found) == [] and (f"because {lacking} lacks its hits.json" in notes(folder)) == bool(lacking)
    assert "seeds and images" not in markdown(found) + html(folder, found)
    assert "over_both" not in as_csv(found, "verdicts")
    plain: Any = as_json(found)["family"]
    assert plain["findings"][0]["crossed"] is None and plain["findings"][0]["crossed_reason"] == finding.crossed_reason


def test_runs_on_different_images_are_refused_with_a_sentence(made: Make) -> None:
    def change(arm: str, seed: int, hits: KeptHits) -> KeptHits:
        return hits.model_copy(update={"data": "d2"}) if arm == "review" and seed > 3 else hits

    folder = made(change=change)
    assert only(folder).crossed is None
    assert (
        "'review' against 'plain': nothing can be said over images, because the runs were evaluated on different data"
        " (digest d1: 'review', seeds 1 to 3, 'plain', seeds 1 to 5; d2: 'review', seeds 4, 5); train the arms on one"
        " set of images."
    ) in notes(folder)
    assert "nothing can be said over images" in markdown(summary(folder))


def test_hits_that_are_not_those_of_the_row_are_refused_with_a_sentence(made: Make) -> None:
    folder = made(change=lambda arm, seed, hits: kept(~PLAIN[1]) if (arm, seed) == ("plain", 4) else hits)
    assert only(folder).crossed is None
    assert "of seed 4 of 'plain' " in notes(folder) and "hits.json is from another evaluation" in notes(folder)


def test_hits_of_another_metric_than_that_of_the_comparison_are_no_basis(made: Make) -> None:
    folder = made(change=lambda arm, seed, hits: hits.model_copy(update={"part": "validation"}))
    assert only(folder).crossed_reason == (
        "the arms are compared by test_top1, but the images that are right give val_top1"
    )
    assert "images" not in notes(folder)


def test_arms_without_a_common_seed_cannot_be_paired(made: Make) -> None:
    folder = made(review={seed + 5: right for seed, right in REVIEW.items()})
    assert only(folder).crossed is None and only(folder).crossed_reason == "the two arms have no common seed"


def test_a_damaged_file_is_as_a_missing_one(made: Make) -> None:
    folder = made()
    folder.student_path("t1", 1).with_name(HITS).write_text("{")
    with pytest.warns(UserWarning, match=r"hits\.json: is damaged"):
        assert only(folder).crossed is None
