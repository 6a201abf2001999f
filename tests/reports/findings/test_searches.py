"""Groups of replicates, and two searched methods at equal numbers of trials."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from scipy import stats

from factories import RANDOM, a_group, a_search, write_rows
from tskd_tune.errors import InputError
from tskd_tune.metrics import Metric
from tskd_tune.paths import Address
from tskd_tune.records.entries.conclusion import Conclusion, conclude
from tskd_tune.records.entries.replicate import Replicate
from tskd_tune.records.protocols.protocol import keep
from tskd_tune.records.runs.run_folder import RunFolder
from tskd_tune.reports.findings.declared import Declared
from tskd_tune.reports.findings.frozen import stated
from tskd_tune.reports.findings.search_comparison import compared
from tskd_tune.reports.findings.searches import method
from tskd_tune.reports.forms import search_forms

TPE = {"name": "optuna", "sampler": "tpe", "metric": "val_top1", "mode": "max"}
LOSS = Metric("loss", "loss", "", "min", digits=3)
# The best of both trials: 72, 73, 71, 74, 70 and 70.5, 71, 70, 71.5, 69.5.
OURS = [[70.0, 72.0], [73.0, 70.0], [71.0, 70.0], [70.0, 74.0], [70.0, 69.0]]
THEIRS = [[70.5, 70.0], [70.0, 71.0], [69.0, 70.0], [71.5, 68.0], [69.5, 69.0]]


def test_a_search_without_any_value_is_not_sent_to_a_resume_once_it_has_ended(tmp_path: Path) -> None:
    ended = a_search(tmp_path, ["failed", "failed"], name="ended")
    with pytest.raises(InputError, match="has ended, and no trial has a value"):
        method("ended", [ended])
    begun = a_search(tmp_path, ["failed"], name="begun", more=1)
    with pytest.raises(InputError, match="tskd-tune resume"):
        method("begun", [begun])


def test_replicates_have_the_mean_of_their_curves_with_an_interval(tmp_path: Path) -> None:
    found = method("ours", a_group(tmp_path, "ours", OURS))
    best = [72.0, 73.0, 71.0, 74.0, 70.0]
    last = found.curve.points[-1]
    assert (found.curve.searches, found.curve.trials, last.value) == (5, 2, pytest.approx(72.0))
    ends = stats.t.interval(0.95, 4, 72.0, stats.sem(best))
    assert (last.low, last.high) == pytest.approx(ends)
    told = search_forms.method_lines(found)
    assert told[0] == "Replicates: ours-1, ours-2, ours-3, ours-4, ours-5."
    assert told[1].startswith("Expected best of n trials, mean over 5 replicates, val_top1: n = 1: 70.90 % (")
    assert "then over the replicates, each with its own seeds" in told[2]


def test_a_replicate_that_has_not_ended_is_left_out_and_one_that_its_budget_ended_is_not(tmp_path: Path) -> None:
    folders = a_group(tmp_path, "ours", OURS[:2])
    folders += [
        a_search(tmp_path, [60.0, 61.0], {**RANDOM, "seed": 3}, name="ours-3", more=2),
        a_search(tmp_path, [70.0, 71.0, 75.0], {**RANDOM, "seed": 4}, name="ours-4", more=2),
    ]
    conclude(folders[3].store, Conclusion(sentence="The budget of 1 h is used up."))
    found = method("ours", folders)
    assert [search.run for search in found.searches] == ["ours-1", "ours-2", "ours-4"]
    told = search_forms.method_lines(found)
    assert told[-1] == "ours: the replicate that has not ended is left out: ours-3."
    assert "The searches have 2 to 3 trials; the first 2 of each count." in told
    with pytest.raises(InputError, match=r"ours: no replicate has ended \(ours-3, ours-3\); finish one with"):
        method("ours", [folders[2]] * 2)
    alone = method("ours-3", [folders[2]])
    assert alone.notes == ("ours-3 has not ended; it has 2 trials so far.",)


def test_a_replicate_that_found_nothing_counts_with_the_worst_value_of_both_searches(tmp_path: Path) -> None:
    nothing = ["failed", "failed"]
    ours = method("ours", a_group(tmp_path, "ours", [*OURS[:2], nothing, *OURS[3:]]))
    kd = method("kd", a_group(tmp_path, "kd", THEIRS))
    assert [search.run for search in ours.searches] == [f"ours-{number}" for number in range(1, 6)]
    told = search_forms.method_lines(ours)[-1]
    assert told.startswith("ours: ours-3 ended and found nothing: no trial of it has a value. It counts, each trial")
    assert search_forms.method_json(ours)["notes"] == [told]
    found = compared(ours, kd)
    # The worst value of both is 68; the best of ours-3 is 68 in place of 71, against 70 of kd-3.
    gains = [1.5, 2.0, -2.0, 2.5, 0.5]
    assert found.points[-1].value == pytest.approx(sum(gains) / 5) and found.points[-1].paired
    assert found.decision == "undecided" and "5 and 5 replicates, paired" in found.sentence
    assert sum("ours-3 ended and found nothing" in note for note in found.notes) == 1
    assert "the worst value of both searches, because leaving it out" in " ".join(found.notes)


def test_a_method_that_found_nothing_in_a_replicate_is_never_called_better(tmp_path: Path) -> None:
    far = [[90.0 + number, 90.0] for number in range(14)]
    low = [[10.0 + number, 10.0] for number in range(15)]
    ours = method("ours", a_group(tmp_path, "ours", [*far, ["failed", "failed"]]))
    for name, theirs in (("kd", low), ("at", [*low[:-1], ["failed", "failed"]])):
        found = compared(ours, method(name, a_group(tmp_path, name, theirs)))
        assert found.points[-1].excludes_zero and found.decision == "undecided"
        assert "Undecided: 'ours' is ahead, but found nothing in ours-15" in found.sentence
    whole = method("whole", a_group(tmp_path, "whole", [*far, [104.0, 90.0]]))
    assert compared(whole, ours).decision == "undecided"
    behind = compared(method("at", [RunFolder.open(tmp_path / f"at-{n}") for n in range(1, 16)]), whole)
    assert behind.decision == "resolved" and "'whole' is better" in behind.sentence


def test_replicates_that_were_added_when_there_were_results_make_a_verdict_exploratory(tmp_path: Path) -> None:
    more = [[value + 5, value] for value in (70.0, 71.0, 69.0)]
    ours = method("ours", a_group(tmp_path, "ours", [*OURS, *more], declared=5))
    kd = method("kd", a_group(tmp_path, "kd", [*THEIRS, *THEIRS[:3]], declared=8))
    assert (
        "'ours' was begun with 5 replicates, and 3 more replicates were added when there were results (ours-6"
        in (search_forms.method_lines(ours)[-1])
    )
    for found in (compared(ours, kd), compared(kd, ours)):
        assert found.decision == "resolved" and "Resolved (exploratory): 'ours' is better" in found.sentence
        assert found.exploratory == search_forms.comparison_lines(found)[0] and found.exploratory == (
            "The verdict is exploratory: 'ours' was begun with 5 replicates, and 3 more replicates were added when"
            " there were results (ours-6 to 8), so false verdicts may be more frequent than 5 %. To confirm it, search"
            " both methods again under other names, with a number of replicates that is chosen before."
        )
    first = method("ours", [RunFolder.open(tmp_path / f"ours-{number}") for number in range(1, 6)])
    assert not first.added and compared(first, kd).exploratory == ""
    unknown = method("old", a_group(tmp_path, "old", [*OURS, *more]))
    assert not unknown.added and "chosen before" in " ".join(compared(unknown, kd).notes)


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        ({"metric": "val_top5"}, "the metric from 'val_top1' to 'val_top5'."),
        ({"mode": "min"}, "search.mode from 'max' to 'min'."),
        ({"trials": 4}, "search.trials from 2 to 4."),
    ],
)
def test_searches_that_were_edited_with_the_results_in_sight_have_an_exploratory_verdict(
    tmp_path: Path, edit: dict[str, Any], said: str
) -> None:
    """All replicates were edited in the same way, so they are alike."""
    kd = method("kd", a_group(tmp_path, "kd", THEIRS, declared=5))
    folders = a_group(tmp_path, "ours", OURS, declared=5)
    search = {**RANDOM, "trials": 2}
    for number, folder in enumerate(folders, 1):
        rows = folder.rows()
        given = {**folder.document(), "search": {**search, "seed": number}}
        write_rows(folder, [])
        folder.store.delete("rows.jsonl")
        keep(folder, "start", stated(Declared.read(given, "x"), metric="val_top1", family=[]))
        folder.replace_document(given)
        known = {"val_top5": 90.0}
        write_rows(folder, [row.model_copy(update={"metrics": row.metrics | known}) for row in rows])
    honest = compared(method("ours", folders), kd)
    assert honest.decision == "resolved" and honest.exploratory == ""
    for folder in folders:
        folder.replace_document({**folder.document(), "search": {**folder.document()["search"], **edit}})
    ours = method("ours", folders)
    assert ours.doubts[0].startswith("ours-1: Changed in sweep.yaml after ")
    assert ours.doubts[0].endswith(said) and len(ours.edited) == 5
    if edit.keys() == {"trials"}:
        found = compared(ours, kd)
        assert "Resolved (exploratory)" in found.sentence and "(ours-1, ours-2, ours-3" in found.exploratory


def test_fewer_replicates_than_were_declared_have_no_verdict(tmp_path: Path) -> None:
    ours = method("ours", a_group(tmp_path, "ours", OURS, declared=7))
    (said,) = ours.notes
    assert said.startswith("ours: ours-6, ours-7 are missing, of 7 replicates that were declared")
    assert compared(ours, method("kd", a_group(tmp_path, "kd", THEIRS, declared=5))).decision is None


def test_a_group_that_found_nothing_says_so_and_what_has_no_trial_is_left_out(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"2 replicates ended \(ours-1, ours-2\), and no trial of them has a value"):
        method("ours", a_group(tmp_path, "ours", [["failed"], ["failed"]]))
    folders = a_group(tmp_path, "kd", [THEIRS[0], [], THEIRS[1]])
    conclude(folders[1].store, Conclusion(sentence="The budget of 1 h is used up."))
    begun = a_search(tmp_path, ["failed"], {**RANDOM, "seed": 4}, name="kd-4", more=1)
    found = method("kd", [*folders, begun])
    assert [search.run for search in found.searches] == ["kd-1", "kd-3"] and not found.empty
    assert "kd-2 is left out: it ended before one of its trials did; go on with `tskd-tune resume" in found.notes[-1]
    assert "kd-4 --hours" not in found.notes[-1] and "left out: kd-4." in " ".join(found.notes)


def test_replicates_with_the_same_seeds_are_compared_in_pairs_at_the_largest_common_number(tmp_path: Path) -> None:
    ours, theirs = method("ours", a_group(tmp_path, "ours", OURS)), method("kd", a_group(tmp_path, "kd", THEIRS))
    found = compared(ours, theirs)
    gains = [1.5, 2.0, 1.0, 2.5, 0.5]
    last, ends = found.points[-1], stats.t.interval(0.95, 4, 1.5, stats.sem(gains))
    assert (last.n, last.value, last.paired) == (2, pytest.approx(1.5), True)
    assert (last.low, last.high) == pytest.approx(ends)
    assert found.decision == "resolved" and found.sentence == (
        "'ours' against 'kd', best val_top1 of 2 trials each: +1.50 points (95 % interval +0.52 to +2.48, 5 and 5"
        " replicates, paired). Resolved: 'ours' is better at this budget."
    )
    assert "A trial took 2.0 s of training in 'ours' and 2.0 s in 'kd'" in " ".join(found.notes)
    back = compared(theirs, ours)
    assert back.points[-1].value == pytest.approx(-1.5) and "Resolved: 'ours' is better" in back.sentence


def test_seeds_in_another_order_are_the_same_seeds(tmp_path: Path) -> None:
    ours = method("ours", a_group(tmp_path, "ours", OURS))
    assert compared(ours, method("kd", a_group(tmp_path, "kd", THEIRS, seeds=[2, 1]))).points[-1].paired


def test_other_seeds_are_compared_unpaired_and_a_small_difference_is_undecided(tmp_path: Path) -> None:
    ours = method("ours", a_group(tmp_path, "ours", OURS))
    other = method("kd", a_group(tmp_path, "kd", OURS[::-1], seeds=[8, 9]))
    found = compared(ours, other)
    assert not found.points[-1].paired and found.decision == "undecided"
    assert "5 and 5 replicates, unpaired). Undecided: the interval contains 0" in found.sentence


def test_fewer_than_five_replicates_have_no_verdict(tmp_path: Path) -> None:
    ours, theirs = (method(name, a_group(tmp_path, name, of[:4])) for name, of in (("a", OURS), ("b", THEIRS)))
    found = compared(ours, theirs)
    assert found.decision is None and found.points[-1].low is not None
    assert "No verdict: a verdict needs 5 replicates of each search or more" in found.sentence


def test_replicates_that_were_declared_and_are_missing_leave_no_verdict(tmp_path: Path) -> None:
    ours, theirs = (method(name, a_group(tmp_path, name, of, declared=7)) for name, of in (("a", OURS), ("b", THEIRS)))
    assert ours.notes == (
        "a: a-6, a-7 are missing, of 7 replicates that were declared; the same `tskd-tune sweep` command with --name a"
        " and --replicates 7 trains what is missing.",
    )
    found = compared(ours, theirs)
    assert found.decision is None and "No verdict: not all replicates count" in found.sentence
    assert {*ours.notes, *theirs.notes} < {*found.notes}
    first = a_search(tmp_path, [70.0], name="c-1", replicate=Replicate(group="c", number=1, declared=2), more=1)
    assert "c-1 has not ended; it has 1 trial so far." in method("c", [first]).notes
    assert "c-2 is missing, of 2" in method("c", [first]).notes[1]
    (first, *_) = a_group(tmp_path / "whole", "c", OURS[:1], declared=2)
    assert "c-2 is missing, of 2" in method("c", [first]).notes[0]
    assert method("c-1", [first]).notes == (), "a run alone is no group"


def test_replicates_that_differ_in_more_than_their_seeds_leave_no_verdict(tmp_path: Path) -> None:
    task = {"task": {"name": "digits"}, "lr": {"uniform": [0.1, 1.0]}, "seed": 1}
    folders = a_group(tmp_path, "a", OURS, experiment=task, budget={"hours": 1})
    other = {"task": {"name": "digits"}, "lr": {"loguniform": [0.1, 1.0]}, "seed": 3, "of_another_version": 1}
    own = folders[2].document()
    folders[2].replace_document({**own, "experiment": other, "budget": {"hours": 2}, "seeds": [3]})
    folders[3].replace_document({**folders[3].document(), "experiment": {**task, "seed": 4}, "seeds": [8, 9]})
    ours = method("a", folders)
    assert ours.notes == (
        "a-3 is no replicate of a-1: their files sweep.yaml differ in experiment.lr, number of seeds, and not in their"
        " seeds alone; restore the file that was edited, or search again under another name.",
    )
    assert compared(ours, method("b", a_group(tmp_path, "b", THEIRS))).decision is None
    folders[2].replace_document(own)
    assert method("a", folders).notes == ()


def test_single_searches_are_compared_without_a_verdict_and_less_is_better_where_it_is(tmp_path: Path) -> None:
    search = {"name": "random", "metric": "val_loss", "mode": "min"}
    ours = method("a", [a_search(tmp_path, [3.0, 2.0, 4.0], search, LOSS, name="a")])
    theirs = method("b", [a_search(tmp_path, ["failed", 3.5, 2.5, 9.0], search, LOSS, name="b")])
    found = compared(ours, theirs)
    assert found.trials == 3 and found.points[-1].value == pytest.approx(2.0 - (2.5 * 3 + 3.5) / 4)
    assert "(lower is better, 1 and 1 search). No verdict" in found.sentence
    told = " ".join(found.notes)
    assert "'b' has more trials, 4; it is compared at up to 3." in told
    assert "Trials without a final value (1 in 'b') count with the worst value of both searches." in told


def test_the_worst_value_is_that_of_both_searches(tmp_path: Path) -> None:
    ours = method("a", [a_search(tmp_path, ["failed", 72.0], name="a")])
    theirs = method("b", [a_search(tmp_path, [50.0, 70.0], name="b")])
    found = compared(ours, theirs)
    assert found.points[0].value == pytest.approx((50 + 72) / 2 - 60)
    assert found.curves[0].worst == 50.0 and found.curves[0].points[0].value == pytest.approx(61.0)


def test_what_makes_two_searches_unlike_is_said(tmp_path: Path) -> None:
    ours = method("a", [a_search(tmp_path, OURS[0], name="a")])
    folder = a_search(tmp_path, OURS[1], TPE, name="b", seeds=[1])
    rows = [row.model_copy(update={"experiment": {"task": {"name": "other"}}}) for row in folder.rows()]
    folder.store.write("rows.jsonl", b"")
    for row in rows:
        folder.add_row(row)
    told = " ".join(compared(ours, method("b", [folder])).notes)
    assert "The tasks of the two searches differ" in told
    assert "A trial has 2 seeds in 'a' and 1 in 'b'." in told
    assert "Only the trials of 'a' were drawn independently" in told


def test_two_groups_of_one_name_are_told_apart_by_their_places(tmp_path: Path, memory: Address) -> None:
    """One is kept in a folder and the other one on an object storage; they are no common run."""
    ours = method("a", a_group(tmp_path, "a", OURS))
    theirs = method("a", a_group(memory, "a", OURS))
    found = compared(ours, theirs)
    assert (found.ours, found.theirs) == (f"{tmp_path}/a", f"{memory}/a")
    assert found.sentence.startswith(f"'{tmp_path}/a' against '{memory}/a', best val_top1 of ")


def test_what_cannot_be_compared_is_refused(tmp_path: Path) -> None:
    ours = method("a", [a_search(tmp_path, OURS[0], name="a")])
    with pytest.raises(InputError, match="'a' has a run in common with 'a'"):
        compared(ours, ours)
    loss = a_search(tmp_path, [1.0], {"name": "random", "metric": "val_loss", "mode": "min"}, LOSS, name="loss")
    with pytest.raises(InputError, match=r"different metrics \(val_loss \(min\), val_top1 \(max\)\); two searches"):
        compared(ours, method("loss", [loss]))
    with pytest.raises(InputError, match="its replicates were searched by different metrics"):
        method("group", [loss, a_search(tmp_path, OURS[0], name="b")])
    with pytest.raises(InputError, match=r"grid: is no search, so it has no best of n trials"):
        method("grid", [a_search(tmp_path, OURS[0], {"name": "grid"}, name="grid")])
    with pytest.raises(InputError, match="no trial has a value of the search's metric"):
        method("empty", [a_search(tmp_path, ["failed"], name="empty")])
    single = RunFolder.create(tmp_path, "single", "train", {"task": "digits"}, expected=1)
    with pytest.raises(InputError, match="single: is no search"):
        method("single", [single])


def test_a_comparison_as_markdown_and_csv(tmp_path: Path) -> None:
    ours, theirs = method("ours", a_group(tmp_path, "ours", OURS)), method("kd", a_group(tmp_path, "kd", THEIRS))
    found = compared(ours, theirs)
    text = search_forms.comparison_markdown(found, ours.metric)
    assert text.startswith("# ours against kd\n\n| trials | ours | kd | difference | 95 % interval |\n")
    assert "| 2 | 72.00 | 70.50 | +1.50 | +0.52 to +2.48 |" in text and "\n- 'ours' against 'kd'" in text
    first, *rest = search_forms.comparison_csv(found).splitlines()
    assert first == "n,difference,low,high,paired,ours,theirs,metric,mode" and len(rest) == 2
    assert math.isclose(float(rest[1].split(",")[1]), 1.5)
