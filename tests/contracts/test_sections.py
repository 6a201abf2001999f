"""What every section of the page promises, whatever it is: the kit that outsiders run too."""

from __future__ import annotations

import pytest

from tskd_tune.records.runs.run_folder import RunFolder
from tskd_tune.reports.findings.summary import summary
from tskd_tune.reports.page.report import html
from tskd_tune.reports.page.sections import SECTIONS
from tskd_tune.testing import SectionContract


class TestEverySection(SectionContract):
    @pytest.fixture(params=SECTIONS.names())
    def name(self, request: pytest.FixtureRequest) -> str:
        return str(request.param)

    def test_it_stands_on_the_page(self, name: str, done: RunFolder) -> None:
        assert self.section(name, done) in html(done, summary(done))
