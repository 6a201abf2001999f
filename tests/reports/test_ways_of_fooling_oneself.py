"""Each way of fooling oneself with a table: the report prevents it, or says it in its first lines.

The details of each are tested beside its module; here stands what a reader of the whole report sees.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from factories import a_group, a_row, a_search, write_rows
from tskd_tune.errors import InputError
from tskd_tune.records.entries.leaks import write_leaks
from tskd_tune.records.entries.row import Row, TeacherRecord
from tskd_tune.records.protocols.protocol import keep
from tskd_tune.records.runs.groups import replicates_of
from tskd_tune.records.runs.run_folder import RunFolder
from tskd_tune.reports.findings.declared import Declared
from tskd_tune.reports.findings.frozen import stated
from tskd_tune.reports.findings.search_comparison import SearchComparison, compared
from tskd_tune.reports.findings.searches import method
from tskd_tune.reports.findings.summary import Findings, summary
from tskd_tune.reports.forms.head_lines import head_lines
from tskd_tune.reports.forms.markdown import markdown
from tskd_tune.reports.forms.report_lines import verdict_lines
from tskd_tune.reports.judge.records import Finding
from tskd_tune.sweeps.declared.schema import Sweep
from tskd_tune.sweeps.evidence.extension import Addition, extended

CE = [70.1, 70.4, 69.8, 70.0, 70.3, 70.2, 69.9, 70.5, 70.2, 70.0]
TSKD = [71.0, 71.5, 70.9, 70.8, 71.4, 71.3, 70.7, 71.6, 71.1, 71.0]

Make = Callable[..., RunFolder]


def rows(
    arm: str, values: Sequence[float | None], *, training: dict[str, Any] | None = None, **facts: Any
) -> list[Row]:
    """Return the rows of an arm with the seeds 1, 2, ...; None is a seed that failed."""
    experiment = {
        "task": {"name": "digits"},
        "student": {"name": "resnet8"},
        "review": {"k": len(arm), "delta": 1} if arm.startswith("tskd") else None,
        "training": {"epochs": 4, **(training or {})},
    }
    found = []
    for seed, value in enumerate(values, 1):
        ended = {"status": "failed", "reason": "NaN"} if value is None else {"metrics": {"test_top1": value}}
        found.append(a_row(f"{arm}-{seed}", seed, arm, experiment=experiment, **(ended | facts)))
    return found


@pytest.fixture
def a_run(tmp_path: Path) -> Make:
    """Make a run of these rows whose protocol was kept before there were rows."""

    def make(*arms: list[Row], seeds: int = 10, declared: dict[str, Any] | None = None, **compare: Any) -> RunFolder:
        given = {"search": {"name": "grid"}, "seeds": [*range(1, seeds + 1)], "compare": compare}
        place = f"run{len([*tmp_path.iterdir()])}"
        folder = RunFolder.create(tmp_path, place, "sweep", declared or given)
        names = [of[0].arm for of in arms]
        family = [(name, names[0]) for name in names[1:]]
        keep(folder, "start", stated(Declared.read(declared or given, "x"), metric="test_top1", family=family))
        write_rows(folder, [row for of in arms for row in of])
        folder.replace_document(given)
        return folder

    return make


def only(found: Findings) -> Finding:
    assert found.family is not None
    (finding,) = found.family.family.findings
    return finding


def test_seeds_that_are_added_until_it_is_resolved(a_run: Make) -> None:
    arms = rows("ce", CE), rows("tskd", TSKD)
    split = summary(a_run(*arms, sequential="split", added=[[6, 7, 8, 9, 10]]))
    assert only(split).word == "resolved" and "valid when seeds are added" in only(split).sentence
    fixed = summary(a_run(*arms, sequential="fixed", added=[[6, 7, 8, 9, 10]]))
    assert head_lines(fixed)[0].startswith("The verdicts are exploratory: the run declared one test of a fixed number")
    assert only(fixed).word == "resolved (exploratory)"
    with pytest.raises(InputError, match="analyses"):  # a run with declared analyses has no other number of seeds
        small = {"task": {"name": "digits"}, "student": "resnet8", "review": None}
        looks = {"sequential": "looks", "interim": [5, 10], "baseline": "a"}
        arms_of_two = {"choice": {"a": {}, "b": {"training": {"epochs": 3}}}}
        sweep = {"experiment": {**small, **arms_of_two}, "seeds": [*range(1, 11)], "search": "grid", "compare": looks}
        extended(Sweep.read(sweep), Addition(seeds=[11]))


def test_the_file_is_edited_when_the_results_are_there(a_run: Make) -> None:
    before = {"search": {"name": "grid"}, "seeds": [*range(1, 11)], "compare": {"margin": 0.3}}
    found = summary(a_run(rows("ce", CE), rows("tskd", TSKD), declared=before, margin=2.0))
    assert "compare.margin from 0.3 to 2.0" in head_lines(found)[0]
    assert only(found).exploratory


def test_the_report_is_asked_with_another_margin(a_run: Make) -> None:
    folder = a_run(rows("ce", CE), rows("tskd", TSKD), margin=0.3)
    assert not only(summary(folder)).exploratory
    assert only(summary(folder, ["compare.margin=5.0"])).exploratory


def test_the_seeds_that_failed_were_the_bad_ones(a_run: Make) -> None:
    # Nobody knows what the two seeds that failed would have had.
    shifts = [-0.2, 1.0, -0.3, 0.9, 1.1, 0.1, 1.0, 0.6]
    few = [value + shift for value, shift in zip(CE, shifts, strict=False)]
    finding = only(summary(a_run(rows("ce", CE), rows("tskd", [*few, None, None]), sequential="fixed")))
    assert finding.verdict == "undecided" and "2 seeds failed" in finding.sentence
    forgotten = only(summary(a_run(rows("ce", CE[:8]), rows("tskd", few), seeds=8, sequential="fixed")))
    assert forgotten.verdict == "resolved", "it would be resolved without them"


def test_one_arm_collapses_now_and_then(a_run: Make) -> None:
    found = summary(a_run(rows("ce", CE), rows("tskd", [*TSKD[:9], 12.3])))
    assert "1 collapsed" in markdown(found)
    assert "do not collapse" in only(found).sentence


def test_the_arm_that_wins_was_trained_longer(a_run: Make) -> None:
    finding = only(summary(a_run(rows("ce", CE), rows("tskd", TSKD, training={"epochs": 12}))))
    assert finding.verdict == "undecided" and "Also differs in: epochs 12 against 4" in finding.sentence


def test_the_arm_that_wins_had_another_teacher_of_the_same_name(a_run: Make) -> None:
    one, other = (TeacherRecord(name="resnet20", source="auto", key=key) for key in ("1f" * 8, "2e" * 8))
    arms = rows("tskd", CE, teacher=one), rows("tskd_2", TSKD, teacher=other)
    finding = only(summary(a_run(*arms, pairs=[["tskd_2", "tskd"]])))
    assert finding.verdict == "undecided" and "teacher" in finding.sentence.partition("Also differs in:")[2]


def test_all_seeds_have_one_teacher(a_run: Make) -> None:
    teacher = TeacherRecord(name="resnet20", source="auto", key="1f" * 8)
    found = summary(a_run(rows("ce", CE), rows("tskd", TSKD, teacher=teacher)))
    assert any("hold for this one teacher: resnet20" in line for line in head_lines(found))


def test_one_of_many_comparisons_is_equivalent_by_chance(a_run: Make) -> None:
    near = [
        value + shift for value, shift in zip(CE, [0.4, -0.3, 0.2, -0.4, 0.3, -0.2, 0.4, -0.3, 0.1, -0.1], strict=True)
    ]
    alone = only(summary(a_run(rows("ce", CE), rows("near", near), sequential="fixed")))
    assert alone.verdict == "equivalent"
    others = [rows(f"far{place}", [value + place for value in TSKD]) for place in range(6)]
    found = summary(a_run(rows("ce", CE), rows("near", near), *others, sequential="fixed")).family
    assert found is not None
    verdicts = {finding.contrast.arm: finding.verdict for finding in found.family.findings}
    assert verdicts.pop("near") == "undecided" and set(verdicts.values()) == {"resolved"}


def test_undecided_stands_beside_no_interval_without_0(a_run: Make) -> None:
    random = np.random.default_rng(5)
    for rule in ("split", "fixed"):
        for effect in (0.3, 0.6, 0.9):
            arms = [rows(f"arm{place}", list(70 + 0.5 * random.standard_normal(7))) for place in range(5)]
            arms += [rows("better", list(70 + effect + 0.5 * random.standard_normal(7)))]
            found = summary(a_run(*arms, seeds=7, sequential=rule)).family
            assert found is not None
            for finding in found.family.findings:
                interval = finding.evidence.interval
                assert interval is not None
                assert (finding.verdict == "resolved") == (not interval.low <= 0 <= interval.high)


def test_test_images_were_trained_on(a_run: Make) -> None:
    folder = a_run(rows("ce", CE), rows("tskd", TSKD))
    write_leaks(folder.store, ["3 images of the test set are training images"])
    assert "Leak: 3 images of the test set are training images." in head_lines(summary(folder))[:2]


def test_the_best_of_many_trials_is_reported_as_a_result(tmp_path: Path) -> None:
    found = summary(a_search(tmp_path, [70.0, 71.0, 72.0, 69.0]))
    assert found.family is None and "confirm" in markdown(found)
    assert not any(word in markdown(found) for word in ("Resolved", "resolved"))


def test_the_terminal_says_once_that_verdicts_are_exploratory(a_run: Make) -> None:
    arms = rows("ce", CE), rows("tskd", TSKD)
    fixed = summary(a_run(*arms, sequential="fixed", added=[[6, 7, 8, 9, 10]]))
    lines = [*head_lines(fixed), *verdict_lines(fixed)]
    assert sum(line.startswith("The verdicts are exploratory") for line in lines) == 1


def test_seeds_of_an_extension_are_taken_out_again(a_run: Make) -> None:
    """Of 12 seeds, only those are kept that make a difference; or an extension of a fixed run is undone."""
    for rule in ("split", "fixed"):
        folder = a_run(rows("ce", CE), rows("tskd", TSKD), seeds=5, sequential=rule)
        given = folder.document()
        grown = given | {"seeds": [*range(1, 11)], "compare": {**given["compare"], "added": [[6, 7, 8, 9, 10]]}}
        terms = stated(Declared.read(grown, "x"), metric="test_top1", family=[("tskd", "ce")])
        keep(folder, "extension", terms)
        folder.replace_document(grown)
        assert not [line for line in head_lines(summary(folder)) if line.startswith("Changed")]
        picked = {"seeds": [*range(1, 6), 7, 9], "compare": {**given["compare"], "added": [[7, 9]]}}
        for edited in (given, grown | picked):
            folder.replace_document(edited)
            found = summary(folder)
            assert "compare.added from [[6, 7, 8, 9, 10]] to" in head_lines(found)[0]
            assert only(found).exploratory


@pytest.mark.parametrize("wrong", ["compare.margn=5", "compare.added=[[9]]", "compare.sequential=fixed", "seeds=[1]"])
def test_a_report_takes_no_key_that_says_nothing_or_undoes_the_design(a_run: Make, wrong: str) -> None:
    folder = a_run(rows("ce", CE), rows("tskd", TSKD))
    with pytest.raises(InputError, match="a report takes one of compare.margin, compare.rule"):
        summary(folder, [wrong])


@pytest.mark.parametrize(
    "setting",
    ["compare.baseline=c", "compare.pairs=[[tskd, c]]", "compare.controls={c: tskd}", "compare.controls.ce=c"],
)
def test_a_report_takes_no_arm_that_is_not_there(a_run: Make, setting: str) -> None:
    folder = a_run(rows("ce", CE), rows("tskd", TSKD))
    with pytest.raises(InputError, match="--set: no arm with an ended training is called 'c'; .*known: ce, tskd"):
        summary(folder, [setting])
    assert summary(folder, ["compare.pairs=[[ce, tskd]]"]).family is not None


def test_replicates_of_a_search_are_chosen_with_the_results_in_sight(tmp_path: Path) -> None:
    good, bad = [[72.0 + place / 10, 71.0] for place in range(6)], [[70.0 + place / 7, 69.0] for place in range(6)]
    a_group(tmp_path, "good", good)
    a_group(tmp_path, "bad", bad)

    def methods() -> SearchComparison:
        found = [[RunFolder.open(place) for place in replicates_of(tmp_path / name)] for name in ("good", "bad")]
        return compared(method("good", found[0]), method("bad", found[1]))

    whole = methods()
    assert whole.decision == "resolved" and any("chosen before" in note for note in whole.notes)
    shutil.rmtree(tmp_path / "bad-3")
    shutil.copytree(tmp_path / "bad-1", tmp_path / "bad-9")
    gone = methods()
    assert gone.decision is None and "No verdict: not all replicates count" in gone.sentence
    assert "bad: bad-3 is missing." in gone.notes


def test_one_fixed_test_is_looked_at_before_its_end(a_run: Make) -> None:
    early = summary(a_run(rows("ce", CE[:6]), rows("tskd", TSKD[:6]), sequential="fixed"))
    assert "declared one test of 10 seeds, and 6 have ended in every arm" in head_lines(early)[0]
    assert only(early).word.endswith("(exploratory)")
    whole = summary(a_run(rows("ce", CE), rows("tskd", TSKD), sequential="fixed"))
    assert only(whole).word == "resolved"


def test_comparisons_whose_arms_have_no_row_yet_count_in_the_correction(a_run: Make) -> None:
    folder = a_run(rows("ce", CE), rows("tskd", TSKD), rows("kd", CE), rows("at", CE), baseline="ce")
    write_rows(folder, [row for row in folder.rows() if row.arm in ("ce", "tskd")])
    family = summary(folder).family
    assert family is not None
    found = {finding.contrast.arm: finding for finding in family.family.findings}
    assert {*found} == {"tskd", "kd", "at"} and found["tskd"].family_size == 3
    assert found["kd"].verdict in (None, "undecided")
    assert "3 comparisons" in found["tskd"].sentence


@pytest.mark.parametrize(
    ("seeds", "added", "said"),
    [
        ([1, 2, 3, 4, 5, 8, 9, 10, 6, 7], [[6, 7], [8, 9, 10]], ""),
        (
            [1, 2, 3, 4, 5, 11, 12, 8, 9, 10],
            [[6, 7], [8, 9, 10]],
            "seeds from [1, 2, 3, 4, 5] to [1, 2, 3, 4, 5, 11, 12]",
        ),
        ([1, 2, 3, 4, 5, 8, 9, 10], [[6, 7], [8, 9, 10]], "compare.added from [[6, 7], [8, 9, 10]] to [[8, 9, 10]]"),
        ([6, 7, 3, 4, 5, 1, 2, 8, 9, 10], [[1, 2], [8, 9, 10]], "seeds from [1, 2, 3, 4, 5] to [6, 7, 3, 4, 5]"),
        ([1, 2, 3, 4, 5, 6, 7, 8, 9, 10], [[8, 9, 10], [6, 7]], "compare.added from [[6, 7], [8, 9, 10]] to"),
    ],
)
def test_seeds_that_were_added_are_replaced_or_put_in_another_order(
    a_run: Make, seeds: list[int], added: list[list[int]], said: str
) -> None:
    """A test after each seed that was added depends on their order, and one of many orders is the best one."""
    random = np.random.default_rng(3)
    values = [list(70 + random.standard_normal(12)) for _ in range(2)]
    folder = a_run(rows("ce", values[0]), rows("tskd", values[1]), seeds=5, sequential="split")
    honest = folder.document()
    for portion in ([6, 7], [8, 9, 10]):
        compare = {**honest["compare"], "added": [*(honest["compare"].get("added") or []), portion]}
        honest = {**honest, "seeds": [*honest["seeds"], *portion], "compare": compare}
        keep(folder, "extension", stated(Declared.read(honest, "x"), metric="test_top1", family=[("tskd", "ce")]))
    folder.replace_document(honest)
    before = only(summary(folder))
    assert not before.exploratory and not summary(folder).frozen
    folder.replace_document({**honest, "seeds": seeds, "compare": {**honest["compare"], "added": added}})
    after = summary(folder)
    if said:
        assert said in head_lines(after)[0] and only(after).exploratory
    else:
        assert only(after) == before, "the order of seeds is that of compare.added"
