"""What contradicts the rows of a run: an edited value, a second result, other data, other code, rows of elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from factories import a_row, write_rows
from tskd_tune.records.entries.row import DataRecord, Row, TeacherRecord
from tskd_tune.records.protocols.protocol import FILE, Terms, keep, kept
from tskd_tune.records.runs.run_folder import ROWS, RunFolder
from tskd_tune.reports.findings.summary import Findings, summary
from tskd_tune.reports.forms.head_lines import head_lines
from tskd_tune.reports.forms.markdown import markdown

VALUES = {"ce": [70.1, 70.4, 69.8, 70.0, 70.3], "tskd": [71.0, 71.5, 70.9, 70.8, 71.4]}
FACTS: dict[str, Any] = {"task": {"name": "digits"}, "student": {"name": "resnet8"}}
SEEDS = [1, 2, 3, 4, 5]


def rows(**facts: Any) -> list[Row]:
    return [
        a_row(
            f"{arm}-{seed}",
            seed,
            arm,
            metrics={"test_top1": value},
            experiment={**FACTS, "review": {"k": 2} if arm == "tskd" else None},
            **{name: of(arm, seed) for name, of in facts.items()},
        )
        for arm, values in VALUES.items()
        for seed, value in zip(SEEDS, values, strict=True)
    ]


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    """A run whose rows, histories and protocol agree."""
    compare = {"baseline": "ce", "sequential": "split"}
    folder = RunFolder.create(
        tmp_path, "run", "sweep", {"search": {"name": "grid"}, "seeds": SEEDS, "compare": compare}
    )
    terms = {"family": [["tskd", "ce"]], "baseline": "ce", "sequential": "split", "seeds": SEEDS, "metric": "test_top1"}
    keep(folder, "start", Terms(**terms))
    for row in rows():
        lines = [{"seed": row.seed, "epoch": epoch, "test_top1": row.metrics["test_top1"]} for epoch in range(4)]
        folder.append_history(row.run, [{**lines[0], "test_top1": 10.0}, *lines[1:]])
        folder.add_row(row)
    return folder


def found_in(folder: RunFolder) -> Findings:
    return summary(RunFolder.open(folder.path))


def word(found: Findings) -> str:
    assert found.family is not None
    (finding,) = found.family.family.findings
    return finding.word


def test_rows_that_agree_with_everything_are_not_mentioned(run: RunFolder) -> None:
    found = found_in(run)
    assert found.frozen == () and word(found) == "resolved"


def test_a_value_that_was_edited_is_said_first_and_the_verdicts_are_exploratory(run: RunFolder) -> None:
    path = run.path / ROWS
    path.write_text(path.read_text().replace("70.4", "69.9"))
    found = found_in(run)
    first, second, *_ = head_lines(found)
    place = run.store.place(ROWS)
    assert first == (
        f"The value of 1 training in {place} differs from the last epoch of its history:"
        " seed 2 of 'ce' (69.90 %, and 70.40 % in the history)."
    )
    assert second.startswith("The verdicts are exploratory: what was measured is not known for certain")
    assert word(found) == "resolved (exploratory)" and "69.90" in markdown(found)


def test_nothing_is_said_of_a_history_that_is_gone_or_lacks_the_metric(run: RunFolder) -> None:
    for row in rows():
        (run.history_path(row.run, row.seed)).unlink()
    assert found_in(run).frozen == ()
    run.append_history("ce-1", [{"seed": 1, "epoch": 3, "test_loss": 0.5}])
    assert found_in(run).frozen == ()


def test_a_training_that_has_several_results_is_named(run: RunFolder) -> None:
    again = rows()[5].model_copy(update={"metrics": {"test_top1": 71.9}})
    said = "1 training has more than one result, and the last one counts: seed 1 of 'tskd': 71.00 %, then 71.90 %."
    run.append_history(again.run, [{"seed": 1, "epoch": 3, "test_top1": 71.9}])
    run.add_row(again)
    found = found_in(run)
    assert found.frozen == (said,) and word(found) == "resolved"
    write_rows(run, [*rows()[:5], again, *rows()[6:]])
    assert found_in(run).frozen == (said,), "the row was removed before the training was done again"


def test_an_epoch_that_ran_again_after_an_interruption_is_honest(run: RunFolder) -> None:
    for row in rows():
        run.append_history(row.run, [{"seed": row.seed, "epoch": 2, "test_top1": 55.0}])
        run.append_history(row.run, [{"seed": row.seed, "epoch": 3, "test_top1": row.metrics["test_top1"]}])
    assert found_in(run).frozen == ()


def test_a_teacher_that_was_swapped_under_its_key_is_named(run: RunFolder) -> None:
    def teacher(arm: str, seed: int, swapped: float = 74.1) -> TeacherRecord | None:
        value = 72.0 if seed < 4 else swapped
        made = TeacherRecord(name="resnet20", source="auto", key="1f" * 8, metrics={"test_top1": value})
        return made if arm == "tskd" else None

    write_rows(run, rows(teacher=teacher))
    assert found_in(run).frozen == (
        "The teacher resnet20 (key 1f1f1f1f) was measured with different values: 72.00 % in seeds 1 to 3; 74.10 % in"
        " seeds 4, 5. Its weights, or the images, may have been changed.",
    )
    write_rows(run, rows(teacher=lambda arm, seed: teacher(arm, seed, 72.01)))
    assert found_in(run).frozen == (), "another machine rounds differently"


def test_the_same_result_twice_and_a_training_that_broke_before_are_honest(run: RunFolder) -> None:
    write_rows(run, [])
    first = rows()[0]
    run.add_row(first.model_copy(update={"status": "failed", "broke": True, "reason": "lost", "metrics": {}}))
    run.add_row(first.model_copy(update={"status": "stopped", "cut": True, "reason": "budget", "metrics": {}}))
    for row in rows():
        run.add_row(row)
        run.add_row(row)
    assert found_in(run).frozen == ()


def test_seeds_that_saw_other_data_are_named(run: RunFolder) -> None:
    def data(arm: str, seed: int) -> DataRecord:
        digest = "1f" * 8 if seed < 4 else "2e" * 8
        return DataRecord(inputs=[3, 8, 8], outputs=10, samples=[100, 0, 50], fingerprint=digest)

    write_rows(run, rows(data=data))
    assert found_in(run).frozen == (
        "The digest of the data and their split changed between the seeds of 'ce'; 'tskd' (1f1f1f1f in seeds 1 to 3;"
        " 2e2e2e2e in seeds 4, 5): if the data were changed, these seeds are no samples of one experiment.",
    )


def test_arms_of_other_code_are_named_and_seeds_of_other_code_are_not(run: RunFolder) -> None:
    def versions(arm: str, seed: int) -> dict[str, str]:
        return {"tskd-tune": "0.2" if arm == "tskd" and seed > 3 else "0.1", "torch": "2.9"}

    def commit(arm: str, seed: int) -> str:
        return ("a" if arm == "ce" else "b") * 40 + "-dirty"

    write_rows(run, rows(versions=versions, commit=commit))
    family = found_in(run).family
    assert (
        family is not None
        and (
            "The two arms were trained by other code, which may cause a difference: commit bbbbbbbb-dirty against"
            " aaaaaaaa-dirty (seeds 1 to 3); tskd-tune 0.2 against 0.1, commit bbbbbbbb-dirty against aaaaaaaa-dirty"
            " (seeds 4, 5)."
        )
        in family.family.findings[0].sentence
    )
    write_rows(
        run, rows(versions=lambda arm, seed: {"tskd-tune": f"0.{seed}"}, commit=lambda arm, seed: str(seed) * 40)
    )
    family = found_in(run).family
    assert family is not None and "other code" not in family.family.findings[0].sentence


def test_rows_that_were_copied_from_elsewhere_name_no_protocol(run: RunFolder) -> None:
    more = [row.model_copy(update={"seed": 6, "run": f"{row.arm}-6"}) for row in rows() if row.seed == 5]
    with (run.path / ROWS).open("a") as file:
        file.writelines(row.model_dump_json(by_alias=True) + "\n" for row in more)
    found = found_in(run)
    assert "is not named in the rows of 2 trainings, so this run did not write them" in head_lines(found)[0]
    assert word(found) == "resolved (exploratory)"


def test_a_copy_with_the_ends_of_lines_of_another_system_is_no_edit(run: RunFolder) -> None:
    path = run.path / FILE
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    found = kept(RunFolder.open(run.path))
    assert found is not None and (found.damage, found.torn) == ("", "")
