"""Single samples: those on which arms give different classes, or images with the boxes of teacher and students."""

from __future__ import annotations

from markupsafe import Markup

from tskd_tune.reports.page.box_examples import box_examples
from tskd_tune.reports.page.class_examples import class_examples
from tskd_tune.reports.page.section import SECTIONS, Page, Section, rendered

TEMPLATE = """\
<section aria-labelledby="examples">
<h2 id="examples">{{ title }}</h2>
{{ body }}</section>
"""


@SECTIONS.register("examples", source="the examples of the trainings")
class ExamplesSection(Section):
    """Single samples: those on which arms give different classes, or images with boxes."""

    place = 100

    def html(self, page: Page) -> str:
        """Return the section; empty where there is nothing to show."""
        family = page.found.family
        classes = Markup("").join(class_examples(one, family) for one in page.galleries)
        boxes = Markup("").join(box_examples(one, family, number) for number, one in enumerate(page.galleries))
        titles = [(classes, "Samples on which arms differ"), (boxes, "Images with boxes")]
        found = [(body, title) for body, title in titles if body]
        if not found:
            return ""
        title = found[0][1] if len(found) == 1 else "Single samples"
        return rendered(TEMPLATE, title=title, body=Markup("").join(body for body, _ in found))
