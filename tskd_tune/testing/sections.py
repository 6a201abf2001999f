"""The contract of sections of the report's page."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path

import pytest

from tskd_tune.records.entries.row import Cost, Row
from tskd_tune.records.runs.run_folder import RunFolder
from tskd_tune.reports.findings.summary import summary
from tskd_tune.reports.page.report import html
from tskd_tune.reports.page.section import SECTIONS, Page
from tskd_tune.testing.base import Contract

ARM = "<b>arm</b>"
# Elements without an end tag.
VOID = frozenset({"br", "hr", "img", "input", "link", "meta", "col", "path", "circle", "line", "rect"})


class _Elements(HTMLParser):
    """Counts the open elements, and collects the ids."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.ids += [value for key, value in attrs if key == "id" and value]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.ids += [value for key, value in attrs if key == "id" and value]

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open.pop() == tag, f"</{tag}> closes another element"


class SectionContract(Contract):
    """The requirements for every section of the page."""

    @pytest.fixture
    def empty(self, tmp_path: Path) -> RunFolder:
        """Return a run without any row."""
        return RunFolder.create(tmp_path, "empty", "sweep", {}, expected=2)

    @pytest.fixture
    def done(self, tmp_path: Path) -> RunFolder:
        """Return a run with one arm and two seeds; the arm's label looks like an HTML element."""
        folder = RunFolder.create(tmp_path, "done", "sweep", {}, expected=2)
        for seed in (1, 2):
            folder.add_row(_row(seed))
        return folder

    def section(self, name: str, folder: RunFolder) -> str:
        """Return the section of a run as HTML."""
        return str(SECTIONS.build(name, **self.options_of(name)).html(Page(folder, summary(folder))))

    @pytest.mark.parametrize("run", ["empty", "done"])
    def test_it_is_whole_html(self, name: str, run: str, request: pytest.FixtureRequest) -> None:
        """A section closes every element that it opens, and ends with a line break; it may be empty."""
        found = self.section(name, request.getfixturevalue(run))
        elements = _Elements()
        elements.feed(found)
        assert elements.open == [], f"not closed: {elements.open}"
        assert len(elements.ids) == len(set(elements.ids))
        assert found == "" or found.endswith("\n")

    def test_labels_are_escaped(self, name: str, done: RunFolder) -> None:
        """A user's label is shown as text, also if the label looks like HTML."""
        assert ARM not in self.section(name, done)

    def test_the_same_run_gives_the_same_bytes(self, name: str, done: RunFolder) -> None:
        """A section that is made again has the same bytes."""
        assert self.section(name, done) == self.section(name, done)

    def test_it_stands_on_the_page(self, name: str, done: RunFolder) -> None:
        """The page of a run contains the section."""
        found = self.section(name, done)
        assert found in html(done, summary(done), name) or found == ""


def _row(seed: int) -> Row:
    time = f"2026-01-01T00:0{seed}:00+00:00"
    return Row(
        run=f"t{seed}",
        arm=ARM,
        seed=seed,
        status="done",
        epochs=1,
        epochs_planned=1,
        metrics={"val_loss": 1.0 + seed, "test_loss": 1.1 + seed},
        cost=Cost(seconds=1.0, train_seconds=1.0, device="cpu", threads=1),
        preset="paper",
        started=time,
        finished=time,
        experiment={"review": None},
    )
