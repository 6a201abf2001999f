"""The sections of single samples, and of metrics by conditions."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import factories
from tskd_tune.metrics import PERCENT, Metric
from tskd_tune.records.entries.row import TeacherRecord
from tskd_tune.records.entries.state import Begun
from tskd_tune.records.kept.examples import Examples, Pictures, pictures_file, teacher_file
from tskd_tune.records.kept.kept_files import written
from tskd_tune.records.runs.run_folder import RunFolder
from tskd_tune.reports.findings.examples import changed, compared, conditions, galleries, judged, overlap
from tskd_tune.reports.findings.summary import summary
from tskd_tune.reports.page.report import html
from tskd_tune.reports.page.section import Page

AP = Metric("ap", "AP", PERCENT, "max", digits=1)
SMALL = Metric("ap_small", "APs", PERCENT, "max", digits=1)
EVIL = "<b>cat</b>"
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
Answers = dict[str, Any]
Make = Callable[..., RunFolder]


def classes(answer: list[int], confidence: float = 0.9) -> Answers:
    return {"kind": "classes", "truth": [0, 1, 0, 1], "answer": answer, "confidence": [confidence] * 4}


def boxes(*answer: list[Any]) -> Answers:
    truth = [[[0.0, 0, 10, 10, 0], [20.0, 20, 40, 40, 1]]]
    return {"kind": "boxes", "sizes": [[50, 100]], "truth": truth, "answer": [list(answer)]}


def examples(answers: Answers | None, breakdowns: list[dict[str, Any]] | None = None) -> Examples:
    samples = [3 * place for place in range(len(answers["truth"]))] if answers else []
    facts = {"part": "test", "data": "d1", "samples": samples, "answers": answers, "breakdowns": breakdowns or []}
    return Examples.model_validate(facts)


@pytest.fixture
def made(tmp_path: Path) -> Make:
    """Make a run; each arm has a list of examples, one for each seed."""

    def make(
        arms: dict[str, list[Examples]],
        *,
        pictures: bool = True,
        teacher: Answers | None = None,
        teachers: dict[str, list[int]] | None = None,
    ) -> RunFolder:
        folder = RunFolder.create(tmp_path, "first", "sweep", {}, expected=2 * len(arms))
        rows = []
        for place, (arm, every) in enumerate(arms.items()):
            under = (teachers or {}).get(arm, [])
            for number, one in enumerate(every, 1):
                seed = 1 + (number - 1) // len(under) if under else number
                of = under[(number - 1) % len(under)] if under else None
                run, identity = f"t{place}{number}", f"{place}{0 if of is None else of}" * 6
                folder.begin(Begun(run=run, identity=identity, arm=arm, seeds=[seed]))
                rows.append(
                    factories.a_row(
                        run,
                        seed,
                        arm,
                        identity=identity,
                        point={} if of is None else {"teacher.seed": of},
                        measures=[AP, SMALL],
                        metrics={"test_ap": 30.0 + place + seed},
                        experiment={"review": {"k": 1, "delta": 1} if place else None, "task": {"name": "t"}},
                        teacher=TeacherRecord(name="big", source="auto", key="k1") if teacher else None,
                    )
                )
                folder.student_path(run, seed).parent.mkdir(parents=True)
                folder.student_path(run, seed).with_name("examples.json").write_bytes(written(one))
        factories.write_rows(folder, rows)
        names = Pictures(classes=[EVIL, "dog"], images=[PIXEL] * 4 if pictures else [])
        folder.store.write(pictures_file("d1"), written(names))
        if teacher:
            folder.store.write(teacher_file("d1", "k1"), written(examples(teacher)))
        return folder

    return make


def page(folder: RunFolder) -> str:
    return html(folder, summary(folder))


def section(folder: RunFolder, name: str) -> str:
    found = re.search(rf'<section aria-labelledby="{name}">.*?</section>', page(folder), re.DOTALL)
    return found[0] if found else ""


def test_samples_count_as_different_only_if_all_seeds_agree(made: Make) -> None:
    # plain: right in both seeds on 0; review: right in both on 0, 1 and 2
    arms = {
        "plain": [examples(classes([0, 0, 1, 0])), examples(classes([0, 0, 0, 0]))],
        "review": [examples(classes([0, 1, 0, 0])), examples(classes([0, 1, 0, 1]))],
    }
    folder = made(arms)
    (gallery,) = galleries(folder, summary(folder).arms)
    ((arm, baseline),) = compared(gallery, None)
    found = changed(arm, baseline)
    assert found is not None and (found.arm.arm, found.baseline.arm) == ("review", "plain")
    assert (found.gained, found.lost, found.samples, found.seeds) == ([1], [], 4, [1, 2])
    assert changed(baseline, arm) is not None and changed(baseline, arm).lost == [1]  # type: ignore[union-attr]


UNDER = {"review": [4, 7]}  # the seeds of the teachers


def test_samples_count_as_different_only_if_they_are_so_under_each_teacher(made: Make) -> None:
    # review: right on 1 with both seeds, under the second teacher always, under the first teacher with seed 1 only
    arms = {
        "plain": [examples(classes([0, 0, 1, 0])), examples(classes([0, 0, 1, 0]))],
        "review": [examples(classes(answer)) for answer in ([0, 1, 0, 0], [0, 1, 0, 1], [0, 0, 0, 0], [0, 1, 0, 1])],
    }
    folder = made(arms, teachers=UNDER)
    (gallery,) = galleries(folder, summary(folder).arms)
    ((arm, baseline),) = compared(gallery, None)
    assert [run.words for run in arm.runs] == [f"seed {s} (teacher {t})" for s in (1, 2) for t in (4, 7)]
    found = changed(arm, baseline)
    assert found is not None and (found.gained, found.lost, found.teachers) == ([2], [], [4, 7])
    assert [(own.seed, own.teacher, other.seed) for own, other in found.pairs] == [
        (1, 4, 1),
        (1, 7, 1),
        (2, 4, 2),
        (2, 7, 2),
    ]
    text = section(folder, "examples")
    assert "with each of the seeds 1, 2 under each of the teachers 4, 7 and" in text


def test_two_arms_under_several_teachers_are_compared_under_the_same_teacher(made: Make) -> None:
    arms = {name: [examples(classes([0, 1, 0, 1]))] * 2 for name in ("plain", "review")}
    folder = made(arms, teachers={"plain": [4, 7], "review": [4, 7]})
    (gallery,) = galleries(folder, summary(folder).arms)
    found = changed(*compared(gallery, None)[0])
    assert found is not None and [(own, own) for own, _ in found.pairs] == list(found.pairs) and len(found.pairs) == 2


def test_boxes_are_drawn_of_the_student_of_each_teacher(made: Make) -> None:
    right, wrong = [0.0, 0, 10, 11, 0, 0.9], [20.0, 20, 40, 40, 0, 0.8]
    arms = {"plain": [examples(boxes(wrong))], "review": [examples(boxes(right)), examples(boxes(right, wrong))]}
    found = section(made(arms, teachers=UNDER), "examples")
    assert re.findall(r"<b>([^<]*)</b> ([^<]*)<", found)[1:] == [
        ("plain, seed 1", "0 of 2 boxes found, 1 wrong"),
        ("review, seed 1 (teacher 4)", "1 of 2 boxes found, 0 wrong"),
        ("review, seed 1 (teacher 7)", "1 of 2 boxes found, 1 wrong"),
    ]


def test_metrics_by_conditions_are_means_over_the_teachers_for_each_seed(made: Make) -> None:
    under = [examples(None, [by_size(*values)]) for values in ((1.0, 10.0), (3.0, 20.0), (5.0, 30.0), (None, 40.0))]
    folder = made({"plain": [examples(None, [by_size(0.0, 0.0)])], "review": under}, teachers=UNDER)
    (gallery,) = galleries(folder, summary(folder).arms)
    (found,) = conditions(gallery)
    assert found.rows[1].values == [[2.0], [15.0, 35.0]] and found.rows[1].seeds == 2, "seed 2 lacks a small one"


def test_histories_of_one_seed_under_two_teachers_are_two_lines(made: Make) -> None:
    arms = {"review": [examples(None)] * 2}
    folder = made(arms, teachers=UNDER)
    for number, teacher in ((1, 4), (2, 7)):
        folder.append_history(f"t0{number}", [{"seed": 1, "epoch": 0, "review_loss": float(teacher)}])
    (arm,) = Page(folder, summary(folder)).curves
    assert list(arm.teachers) == [4, 7] and [len(lines) for lines in arm.seeds] == [1, 1]
    assert arm.values("review_loss") == {0: [4.0, 7.0]}


def test_the_page_shows_the_samples_on_which_arms_differ(made: Make) -> None:
    arms = {"plain": [examples(classes([1, 1, 1, 1]))], "review": [examples(classes([0, 1, 1, 0]))]}
    found = section(made(arms, teacher=classes([0, 0, 0, 0], 0.55)), "examples")
    assert "Samples on which arms differ" in found and f"data:image/png;base64,{PIXEL}" in found
    assert "Of 4 samples of the test set, &#39;review&#39; gives the right class with seed 1" in found
    assert "for 1; the reverse holds for 1." in found
    assert "review: &lt;b&gt;cat&lt;/b&gt; (90\u00a0%)" in found and "teacher big: &lt;b&gt;cat" in found
    assert EVIL not in found and "no. 0" in found and "no. 9" in found


def test_a_page_without_images_says_so(made: Make) -> None:
    arms = {"plain": [examples(classes([1, 1, 1, 1]))], "review": [examples(classes([0, 1, 1, 0]))]}
    found = section(made(arms, pictures=False), "examples")
    assert "The images are not in this run" in found and "<img" not in found and "dog" in found


def test_boxes_are_drawn_once_an_image_and_marked_as_right_or_wrong(made: Make) -> None:
    right, wrong, weak = [0.0, 0, 10, 11, 0, 0.9], [20.0, 20, 40, 40, 0, 0.8], [1.0, 1, 9, 9, 0, 0.1]
    arms = {"plain": [examples(boxes(wrong, weak))], "review": [examples(boxes(right, wrong))]}
    found = section(made(arms, teacher=boxes(right)), "examples")
    assert "Images with boxes" in found and found.count(PIXEL) == 1 and found.count('<use href="#example-0-0"') == 4
    assert re.findall(r"<b>([^<]*)</b> ([^<]*)<", found) == [
        ("truth", "2 boxes"),
        ("teacher big", "1 of 2 boxes found, 0 wrong"),
        ("plain, seed 1", "0 of 2 boxes found, 1 wrong"),
        ("review, seed 1", "1 of 2 boxes found, 1 wrong"),
    ]
    assert found.count("stroke-dasharray") == 2 and "&lt;b&gt;cat&lt;/b&gt; 0.90" in found and EVIL not in found


def test_a_box_takes_the_true_box_that_it_overlaps_most_and_only_once() -> None:
    truth = [(0.0, 0.0, 10.0, 10.0, 0), (0.0, 0.0, 10.0, 8.0, 0)]
    found = [(0.0, 0.0, 10.0, 10.0, 0, 0.5), (0.0, 0.0, 10.0, 9.0, 0, 0.9), (0.0, 0.0, 10.0, 8.0, 0, 0.4)]
    assert [(box[5], right) for box, right in judged(found, truth)] == [(0.9, True), (0.5, True), (0.4, False)]
    assert overlap((0, 0, 1, 1, 0), (5, 5, 6, 6, 0)) == 0.0 == overlap((0, 0, 0, 0, 0), (0, 0, 0, 0, 0))


def by_size(small: float | None, large: float) -> dict[str, Any]:
    return {
        "name": "size",
        "title": "AP by size",
        "axis": "size",
        "metric": AP.plain(),
        "labels": ["small", "large"],
        "values": [small, large],
    }


def by_iou(*values: float) -> dict[str, Any]:
    labels = [f"{0.5 + 0.1 * place:.1f}" for place in range(len(values))]
    facts = {"name": "iou", "title": "AP by IoU", "axis": "IoU", "labels": labels, "values": [*values], "ordered": True}
    return {**facts, "metric": AP.plain()}


def test_metrics_by_conditions_are_over_seeds_and_may_be_absent(made: Make) -> None:
    arms = {
        "plain": [
            examples(None, [by_iou(40, 20), by_size(None, 30)]),
            examples(None, [by_iou(42, 22), by_size(None, 32)]),
        ],
        "review": [examples(None, [by_iou(44, 24), by_size(5, 31)]), examples(None, [by_iou(46, 22), by_size(7, 33)])],
    }
    folder = made(arms)
    (gallery,) = galleries(folder, summary(folder).arms)
    iou, size = conditions(gallery)
    assert [row.values for row in iou.rows] == [[[40, 42], [20, 22]], [[44, 46], [24, 22]]]
    assert [row.values[0] for row in size.rows] == [[], [5, 7]]
    found = section(folder, "breakdowns")
    assert "AP by IoU and size" in found and 'id="figure-iou-0"' in found and 'id="figure-size-0"' in found
    assert "6.0 ± 1.4 (2 seeds)" in found and "—" in found
    assert "31.5 ± 0.7 (2 seeds)" in found and "test AP (%)" in found and "APs" not in found
    assert section(folder, "examples") == ""


def test_many_conditions_are_a_folded_table(made: Make) -> None:
    labels = [f"class {number}" for number in range(80)]
    values = [None, *map(float, range(79))]
    many = {"name": "class", "title": "AP by class", "axis": "class", "metric": AP.plain()}
    found = section(made({"plain": [examples(None, [{**many, "labels": labels, "values": values}])]}), "breakdowns")
    assert "figure-class" not in found and found.count('<th scope="row">class ') == 80 and "<details>" in found


def test_a_run_without_examples_has_no_such_sections(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path, "first", "sweep", {}, expected=1)
    factories.write_rows(folder, [factories.a_row(measures=[AP], metrics={"test_ap": 3.0})])
    assert section(folder, "examples") == section(folder, "breakdowns") == ""


def test_the_same_run_gives_the_same_page(made: Make) -> None:
    folder = made({"plain": [examples(boxes([0.0, 0, 9, 9, 1, 0.5]), [by_size(1, 2)])]})
    assert page(folder) == page(folder)
    assert json.loads(written(examples(None)))["format"] == 1
