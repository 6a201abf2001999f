"""What a report says of a protocol that was changed: each way of fooling oneself, with the results in sight."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import factories
from tskd_tune.errors import InputError
from tskd_tune.records.entries.row import Row
from tskd_tune.records.protocols import protocol
from tskd_tune.records.protocols.confirmations import Ledger, enter, ledger, searched
from tskd_tune.records.protocols.protocol import Terms, keep
from tskd_tune.records.runs.run_folder import RunFolder
from tskd_tune.reports.findings.declared import Declared
from tskd_tune.reports.findings.frozen import stated
from tskd_tune.reports.findings.summary import Findings, summary
from tskd_tune.reports.forms.head_lines import head_lines
from tskd_tune.reports.forms.latex import latex
from tskd_tune.reports.forms.markdown import markdown
from tskd_tune.reports.forms.plain import as_json
from tskd_tune.reports.page.report import html

BASE = [70.1, 70.4, 69.8, 70.0, 70.3]
VALUES = {
    "ce": BASE,
    "tskd": [71.0, 71.5, 70.9, 70.8, 71.4],
    "zeros": [70.12, 70.38, 69.83, 69.97, 70.31],
    "reversed": [70.2, 70.1, 69.9, 70.4, 70.0],
}
SEEDS = [1, 2, 3, 4, 5]
COMPARE: dict[str, Any] = {"baseline": "ce", "sequential": "split", "controls": {}, "margin": 0.3}
TOLD = "2026-11-28T00:10:00+00:00"


def rows(*arms: str, seeds: list[int] = SEEDS) -> list[Row]:
    facts = {"task": {"name": "digits"}, "student": {"name": "resnet8"}}
    return [
        factories.a_row(
            f"{place}-{seed}",
            seed,
            arm,
            metrics={"test_top1": VALUES[arm][seed - 1]},
            experiment={**facts, "review": None},
        )
        for place, arm in enumerate(arms)
        for seed in seeds
    ]


def document(**compare: Any) -> dict[str, Any]:
    return {"search": {"name": "grid"}, "seeds": SEEDS, "compare": COMPARE | compare}


def terms(given: dict[str, Any], *family: tuple[str, str]) -> Terms:
    return stated(Declared.read(given, "sweep.yaml"), metric="test_top1", family=family or [("tskd", "ce")])


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunFolder:
    """A run that has kept its protocol and has no results yet."""
    monkeypatch.setattr(protocol, "now", lambda: TOLD)
    folder = RunFolder.create(tmp_path, "run", "sweep", document(), expected=10)
    keep(folder, "start", terms(document()))
    return folder


def trained(folder: RunFolder, *arms: str) -> RunFolder:
    factories.write_rows(folder, rows(*(arms or ("ce", "tskd"))))
    return folder


def found_in(folder: RunFolder) -> Findings:
    return summary(RunFolder.open(folder.path))


def words(found: Findings) -> list[str]:
    assert found.family is not None
    return [finding.word for finding in found.family.family.findings]


def test_a_protocol_that_was_kept_is_not_mentioned(run: RunFolder) -> None:
    found = found_in(trained(run))
    assert words(found) == ["resolved"] and found.frozen == () and not found.family.family.exploratory  # type: ignore[union-attr]


@pytest.mark.parametrize("place", [lambda teacher: teacher, lambda teacher: {"choice": {"ce": {}, "tskd": teacher}}])
def test_a_teacher_that_is_added_with_the_results_in_sight_is_said_first(tmp_path: Path, place: Any) -> None:
    def under(*seeds: int) -> dict[str, Any]:
        return document() | {"experiment": place({"teacher": {"name": "resnet20", "seeds": [*seeds]}})}

    folder = RunFolder.create(tmp_path, "run", "sweep", under(0, 1), expected=10)
    keep(folder, "start", terms(under(0, 1)))
    trained(folder)
    assert found_in(folder).frozen == ()
    folder.replace_document(under(0, 1, 2))
    found = found_in(folder)
    assert "teacher.seeds from [0, 1] to [0, 1, 2]." in head_lines(found)[0]
    assert all(word.endswith("(exploratory)") for word in words(found))


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        ({"margin": 2.0}, "compare.margin from 0.3 to 2.0."),
        ({"rule": "margin"}, "compare.rule from 'difference' to 'margin'."),
        ({"sequential": "fixed"}, "compare.sequential from 'split' to 'fixed'."),
        ({"sequential": "looks", "interim": [5]}, "compare.sequential from 'split' to 'looks'."),
        ({"baseline": "tskd"}, "compare.baseline from 'ce' to 'tskd'."),
        ({"baseline": None, "pairs": [["tskd", "ce"]]}, "compare.baseline from 'ce' to null."),
        ({"allow": ["training"]}, "compare.allow from [] to ['training']."),
        ({"controls": {"ce": "tskd"}}, "compare.controls from {} to {'ce': 'tskd'}."),
    ],
)
def test_an_edit_with_the_results_in_sight_is_said_first_and_marks_the_verdicts(
    run: RunFolder, edit: dict[str, Any], said: str
) -> None:
    trained(run).replace_document(document(**edit))
    found = found_in(run)
    first, *_ = head_lines(found)
    assert first == f"Changed in sweep.yaml after 2026-11-28 00:10 UTC (10 trainings ended by now): {said}"
    assert found.family is not None and all(finding.exploratory for finding in found.family.family.findings)
    assert all(word.endswith("(exploratory)") for word in words(found))
    why = head_lines(found)[len(found.frozen)]
    assert why.startswith("The verdicts are exploratory: what was declared was changed after there were results")
    assert as_json(found)["frozen"] == list(found.frozen)


def test_every_form_of_the_report_says_it(run: RunFolder) -> None:
    trained(run).replace_document(document(margin=2.0))
    found = found_in(run)
    for text in (markdown(found), latex(found), html(run, found)):
        assert "exploratory" in text and "Changed in sweep.yaml after" in text


def test_seeds_that_were_taken_away_or_added_by_hand_are_an_edit(run: RunFolder) -> None:
    trained(run).replace_document({**document(), "seeds": [1, 2, 3, 4]})
    assert "seeds from [1, 2, 3, 4, 5] to [1, 2, 3, 4]." in head_lines(found_in(run))[0]
    run.replace_document({**document(), "seeds": [*SEEDS, 6]})
    assert "seeds from [1, 2, 3, 4, 5] to [1, 2, 3, 4, 5, 6]." in head_lines(found_in(run))[0]


def test_seeds_that_an_extension_added_are_no_edit(run: RunFolder) -> None:
    more = {**document(added=[[6]]), "seeds": [*SEEDS, 6]}
    trained(run).replace_document(more)
    keep(run, "extension", terms(more))
    found = found_in(run)
    assert found.frozen == () and not found.family.family.exploratory  # type: ignore[union-attr]


def test_an_edit_before_there_were_results_is_only_noted(run: RunFolder) -> None:
    run.replace_document(document(margin=0.5))
    assert found_in(run).frozen == (
        "Changed in sweep.yaml after 2026-11-28 00:10 UTC (no training has ended yet): compare.margin from 0.3 to 0.5.",
    )
    keep(run, "resume", terms(document(margin=0.5)))
    found = found_in(trained(run))
    assert found.frozen == (
        "Changed before there were results (resume of 2026-11-28 00:10 UTC): compare.margin from 0.3 to 0.5.",
    )
    assert words(found) == ["resolved"]


def test_a_resume_tells_when_an_edit_was_seen_and_how_many_results_there_were(run: RunFolder) -> None:
    factories.write_rows(run, rows("ce"))
    run.replace_document(document(margin=2.0))
    keep(run, "resume", terms(document(margin=2.0)))
    found = found_in(trained(run))
    assert head_lines(found)[0] == (
        "Changed after there were results, when 5 trainings had ended (resume of 2026-11-28 00:10 UTC): compare.margin"
        " from 0.3 to 2.0."
    )
    assert words(found) == ["resolved (exploratory)"]


def test_what_was_changed_back_is_said_and_the_declared_verdicts_stand(run: RunFolder) -> None:
    trained(run)
    keep(run, "resume", terms(document(margin=2.0)))
    keep(run, "resume", terms(document()))
    found = found_in(run)
    assert found.frozen == (
        "Changed after there were results, when 10 trainings had ended (resume of 2026-11-28 00:10 UTC), and changed"
        " back since: compare.margin from 0.3 to 2.0.",
    )
    assert words(found) == ["resolved"]


def test_a_margin_given_with_a_report_makes_the_verdicts_of_this_report_exploratory(run: RunFolder) -> None:
    found = summary(trained(run), ["compare.margin=2.0"])
    assert head_lines(found)[0] == "Given with this report, and not declared: compare.margin from 0.3 to 2.0."
    assert words(found) == ["resolved (exploratory)"]
    assert found.family is not None and found.family.family.margin == 2.0
    assert words(summary(run, ["compare.margin=0.3"])) == words(found_in(run)) == ["resolved"], "the declared one"
    run.replace_document(document(rule="margin"))
    first, second = summary(run, ["compare.margin=2.0"]).frozen
    assert first.startswith("Given with this report") and second.startswith("Changed in sweep.yaml after")


def test_a_control_given_with_a_report_is_exploratory_also_in_an_old_run(tmp_path: Path) -> None:
    old = trained(RunFolder.create(tmp_path, "old", "sweep", document()), "ce", "tskd", "zeros")
    assert words(summary(old)) == ["resolved", "equivalent"]
    found = summary(old, ["compare.controls={zeros: tskd}"])
    assert found.frozen == ("Given with this report, and not declared: compare.controls from {} to {'zeros': 'tskd'}.",)
    assert words(found) == ["resolved (exploratory)"] * 2


@pytest.mark.parametrize("setting", ["seeds=[1]", "search.metric=val_loss", "compare.margin=-1", "compare.rule=best"])
def test_what_a_report_cannot_be_given_is_a_sentence(run: RunFolder, setting: str) -> None:
    with pytest.raises(InputError, match="--set"):
        summary(trained(run), [setting])


def test_another_metric_than_the_declared_one_is_an_edit(run: RunFolder) -> None:
    factories.write_rows(run, [row.model_copy(update={"metrics": {"test_loss": 1.0 / row.seed}}) for row in rows("ce")])
    assert "the metric from 'test_top1' to 'test_loss'." in head_lines(found_in(run))[0]


def test_a_control_that_was_added_later_is_marked_and_the_others_are_not(run: RunFolder) -> None:
    trained(run)
    more = document(controls={"zeros": "tskd"})
    run.replace_document(more)
    keep(run, "extension", terms(more, ("tskd", "ce"), ("tskd", "zeros")))
    found = found_in(trained(run, "ce", "tskd", "zeros"))
    assert head_lines(found)[0] == (
        "Added after there were results, when 10 trainings had ended (extension of 2026-11-28 00:10 UTC), with an"
        " exploratory verdict: 'tskd' against 'zeros'."
    )
    assert words(found) == ["resolved", "resolved (exploratory)"]
    assert found.family is not None and found.family.family.exploratory == ""
    assert "Resolved (exploratory): 'tskd' is better" in found.family.family.findings[1].sentence


def test_a_comparison_that_nobody_declared_is_marked(run: RunFolder) -> None:
    found = found_in(trained(run, "ce", "tskd", "reversed"))
    assert words(found) == ["resolved", "undecided (exploratory)"]
    assert found.family is not None
    assert "Not declared before there were results, so with an exploratory verdict: 'reversed' against 'ce'." in (
        found.family.notes
    )


def test_an_arm_that_was_dropped_is_an_edit(run: RunFolder) -> None:
    keep(run, "resume", terms(document(), ("tskd", "ce"), ("zeros", "ce")))
    trained(run)
    keep(run, "resume", terms(document()))
    found = found_in(run)
    assert head_lines(found)[0] == (
        "Changed after there were results, when 10 trainings had ended (resume of 2026-11-28 00:10 UTC): the"
        " comparisons no longer have 'zeros' against 'ce'."
    )
    assert words(found) == ["resolved (exploratory)"]


@pytest.mark.parametrize("left", [b"", b"nothing\n", b'{"time": "20', None])
def test_a_damaged_protocol_is_a_sentence_and_the_verdicts_are_exploratory(run: RunFolder, left: bytes | None) -> None:
    trained(run)
    if left is None:
        (run.path / protocol.FILE).unlink()
    else:
        (run.path / protocol.FILE).write_bytes(left)
    found = found_in(run)
    assert any("protocol.jsonl" in line for line in found.frozen) and words(found) == ["resolved (exploratory)"]
    assert found.frozen[-1].startswith("The protocol of the run's start is not known for certain")


def test_an_incomplete_last_line_is_said_and_changes_no_verdict(run: RunFolder) -> None:
    path = trained(run).path / protocol.FILE
    path.write_bytes(path.read_bytes() + b'{"time": "20')
    found = found_in(run)
    assert "the last line is incomplete" in found.frozen[0] and words(found) == ["resolved"]


def test_an_old_run_is_reported_as_ever_and_nothing_is_claimed(tmp_path: Path) -> None:
    folder = trained(RunFolder.create(tmp_path, "old", "sweep", document(), expected=10))
    keep(folder, "resume", terms(document()))
    folder.replace_document(document(margin=2.0))
    found = found_in(folder)
    assert found.frozen == () and words(found) == ["resolved"]


def test_a_fixed_run_that_was_extended_says_both(run: RunFolder) -> None:
    more = {**document(sequential="fixed", added=[[5]]), "seeds": SEEDS}
    trained(run).replace_document({**more, "seeds": [*SEEDS, 6], "compare": more["compare"] | {"added": [[6]]}})
    exploratory = found_in(run).family.family.exploratory  # type: ignore[union-attr]
    assert "was changed after there were results" in exploratory and "declared one test" in exploratory


# Confirmations of one search


@pytest.fixture
def search(tmp_path: Path) -> RunFolder:
    given = {"search": {"name": "random", "metric": "val_top1", "mode": "max"}, "seeds": [1, 2]}
    return RunFolder.create(tmp_path, "search", "sweep", given)


def confirm(search: RunFolder, name: str, seeds: list[int], root: Path | None = None) -> RunFolder:
    given = {**document(), "seeds": seeds}
    folder = RunFolder.create(root or search.path.parent, name, "sweep", given, confirms=search.name)
    enter(search, folder, seeds)
    keep(folder, "start", terms(given), searched(search, [1, 2]))
    return folder


def test_two_confirmations_of_one_search_know_of_each_other(search: RunFolder) -> None:
    first = confirm(search, "first", [101, 102, 103])
    assert found_in(first).frozen == ()
    second = confirm(search, "second", [103, 104])
    minute = first.state.created[:16].replace("T", " ")
    assert head_lines(found_in(second))[0] == (
        "This is one of 2 confirmations of the search 'search'; the other one is 'first' (seeds 101 to 103, of which"
        f" 103 is also here; begun {minute} UTC). Each has an error rate of 5 % of its own: report all of them, not the"
        " best one."
    )
    assert "the other one is 'second' (seeds 103, 104, of which 103 is also here" in head_lines(found_in(first))[0]


def test_a_confirmation_elsewhere_knows_of_those_beside_the_search(search: RunFolder, tmp_path: Path) -> None:
    confirm(search, "first", [101])
    (tmp_path / "away").mkdir()
    away = confirm(search, "second", [102], tmp_path / "away")
    assert "'first' (seeds 101;" in found_in(away).frozen[0]
    search.path.rename(tmp_path / "moved")
    assert found_in(away).frozen == (
        f"The search 'search' is no longer at {search.path}: other confirmations of it are not known.",
    )


def test_another_search_of_the_same_name_is_not_taken_for_it(search: RunFolder, tmp_path: Path) -> None:
    first = confirm(search, "first", [101])
    RunFolder.create(tmp_path, "another", "sweep", search.document())
    search.path.rename(tmp_path / "kept")
    (tmp_path / "another").rename(search.path)
    assert "is no longer at" in found_in(first).frozen[0]


def test_a_confirmation_that_was_given_up_does_not_count(search: RunFolder) -> None:
    gone = confirm(search, "gone", [101])
    enter(search, gone, [101], discarded=True)
    assert ledger(search) == Ledger() and found_in(confirm(search, "first", [102])).frozen == ()


@pytest.mark.parametrize("left", [b"", b"{", b'{"run": 1}\n', b"\xff"])
def test_a_damaged_ledger_is_a_sentence(search: RunFolder, left: bytes) -> None:
    first, second = confirm(search, "first", [101]), confirm(search, "second", [102])
    (search.path / "confirmations" / f"{first.state.id}.json").write_bytes(left)
    (said,) = found_in(second).frozen
    assert said.endswith("so one confirmation is not known.") and f"{first.state.id}.json cannot be read" in said


def test_a_ledger_whose_files_were_removed_is_a_sentence(search: RunFolder) -> None:
    first, second = confirm(search, "first", [101]), confirm(search, "second", [102])
    folder = search.path / "confirmations"
    (folder / f"{second.state.id}.json").unlink()
    said = found_in(second).frozen
    assert said[0].startswith(f"{folder} has no entry of this run") and "'first'" in said[1]
    assert "no entry" not in " ".join(found_in(first).frozen)
    (folder / f"{first.state.id}.json").unlink()
    folder.rmdir()
    (alone,) = found_in(first).frozen
    assert alone.endswith("further confirmations of the search 'search' are not known for certain.")


def test_seeds_that_chose_the_winners_make_a_confirmation_exploratory(search: RunFolder) -> None:
    first = trained(confirm(search, "first", SEEDS))
    found = found_in(first)
    assert head_lines(found)[0].startswith(
        "The verdicts are exploratory: the search 'search' chose its winners with seeds 1, 2."
    )
    assert words(found) == ["resolved (exploratory)"]
