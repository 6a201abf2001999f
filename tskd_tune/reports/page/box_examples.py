"""Images with the true boxes and the boxes of teacher and students, as HTML with drawings in SVG."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from tskd_tune.records.kept.examples import Box, BoxAnswers
from tskd_tune.reports.findings.comparison import Verdicts
from tskd_tune.reports.findings.examples import MATCH, Gallery, boxes_of, compared, judged
from tskd_tune.reports.page.pictures import NO_IMAGES, has_images, source_of
from tskd_tune.reports.page.section import rendered
from tskd_tune.words import count

MOST_STUDENTS, MOST_BOXES = 3, 10
OPEN = 4
"""The images that are not folded."""
LEAST_SCORE = 0.3
"""Boxes with a lower score are not drawn."""

TEMPLATE = """\
{% macro drawn(images) %}
{% for image in images %}
<h3>{{ image.name }}</h3>
{% if image.source %}
<svg width="0" height="0" aria-hidden="true" style="position: absolute">
<defs>
<image id="{{ image.id }}" width="{{ image.width }}" height="{{ image.height }}" preserveAspectRatio="none"
 href="{{ image.source }}"></image>
</defs>
</svg>
{% endif %}
<div class="panels">
{% for panel in image.panels %}
<figure>
<svg viewBox="0 0 {{ image.width }} {{ image.height }}" role="img"
 aria-label="{{ image.name }}, {{ panel.title }}: {{ panel.words }}">
<rect width="{{ image.width }}" height="{{ image.height }}" fill="#8886"></rect>
{% if image.source %}
<use href="#{{ image.id }}"></use>
{% endif %}
{% for box in panel.boxes %}
<rect x="{{ box.x }}" y="{{ box.y }}" width="{{ box.width }}" height="{{ box.height }}" fill="none"
 stroke="{{ box.color }}" stroke-width="2"{% if box.dashed %} stroke-dasharray="5 3"{% endif %}
 vector-effect="non-scaling-stroke"><title>{{ box.text }}</title></rect>
<text x="{{ box.text_x }}" y="{{ box.text_y }}" font-size="{{ image.font }}" fill="#fff" stroke="#000"
 stroke-width="{{ image.outline }}" paint-order="stroke">{{ box.text }}</text>
{% endfor %}
</svg>
<figcaption><b>{{ panel.title }}</b> {{ panel.words }}</figcaption>
</figure>
{% endfor %}
</div>
{% endfor %}
{% endmacro %}
<ul class="legend">
<li><i class="line" style="border-top-style: solid; border-top-color: {{ colors.truth }}"></i>true box</li>
<li><i class="line" style="border-top-style: solid; border-top-color: {{ colors.right }}"></i>found, and right</li>
<li><i class="line" style="border-top-style: dashed; border-top-color: {{ colors.wrong }}"></i>found, and wrong</li>
</ul>
{{ drawn(images[:open]) }}
{% if images[open:] %}
<details><summary>{{ images[open:] | length }} more images</summary>
{{ drawn(images[open:]) }}
</details>
{% endif %}
<p class="notes">{{ note }}</p>
"""


@dataclass(frozen=True)
class _Colors:
    truth: str = "#2fae5f"
    right: str = "#4f9cf0"
    wrong: str = "#f0912f"


COLORS = _Colors()


@dataclass(frozen=True)
class _Drawn:
    """A box in the pixels of the drawing, with its color and its text."""

    x: float
    y: float
    width: float
    height: float
    text: str
    text_x: float
    text_y: float
    color: str
    dashed: bool = False


@dataclass(frozen=True)
class _Panel:
    title: str
    words: str
    boxes: Sequence[_Drawn]


@dataclass(frozen=True)
class _Image:
    id: str
    name: str
    source: str
    width: int
    height: int
    panels: Sequence[_Panel]

    @property
    def font(self) -> float:
        """The height of letters, in pixels of the drawing."""
        return round(self.width / 22, 1)

    @property
    def outline(self) -> float:
        """The width of the outline of letters."""
        return round(self.font / 5, 1)


@dataclass(frozen=True)
class _Network:
    """A network whose boxes are drawn."""

    title: str
    answers: BoxAnswers


def box_examples(gallery: Gallery, verdicts: Verdicts | None, number: int) -> Markup:
    """Return the images of a gallery with the boxes of its networks; empty where the answers are no boxes.

    Args:
        gallery: the answers.
        verdicts: the comparisons, which say whose boxes are drawn.
        number: tells the galleries of a page apart.
    """
    networks = [*_teachers(gallery), *_students(gallery, verdicts)]
    if not networks:
        return Markup("")
    images = [_image(gallery, networks, place, number) for place in range(len(gallery.samples))]
    return rendered(TEMPLATE, images=images, open=OPEN, colors=COLORS, note=_note(gallery, networks))


def _teachers(gallery: Gallery) -> Iterator[_Network]:
    for name, examples in gallery.teachers.items():
        answers = boxes_of(examples)
        if answers is not None:
            yield _Network(f"teacher {name}", answers)


def _students(gallery: Gallery, verdicts: Verdicts | None) -> Iterator[_Network]:
    """Yield the students of the first comparisons, with the lowest seed that all of them have, under each teacher."""
    paired = [arm for pair in compared(gallery, verdicts) for arm in (pair[1], pair[0])]
    arms = list({arm.place: arm for arm in (*paired, *gallery.arms)}.values())[:MOST_STUDENTS]
    arms = [arm for arm in arms if any(map(boxes_of, arm.runs.values()))]
    seeds = [{run.seed for run in arm.runs} for arm in arms]
    common = set.intersection(*seeds) if seeds else set()
    for arm, own in zip(arms, seeds, strict=True):
        seed = min(common or own)
        for run, examples in arm.runs.items():
            answers = boxes_of(examples)
            if run.seed == seed and answers is not None:
                yield _Network(f"{arm.arm}, {run.words}", answers)


def _image(gallery: Gallery, networks: Sequence[_Network], place: int, number: int) -> _Image:
    first = networks[0].answers
    height, width = first.sizes[place]
    truth = [_drawn(gallery, box, COLORS.truth, width) for box in first.truth[place]]
    return _Image(
        id=f"example-{number}-{place}",
        name=f"Image {gallery.title_of(place)}",
        source=source_of(gallery, place),
        width=width,
        height=height,
        panels=[
            _Panel("truth", count(len(truth), "box", "boxes"), truth),
            *(_panel(gallery, network, place, (height, width)) for network in networks),
        ],
    )


def _panel(gallery: Gallery, network: _Network, place: int, size: tuple[int, int]) -> _Panel:
    answers = network.answers
    scale = size[1] / answers.sizes[place][1], size[0] / answers.sizes[place][0]
    sure = [box for box in answers.answer[place] if box[5] >= LEAST_SCORE][:MOST_BOXES]
    every = [(box, right) for box, right in judged(sure, answers.truth[place])]
    boxes = [
        _drawn(
            gallery,
            (box[0] * scale[0], box[1] * scale[1], box[2] * scale[0], box[3] * scale[1], box[4]),
            COLORS.right if right else COLORS.wrong,
            size[1],
            score=box[5],
            dashed=not right,
        )
        for box, right in every
    ]
    right = sum(one[1] for one in every)
    words = f"{right} of {count(len(answers.truth[place]), 'box', 'boxes')} found, {len(every) - right} wrong"
    return _Panel(network.title, words, boxes)


def _drawn(
    gallery: Gallery, box: Box, color: str, width: int, *, score: float | None = None, dashed: bool = False
) -> _Drawn:
    name = gallery.name_of(box[4])
    font = width / 22
    return _Drawn(
        x=round(box[0], 1),
        y=round(box[1], 1),
        width=round(box[2] - box[0], 1),
        height=round(box[3] - box[1], 1),
        text=name if score is None else f"{name} {score:.2f}",
        text_x=round(box[0] + font / 6, 1),
        text_y=round(max(box[1] + 0.95 * font, font), 1),
        color=color,
        dashed=dashed,
    )


def _note(gallery: Gallery, networks: Sequence[_Network]) -> str:
    without = "" if has_images(gallery) else f" {NO_IMAGES}"
    return (
        f"The {len(gallery.samples)} images are evenly spaced over the {gallery.part} set, the same for all arms. Boxes"
        f" with a score of {LEAST_SCORE:g} or more are drawn, at most {MOST_BOXES} of a network. A box is right where"
        f" its intersection over union with a true box of its class is {MATCH:g} or more, and no box with a higher"
        f" score took this true box.{without}"
    )
