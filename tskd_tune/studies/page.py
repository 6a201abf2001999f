"""The page of a study: what was found, figures, tables, what was counted, and the command that makes it again."""

from __future__ import annotations

import json
from importlib.resources import files

from markupsafe import Markup
from plotly.offline import get_plotlyjs

from tskd_tune.reports.page.figures import as_html
from tskd_tune.reports.page.section import rendered, style
from tskd_tune.studies.drawing import drawn
from tskd_tune.studies.found import Cell, StudyFile


def page(whole: StudyFile) -> str:
    """Return the page as HTML that needs no network; the same content gives the same bytes."""
    pictures = {figure.name: Markup(as_html(drawn(figure), figure.name)) for figure in whole.found.figures}
    text = files("tskd_tune.studies").joinpath("page.html.j2").read_text("utf-8")
    return str(
        rendered(
            text,
            style=style(),
            made=whole.made,
            found=whole.found,
            pictures=pictures,
            plotly=Markup(get_plotlyjs()) if pictures else "",
            shown=shown,
            options={key: json.dumps(value, ensure_ascii=False) for key, value in whole.made.options.items()},
        )
    )


def shown(cell: Cell) -> str:
    """Return a value as the page shows it: floats with four digits, and a hyphen for what was not measured."""
    if cell is None:
        return "-"
    return f"{cell:.4g}" if isinstance(cell, float) else str(cell)
