from __future__ import annotations

import random
import re
import shutil
from dataclasses import replace
from html.parser import HTMLParser

import pytest

import factories
from factories import a_cost
from tskd_tune.errors import RunError
from tskd_tune.records.entries.row import Cost, PlanRecord, TeacherRecord
from tskd_tune.records.runs.run_folder import RunFolder
from tskd_tune.reports.findings.comparison import Verdicts
from tskd_tune.reports.findings.importance import Group, Importance, LeftOutTrials, Objective, Share
from tskd_tune.reports.findings.pareto import LeftOut
from tskd_tune.reports.findings.records import values_by_seed
from tskd_tune.reports.findings.summary import summary
from tskd_tune.reports.judge import verdicts
from tskd_tune.reports.page.report import html, write_report

EVIL = "<script>alert(1)</script>\"'&"
VOID = {"meta", "br", "rect", "link"}


def a_row(run, seed, arm, **changes):
    facts = {
        "metrics": {"train_top1": 70.0, "val_top1": 58.0, "test_top1": 60.0 + seed},
        "cost": a_cost(10.0, train_seconds=9.0, peak_memory_bytes=2**21, threads=2),
        "commit": "abcdef0123" + "4" * 30 + "-dirty",
    }
    return factories.a_row(run, seed, arm, planned=8, **(facts | changes))


def a_history(seed, reviews):
    for epoch in range(8):
        line = {"seed": seed, "epoch": epoch, "phase": "general", "val_top1": 10.0 * epoch + seed}
        if epoch in reviews:
            line |= {"phase": "review", "review_loss": 0.1, "grad_norm_others": 2.0, "grad_norm_review": 0.001}
        yield line


@pytest.fixture
def run(tmp_path):
    folder = RunFolder.create(tmp_path, "first", "sweep", {}, expected=4)
    review = {
        "experiment": {"review": {"k": 1}},
        "plan": PlanRecord(memorize=[0, 4], review=[2, 6]),
        "lambda_": 1.0,
        "deviations": [f"k is 1 {EVIL}"],
        "warnings": [f"few reviews {EVIL}"],
        "teacher": TeacherRecord(name=f"resnet56 {EVIL}", source="auto", key="k", metrics={"test_top1": 72.4}),
    }
    factories.write_rows(
        folder,
        [
            a_row("t0", 1, "baseline"),
            a_row("t0", 2, "baseline"),
            a_row("t1", 1, EVIL, **review, status="failed", reason=f"lost {EVIL}", epochs=3),
        ],
    )
    for seed in (1, 2):
        folder.append_history("t0", list(a_history(seed, ())))
    folder.append_history("t1", list(a_history(1, (2, 6))))
    return folder


class Outline(HTMLParser):
    """What a page consists of: open tags, ids, texts outside scripts; refuses tags that do not close."""

    def __init__(self, text):
        super().__init__()
        self.stack, self.tags, self.ids, self.links, self.text = [], [], [], [], ""
        self.feed(text)
        assert self.stack == []

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        self.tags.append((tag, given))
        self.ids += [given["id"]] if "id" in given else []
        self.links += [given[name] for name in ("src", "href") if name in given]
        if tag not in VOID:
            self.stack.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.stack.pop() == tag

    def handle_data(self, data):
        if not self.stack or self.stack[-1] not in ("script", "style"):
            self.text += data

    def count(self, tag, **attributes):
        return sum(name == tag and attributes.items() <= given.items() for name, given in self.tags)


@pytest.fixture
def page(run):
    path = write_report(run)
    assert path == run.path / "report.html"
    return path.read_text()


def test_it_is_one_well_formed_page_that_loads_nothing(page):
    outline = Outline(page)
    assert outline.links == []
    assert "default-src 'none'" in page
    assert outline.count("html", lang="en") == 1
    assert outline.count("h1") == 1
    assert len(outline.ids) == len(set(outline.ids))
    assert page.count("plotly.js v") == 1
    assert re.findall(r'id="(figure-[a-z_]+)"', page) == ["figure-accuracy", "figure-review_loss", "figure-ratio"]


def test_it_is_accessible(page):
    outline = Outline(page)
    assert "<title>first · tskd-tune</title>" in page
    assert outline.count("th", scope="col") >= 18
    assert outline.count("th", scope="row") == 2 + 3
    assert outline.count("table") == outline.count("caption") == 2
    assert outline.count("figure") == outline.count("figcaption") == 3
    assert all("aria-label" in given for tag, given in outline.tags if tag == "svg")
    assert "prefers-color-scheme: dark" in page
    assert 'name="viewport"' in page


def test_everything_is_escaped(page):
    outline = Outline(page)
    assert outline.count("script") == 1 + outline.count("figure")
    assert "<script>alert" not in page
    assert outline.text.count("<script>alert(1)</script>\"'&") >= 6


def test_it_says_what_a_reader_must_know(page):
    text = " ".join(Outline(page).text.split())
    assert "3 of 4 runs finished, 1 failed" in text
    assert "61.50 ± 0.71 (2 seeds)" in text
    assert "failed after 3 of 8 epochs: lost" in text
    assert "few reviews" in text
    assert "memorize: 0, 4" in text
    assert "review: 2, 6" in text
    assert "k is 1" in text
    assert "test top-1 72.40 %" in text
    assert "abcdef0123-dirty" in text
    assert "2 MiB" in text
    assert "torch" in text


def test_the_plan_is_drawn_to_scale(page):
    marks = [given for tag, given in Outline(page).tags if tag == "rect" and given["class"] != "band"]
    assert [(mark["class"], float(mark["x"]), float(mark["width"])) for mark in marks] == [
        ("memorize", 0.0, 12.5),
        ("memorize", 50.0, 12.5),
        ("review", 25.0, 12.5),
        ("review", 75.0, 12.5),
    ]


def test_the_same_records_give_the_same_bytes(run, page):
    markdown = (run.path / "report.md").read_bytes()
    rows = run.rows()
    factories.write_rows(run, reversed(rows))
    write_report(run)
    assert (run.path / "report.html").read_text() == page
    assert (run.path / "report.md").read_bytes() == markdown


def test_a_run_without_rows_is_a_small_page(tmp_path):
    run = RunFolder.create(tmp_path, "empty", "sweep", {}, expected=18)
    text = write_report(run).read_text()
    assert "0 of 18 runs finished" in text
    assert "No run has finished yet" in text
    assert "Plotly" not in text
    assert len(text) < 20_000
    Outline(text)


def test_more_arms_than_can_be_told_apart_are_not_all_drawn(tmp_path):
    run = RunFolder.create(tmp_path, "many", "sweep", {})
    factories.write_rows(run, [a_row(f"t{i}", 1, f"arm {i}") for i in range(10)])
    for i in range(10):
        run.append_history(f"t{i}", list(a_history(1, ())))
    text = write_report(run).read_text()
    assert "The first 8 of 10" in text


# A sweep with everything: twelve epochs, six seeds, reviews with k, delta and both sequences

SEEDS = (1, 2, 3, 4, 5, 6)
SECTIONS = [
    "verdicts",
    "failure",
    "results",
    "accuracy",
    "sequences",
    "responses",
    "cost-table",
    "costs",
    "gap",
    "reviews",
    "plan",
]


def a_review(k, delta, sequence="increment"):
    return {"k": k, "delta": delta, "lambda": 1.0, "sequence": sequence}


REVIEWED = {
    "k3 d1": (a_review(3, 1), [3, 7, 11]),
    "k6 d1": (a_review(6, 1), [6, 11]),
    "k3 d2": (a_review(3, 2), [6, 11]),
    f"maps {EVIL}": (a_review(3, 1, "feature_map"), [3, 7, 11]),
}


def a_training(arm, seed, reviews, *, closes):
    """Yield a history whose reviews either close the gap to the teacher or only learn to predict it."""
    noise = random.Random(f"{arm} {seed}")
    for epoch in range(12):
        line = {"seed": seed, "epoch": epoch, "phase": "general", "val_top1": 40 + 2 * epoch + noise.random()}
        if epoch in reviews:
            done = (1 + reviews.index(epoch)) / len(reviews)
            line |= {
                "phase": "review",
                "review_loss": 0.2 * 0.1**done,
                "teacher_gap": 0.3 * (0.3**done if closes else 1),
            }
            line |= {"grad_norm_others": 2.0, "grad_norm_review": 0.001, "grad_cosine_review": 0.2}
        yield line


def an_arm(folder, trial, arm, review=None, reviews=(), *, effect=0.0, seconds=100.0, seeds=SEEDS, closes=False):
    """Add an arm to a run; its seeds share their luck with every other arm's."""
    experiment = {"task": {"name": "digits"}, "student": {"name": "resnet8"}, "review": review}
    rows = []
    for seed in seeds:
        luck = random.Random(seed).gauss(0, 0.3) + random.Random(f"{arm} {seed}").gauss(0, 0.1)
        rows.append(
            a_row(
                trial,
                seed,
                arm,
                point={"arm": arm},
                epochs=12,
                epochs_planned=12,
                metrics={"val_top1": 60 + effect + luck, "test_top1": 61 + effect + luck},
                cost=Cost(seconds=seconds + seed, train_seconds=seconds, device="cpu", threads=1),
                experiment=experiment | {"seed": seed},
                plan=PlanRecord(review=list(reviews), memorize=[0] if review else []),
            )
        )
        folder.append_history(trial, list(a_training(arm, seed, list(reviews), closes=closes)))
    factories.write_rows(folder, [*folder.rows(), *rows])


def a_sweep(path, *, seeds=SEEDS):
    folder = RunFolder.create(path, "rich", "sweep", {}, expected=36)
    an_arm(folder, "t0", "baseline", seconds=90.0, seeds=seeds)
    for index, (arm, (review, reviews)) in enumerate(REVIEWED.items(), start=1):
        effect, closes = 0.5 * index - 0.5, EVIL in arm
        an_arm(
            folder, f"t{index}", arm, review, reviews, effect=effect, seconds=100.0 * index, seeds=seeds, closes=closes
        )
    an_arm(folder, "t5", "kd", effect=0.45, seconds=95.0, seeds=seeds)
    return folder


def judged(folder):
    """Return the findings with the verdicts of every arm against the first."""
    found = summary(folder)
    values = {arm.arm: values_by_seed(arm.rows, "test_top1") for arm in found.arms}
    base, *others = values
    family = verdicts.family(values, [(arm, base) for arm in others])
    told = Verdicts(family, (), f"declared {EVIL}", (f"note {EVIL}",), None)
    return replace(found, family=told, family_reason="")


@pytest.fixture(scope="module")
def rich(tmp_path_factory):
    return a_sweep(tmp_path_factory.mktemp("rich"))


@pytest.fixture(scope="module")
def rich_page(rich):
    return html(rich, judged(rich))


def sections(text):
    return [name for name in Outline(text).ids if not name.startswith("figure-")]


def figures(text):
    return re.findall(r'id="(figure-[-a-z_0-9]+)"', text)


def test_everything_that_a_sweep_can_show_is_shown_verdicts_first(rich_page):
    assert sections(rich_page)[: len(SECTIONS)] == SECTIONS
    assert figures(rich_page) == [
        "figure-accuracy",
        "figure-sequences",
        "figure-sequence-differences",
        "figure-response-0-k",
        "figure-response-0-delta",
        "figure-costs-0-seconds",
        "figure-gap",
        "figure-review_loss",
        "figure-teacher_gap",
        "figure-ratio",
        "figure-grad_cosine_review",
    ]


def test_a_rich_page_is_well_formed_escaped_and_loads_nothing(rich_page):
    outline = Outline(rich_page)
    assert outline.links == []
    assert rich_page.count("plotly.js v") == 1
    assert "<script>alert" not in rich_page
    assert outline.count("script") == 1 + len(figures(rich_page))
    assert all("aria-label" in given for tag, given in outline.tags if tag == "svg")
    assert len(outline.ids) == len(set(outline.ids))


def test_a_rich_page_is_the_same_bytes_again(rich, rich_page):
    assert html(RunFolder.open(rich.path), judged(rich)) == rich_page


def test_each_verdict_has_its_badge_its_sentence_and_its_interval(rich, rich_page):
    family = judged(rich).family.family
    found = [finding.verdict for finding in family.findings]
    assert set(found) >= {"resolved", "undecided"} or set(found) >= {"resolved", "equivalent"}
    outline = Outline(rich_page)
    text = " ".join(outline.text.split())
    for finding in family.findings:
        sentence = " ".join(finding.sentence.split())
        head = " ".join(f"'{finding.contrast.arm}' against '{finding.contrast.baseline}': ".split())
        assert head not in text and sentence.removeprefix(head).strip() in text, "the arms stand above it, once"
    for verdict in set(found):
        assert f"{found.count(verdict)} {verdict}" in text
    assert family.sentence in text
    assert text.count(f"note {EVIL}") == 1
    assert f"declared {EVIL}" not in text, "the notes begin with who declared the family"
    strips = [given for tag, given in outline.tags if tag == "line"]
    assert [given["class"] for given in strips] == ["zero", "interval", "dot"] * len(found)


def test_few_seeds_are_a_smoke_run_without_a_verdict(tmp_path):
    folder = a_sweep(tmp_path, seeds=(1, 2))
    text = html(folder, judged(folder))
    words = " ".join(Outline(text).text.split())
    assert "5 smoke" in words
    assert 'class="badge smoke"' in text
    assert not any(f'class="badge {verdict}"' in text for verdict in ("resolved", "equivalent", "undecided"))


def test_a_long_family_is_folded(rich):
    found = judged(rich)
    family = found.family.family
    longer = replace(found.family, family=replace(family, findings=family.findings * 3))
    outline = Outline(html(rich, replace(found, family=longer)))
    assert "3 more comparisons of the same table" in outline.text
    assert outline.count("svg", role="img") >= 15


def test_why_there_is_no_family_is_said(rich):
    found = replace(judged(rich), family=None, family_reason=f"no baseline {EVIL}")
    outline = Outline(html(rich, found))
    assert f"no baseline {EVIL}" in outline.text
    assert outline.ids[0] == "verdicts"


def test_a_loss_that_falls_over_a_gap_that_stays_is_said_of_its_arm(rich_page):
    text = " ".join(Outline(rich_page).text.split())
    warning, _, later = text.partition("top-1 by epoch")
    assert "'k3 d1': from the first review to the last of 3, L_ST went to 21.5 % of what it was" in warning
    assert "and the gap to the teacher to 100 % (median of 6 seeds)" in warning
    assert "the student did not (in 6 of 6 seeds)" in warning
    assert "'maps" in later
    assert "No sign that the method fails" in later
    assert "No sign that the method fails" not in warning


def test_increments_and_feature_maps_are_set_against_each_other(rich):
    found = judged(rich)
    text = " ".join(Outline(html(rich, found)).text.split())
    assert f"'k3 d1' against 'maps {EVIL}': -1.5" in text
    assert "6 seeds, paired). Not one of the comparisons that have a verdict." in text
    values = {arm.arm: dict.fromkeys(SEEDS, 1.0) for arm in found.arms}
    declared = verdicts.family(values, [(f"maps {EVIL}", "k3 d1")])
    text = " ".join(Outline(html(rich, replace(found, family=replace(found.family, family=declared)))).text.split())
    assert "Not one of the comparisons" not in text
    assert f"'maps {EVIL}' against 'k3 d1': {declared.findings[0].verdict}, see the verdicts." in text
    measured = declared.findings[0].sentence.partition(": ")[2]
    assert text.count(" ".join(measured.split())) == 1


def test_matched_budgets_are_named(rich_page):
    assert "2 reviews: k 3, δ 2; k 6, δ 1" in rich_page


def test_the_front_of_cost_and_accuracy_is_listed_by_cost(rich_page):
    items = re.search(r'<ol class="notes">(.*?)</ol>', rich_page, re.DOTALL).group(1)
    names = [name.strip() for name in re.findall(r"<li>(.*?): ", items)]
    assert names[:2] == ["baseline", "kd"]
    assert names[-1].startswith("maps")
    assert "k3 d1" not in names
    assert "1 that a point of the front beats" in rich_page


def test_several_objectives_are_drawn_two_by_two_and_listed_once(rich):
    found = judged(rich)
    (front,) = found.pareto
    points = tuple(
        replace(one, values={**one.values, "memory": 2.0**20 * n}) for n, one in enumerate(front.points, start=1)
    )
    left_out = (LeftOut(f"lost {EVIL}", "seed 2 failed"),)
    objectives = {**front.objectives, "memory": "min"}
    several = replace(front, objectives=objectives, points=points, left_out=left_out)
    text = html(rich, replace(found, pareto=(several,)))
    assert [name for name in figures(text) if "costs" in name] == ["figure-costs-0-seconds", "figure-costs-0-memory"]
    assert text.count("The front is computed from all objectives; the figure shows two of them") == 2
    assert text.count('<ol class="notes">') == 1
    assert f"lost {EVIL}: seed 2 failed" in Outline(text).text


def test_importance_is_drawn_with_its_warnings(rich):
    shares = (Share(f"review.k {EVIL}", 0.8, 0.4), Share("review.delta", 0.2, 0.6))
    group = Group({}, 12, shares, "12 trials are fewer than 20")
    groups = (group, replace(group, where={"review.sequence": "increment"}))
    importance = Importance("", 12, LeftOutTrials(stopped=3, failed=0), (Objective("val_top1", groups),))
    text = html(rich, replace(judged(rich), importance=importance))
    assert [name for name in figures(text) if "importance" in name] == ["figure-importance-0", "figure-importance-1"]
    told = " ".join(Outline(text).text.split())
    assert "val top-1 (%) where review.sequence=increment, 12 trials" in told
    assert "12 trials are fewer than 20" in told and "3 stopped trials are left out" in told
    assert sections(text).index("importance") == sections(text).index("costs") + 1


def test_the_configuration_of_every_arm_is_there_folded(rich, rich_page):
    outline = Outline(rich_page)
    assert outline.count("pre") == 6
    assert "sequence: feature_map" in outline.text
    assert "seed: 1" not in outline.text
    assert "· seeds 1, 2, 3, 4, 5, 6" in outline.text


def test_runs_of_several_versions_say_which(tmp_path):
    folder = RunFolder.create(tmp_path, "two", "sweep", {})
    factories.write_rows(
        folder, [a_row("t0", 1, "a", versions={"torch": "1"}), a_row("t1", 2, "a", versions={"torch": "2"})]
    )
    text = Outline(html(folder, summary(folder))).text
    assert "1: torch 1" in text
    assert "2: torch 2" in text


def keep(folder, wanted):
    """Let only some trainings have been begun."""
    kept = [row for row in folder.rows() if wanted(row)]
    for run in {row.run for row in folder.rows()} - {row.run for row in kept}:
        shutil.rmtree(folder.trial_path(run))
    factories.write_rows(folder, kept)


@pytest.mark.parametrize(
    ("left_out", "gone"),
    [
        (f"maps {EVIL}", {"sequences"}),
        ("k3 d2", set()),
        ("k6 d1", set()),
    ],
)
def test_a_section_without_its_arms_is_left_out(tmp_path, left_out, gone):
    folder = a_sweep(tmp_path)
    keep(folder, lambda row: row.arm != left_out)
    names = sections(html(folder, judged(folder)))
    assert names[: len(SECTIONS) - len(gone)] == [name for name in SECTIONS if name not in gone]


def test_without_reviews_nothing_of_reviews_is_shown(tmp_path):
    folder = a_sweep(tmp_path)
    keep(folder, lambda row: row.experiment["review"] is None)
    names = sections(html(folder, judged(folder)))
    assert names == ["verdicts", "results", "accuracy", "cost-table", "costs", "settings", "runs", "versions"]


def test_one_arm_alone_has_no_cost_to_compare(tmp_path):
    folder = RunFolder.create(tmp_path, "one", "train", {})
    an_arm(folder, "t0", "only", seeds=(1,))
    assert sections(html(folder, summary(folder)))[-5:] == [
        "results",
        "accuracy",
        "settings",
        "runs",
        "versions",
    ]


def test_one_value_of_k_and_delta_is_no_response(tmp_path):
    folder = a_sweep(tmp_path)
    factories.write_rows(folder, [row for row in folder.rows() if row.arm not in ("k3 d2", "k6 d1")])
    text = html(folder, judged(folder))
    assert "responses" not in sections(text)
    assert "sequences" in sections(text)


def test_the_reviews_of_late_arms_are_drawn_too(tmp_path):
    folder = RunFolder.create(tmp_path, "late", "sweep", {})
    for index in range(9):
        an_arm(folder, f"t{index}", f"plain {index}", seeds=(1,))
    an_arm(folder, "t9", "late", *REVIEWED["k3 d1"], seeds=(1,))
    text = html(folder, summary(folder))
    assert "figure-review_loss" in figures(text)
    assert "border-top-style: dashed; border-top-color: #d9822b" in text


def test_a_folder_that_is_gone_is_a_sentence(run):
    run.path.rename(run.path.with_name("moved"))
    with pytest.raises((RunError, ValueError), match="No such file"):
        write_report(run)
