"""A section of the page is one file that registers itself; an outsider's is found by a module or an entry point."""

from __future__ import annotations

import sys
from importlib.metadata import EntryPoint
from types import ModuleType

import pytest

import factories
from tskd_tune.errors import InputError
from tskd_tune.records.runs.run_folder import RunFolder
from tskd_tune.reports.findings.summary import summary
from tskd_tune.reports.page.report import html
from tskd_tune.reports.page.section import Page, Section, rendered
from tskd_tune.reports.page.sections import OWN, SECTIONS


class Toy(Section):
    """Names the arms, between the verdicts (20) and the table (40)."""

    place = 35

    def html(self, page: Page) -> str:
        template = '<section><h2 id="toy">Toy</h2>{{ arms | join(", ") }}</section>\n'
        return rendered(template, arms=[arm.arm for arm in page.found.arms])


@pytest.fixture
def folder(tmp_path):
    found = RunFolder.create(tmp_path, "first", "sweep", {}, expected=1)
    factories.write_rows(found, [factories.a_row(arm="<b>one")])
    return found


@pytest.fixture
def outside(monkeypatch):
    """A module of another package that holds the section."""
    module = ModuleType("outside_sections")
    module.Toy = Toy
    monkeypatch.setitem(sys.modules, "outside_sections", module)
    return "outside_sections:Toy"


def stands_between_verdicts_and_table(page):
    return page.index('id="verdicts"') < page.index('<h2 id="toy">Toy</h2>&lt;b&gt;one') < page.index('id="results"')


def test_a_section_of_a_module_stands_in_its_place(folder, outside):
    assert stands_between_verdicts_and_table(html(folder, summary(folder), outside))
    assert "Toy" not in html(folder, summary(folder))


def test_a_section_of_an_installed_package_is_on_every_page(folder, outside, monkeypatch):
    point = EntryPoint("sections.toy", outside, "tskd_tune")
    monkeypatch.setattr(SECTIONS, "_points", lambda: {"toy": point})
    assert stands_between_verdicts_and_table(html(folder, summary(folder)))


class Broken(Section):
    """Fails whenever a page is written."""

    place = 5

    def html(self, page: Page) -> str:
        raise ValueError("no <such> page")


@pytest.mark.parametrize(
    ("target", "reason"),
    [("outside_sections:Broken", "ValueError: no &lt;such&gt; page"), ("outside_sections:Gone", "cannot be imported")],
)
def test_a_section_of_an_installed_package_that_fails_loses_no_report(folder, outside, monkeypatch, target, reason):
    sys.modules["outside_sections"].Broken = Broken
    monkeypatch.setattr(SECTIONS, "_points", lambda: {"toy": EntryPoint("sections.toy", target, "tskd_tune")})
    page = html(folder, summary(folder))
    assert "The section toy of an installed package failed" in page and reason in page
    assert page.index('id="versions"') < page.index("The section toy")


def test_a_section_of_the_package_that_fails_is_a_bug(folder, monkeypatch):
    monkeypatch.setattr(SECTIONS.entry("runs").factory, "html", Broken.html)
    with pytest.raises(ValueError, match="no <such> page"):
        html(folder, summary(folder))


def test_a_section_is_registered_under_the_name_of_its_file():
    assert {entry.name for entry in SECTIONS} >= OWN


def test_what_is_no_section_is_refused(folder):
    with pytest.raises(InputError, match="is not one of the sections"):
        html(folder, summary(folder), "collections:OrderedDict")


def test_the_sections_of_the_package_have_places_of_their_own():
    places = [SECTIONS.build(entry.name).place for entry in SECTIONS]
    assert len(set(places)) == len(places) >= 19
    assert all(place % 10 == 0 for place in places)
