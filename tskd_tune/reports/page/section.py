"""The sections of the page. A section is a class in a file under ``sections`` that registers it, or in another package.

A section takes the findings and the histories of a run and returns HTML. An installed package adds a section to every
page by an entry point of the group ``tskd_tune`` with the name ``sections.NAME``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from importlib.resources import files
from typing import ClassVar

import plotly.graph_objects as go
from jinja2 import DictLoader, Environment, StrictUndefined
from markupsafe import Markup

from tskd_tune.records.entries.teacher_names import teacher_seed
from tskd_tune.records.runs.run_folder import RunFolder
from tskd_tune.records.storing.lines import HistoryLine
from tskd_tune.registry import Registry
from tskd_tune.reports.findings.examples import Gallery, galleries
from tskd_tune.reports.findings.records import ArmFindings
from tskd_tune.reports.findings.summary import Findings
from tskd_tune.reports.forms.words import MOST_ARMS
from tskd_tune.reports.page import charts, figures
from tskd_tune.reports.page.charts import Curves


@dataclass(frozen=True)
class Page:
    """The input of a section: the run's folder, all findings of the run, and the histories of its arms."""

    run: RunFolder
    found: Findings

    @cached_property
    def curves(self) -> list[Curves]:
        """The histories of each arm. An arm has one trial with all seeds, or one trial per seed, and per teacher."""
        return [charts.curves(arm.arm, self._histories(arm)) for arm in self.found.arms]

    def _histories(self, arm: ArmFindings) -> list[tuple[int | None, list[HistoryLine]]]:
        teachers = {row.run: teacher_seed(row) for row in arm.rows}
        return [(teachers[run], self.run.history(run)) for run in arm.runs]

    @cached_property
    def galleries(self) -> list[Gallery]:
        """What the arms answered to the same samples, for each data set; empty where no training kept its answers."""
        return galleries(self.run, self.found.arms)

    @property
    def reviewing(self) -> Sequence[Curves]:
        """All arms up to the eighth arm that reviews, including arms without a review, so places keep their colors."""
        places = [index for index, arm in enumerate(self.curves) if arm.review_epochs()][:MOST_ARMS]
        return self.curves[: places[-1] + 1] if places else []

    @property
    def legend(self) -> list[dict[str, str]]:
        """The color and dashes of each arm in the figures of reviews."""
        named = enumerate(self.reviewing)
        return [{"arm": arm.arm, **figures.look(index)} for index, arm in named if arm.review_epochs()]


class Section(ABC):
    """A section of the page.

    Attributes:
        place: the place of the section on the page; smaller numbers come first. This package uses multiples of 10.
    """

    place: ClassVar[int]

    @abstractmethod
    def html(self, page: Page) -> str:
        """Return the section as HTML that ends with a line break; empty where there is nothing to show."""


SECTIONS: Registry[Section] = Registry("sections", Section)


@cache
def _environment() -> Environment:
    macros = files("tskd_tune.reports.page").joinpath("macros.html.j2").read_text("utf-8")
    loader = DictLoader({"macros": macros})
    return Environment(
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        loader=loader,
    )


def style() -> Markup:
    """Return the style sheet of all pages, for a ``style`` element."""
    return Markup(files("tskd_tune.reports.page").joinpath("style.css").read_text("utf-8"))


def rendered(template: str, **facts: object) -> Markup:
    """Fill a Jinja template with facts; text is escaped, and the template can import ``macros``."""
    return Markup(_environment().from_string(template).render(**facts))


def drawn(figure: go.Figure, name: str) -> Markup:
    """Return a figure as HTML; the name must be unique on the page."""
    return Markup(figures.as_html(figure, name))
