"""The samples on which two arms give different classes, as HTML."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from tskd_tune.reports.findings.comparison import Verdicts
from tskd_tune.reports.findings.examples import Answer, Answered, Changed, Gallery, Run, answer_of, changed, compared
from tskd_tune.reports.judge.words import runs_of
from tskd_tune.reports.page.pictures import NO_IMAGES, has_images, source_of
from tskd_tune.reports.page.section import rendered
from tskd_tune.words import count

MOST_PAIRS, MOST_SAMPLES = 4, 8
"""The comparisons that are shown, and the samples of each direction of a comparison."""

TEMPLATE = """\
{% macro cards(title, items) %}
{% if items %}
<p class="notes">{{ title }}</p>
<div class="cards">
{% for item in items %}
<figure class="card">
{% if item.source %}
<img src="{{ item.source }}" alt="{{ item.name }}, {{ item.truth }}" width="96" height="96">
{% endif %}
<figcaption><b>{{ item.truth }}</b> <span>{{ item.name }}</span>
{% for answer in item.answers %}
<br>{{ answer }}
{% endfor %}
</figcaption>
</figure>
{% endfor %}
</div>
{% endif %}
{% endmacro %}
{% for pair in pairs %}
<h3>{{ pair.arm }} against {{ pair.baseline }}</h3>
<p>{{ pair.sentence }}</p>
{{ cards("Right only in " ~ pair.arm ~ ":", pair.gained) }}
{{ cards("Right only in " ~ pair.baseline ~ ":", pair.lost) }}
{% endfor %}
<p class="notes">{{ note }}</p>
"""


@dataclass(frozen=True)
class _Card:
    """A sample: its picture, its name, its true class, and what each network answers."""

    source: str
    name: str
    truth: str
    answers: Sequence[str]


@dataclass(frozen=True)
class _Pair:
    arm: str
    baseline: str
    sentence: str
    gained: Sequence[_Card]
    lost: Sequence[_Card]


def class_examples(gallery: Gallery, verdicts: Verdicts | None) -> Markup:
    """Return the samples on which the compared arms differ; empty where no two arms can be compared."""
    found = [one for pair in compared(gallery, verdicts)[:MOST_PAIRS] if (one := changed(*pair)) is not None]
    if not found:
        return Markup("")
    return rendered(TEMPLATE, pairs=[_pair(gallery, one) for one in found], note=_note(gallery))


def _pair(gallery: Gallery, one: Changed) -> _Pair:
    arm, baseline = one.arm.arm, one.baseline.arm
    gained, lost = (_cards(gallery, one, places) for places in (one.gained, one.lost))
    return _Pair(arm, baseline, _sentence(gallery, one), gained, lost)


def _sentence(gallery: Gallery, one: Changed) -> str:
    part = f"{gallery.part} set"
    whole = count(one.samples, "sample")
    if len(one.seeds) == 1:
        seeds, again = f"with seed {one.seeds[0]}", "with this seed"
    else:
        seeds, again = f"with each of the seeds {runs_of(one.seeds)}", "with all of them"
    if len(one.teachers) == 1:
        seeds = f"{seeds} under teacher {one.teachers[0]}"
    elif one.teachers:
        seeds, again = f"{seeds} under each of the teachers {runs_of(one.teachers)}", "in all these trainings"
    return (
        f"Of {whole} of the {part}, '{one.arm.arm}' gives the right class {seeds} and '{one.baseline.arm}' a wrong"
        f" class {again} for {len(one.gained)}; the reverse holds for {len(one.lost)}."
    )


def _cards(gallery: Gallery, one: Changed, places: Sequence[int]) -> list[_Card]:
    return [_card(gallery, one, place) for place in places[:MOST_SAMPLES]]


def _card(gallery: Gallery, one: Changed, place: int) -> _Card:
    answers = [
        *(
            _of_arm(arm, [pair[which] for pair in one.pairs], place)
            for which, arm in enumerate((one.arm, one.baseline))
        ),
        *(answer_of(f"teacher {name}", [examples], place) for name, examples in gallery.teachers.items()),
    ]
    return _Card(
        source=source_of(gallery, place),
        name=gallery.title_of(place),
        truth=gallery.name_of(one.truth(place)),
        answers=[_words(gallery, answer) for answer in answers if answer is not None],
    )


def _of_arm(arm: Answered, runs: Sequence[Run], place: int) -> Answer | None:
    """Return what an arm answers over its trainings, of which several pairs may have one."""
    return answer_of(arm.arm, [arm.runs[run] for run in dict.fromkeys(runs)], place, arm.unit)


def _words(gallery: Gallery, answer: Answer) -> str:
    some = f", {answer.seeds} of {answer.of} {answer.unit}" if answer.seeds < answer.of else ""
    return f"{answer.arm}: {gallery.name_of(answer.label)} ({100 * answer.confidence:.0f}\u00a0%{some})"


def _note(gallery: Gallery) -> str:
    chosen = "evenly spaced over the set, the same for all arms"
    shown = "those on which the networks are surest come first"
    without = "" if has_images(gallery) else f" {NO_IMAGES}"
    return (
        f"The samples are {chosen}; {shown}, at most {MOST_SAMPLES} of each kind. The percentage is the network's"
        f" probability of the class, the mean over the seeds that give it. These are counts of single samples and no"
        f" test; the verdicts compare the arms.{without}"
    )
