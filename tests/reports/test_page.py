from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest

from tskd_tune.errors import RunError
from tskd_tune.records.results import Cost, PlanRecord, Row, RunFolder, TeacherRecord
from tskd_tune.reports.page import write_report

EVIL = "<script>alert(1)</script>\"'&"
VOID = {"meta", "br", "rect", "link"}


def a_row(run, seed, arm, **changes):
    facts = {
        "status": "done",
        "epochs": 8,
        "epochs_planned": 8,
        "metrics": {"train_top1": 70.0, "val_top1": 58.0, "test_top1": 60.0 + seed},
        "cost": Cost(seconds=10.0, train_seconds=9.0, peak_memory_bytes=2**21, device="cpu", threads=2),
        "preset": "paper",
        "started": "2026-01-01T00:00:00+00:00",
        "finished": "2026-01-01T00:10:00+00:00",
        "experiment": {"review": None},
        "commit": "abcdef0123" + "4" * 30 + "-dirty",
    }
    return Row(run=run, seed=seed, arm=arm, **(facts | changes))


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
        "teacher": TeacherRecord(name=f"resnet56 {EVIL}", source="auto", key="k", test_top1=72.4),
    }
    folder.write_rows(
        [
            a_row("t0", 1, "baseline"),
            a_row("t0", 2, "baseline"),
            a_row("t1", 1, EVIL, **review, status="failed", reason=f"lost {EVIL}", epochs=3),
        ]
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
    marks = [given for tag, given in Outline(page).tags if tag == "rect"]
    assert [(mark["class"], float(mark["x"]), float(mark["width"])) for mark in marks] == [
        ("memorize", 0.0, 12.5),
        ("memorize", 50.0, 12.5),
        ("review", 25.0, 12.5),
        ("review", 75.0, 12.5),
    ]


def test_the_same_records_give_the_same_bytes(run, page):
    markdown = (run.path / "report.md").read_bytes()
    rows = run.rows()
    run.write_rows(reversed(rows))
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
    run.write_rows([a_row(f"t{i}", 1, f"arm {i}") for i in range(10)])
    for i in range(10):
        run.append_history(f"t{i}", list(a_history(1, ())))
    text = write_report(run).read_text()
    assert "The first 8 of 10" in text


def test_a_folder_that_is_gone_is_a_sentence(run):
    run.path.rename(run.path.with_name("moved"))
    with pytest.raises((RunError, ValueError), match="No such file"):
        write_report(run)
