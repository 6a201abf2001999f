"""The reference of all options, as Markdown: ``python -m tskd_tune.cli.reference > docs/options.md``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from pydantic import BaseModel

from tskd_tune.cli.preparing.listing import OWN, REGISTRIES, SLOTS, explained
from tskd_tune.cli.preparing.options import Option, options_of
from tskd_tune.cli.terminal import say
from tskd_tune.experiment import descent, review
from tskd_tune.experiment.schema import Evaluation, Experiment
from tskd_tune.registry import Entry, Registry
from tskd_tune.sweeps.declared import schema as sweep
from tskd_tune.sweeps.declared import settings
from tskd_tune.sweeps.space.controls import Controls

HEAD = """# Options

Every key of a sweep's and of an experiment's YAML: its meaning, its values, its default. `tskd-tune list KIND NAME`
shows the same for one component. This page is generated: `python -m tskd_tune.cli.reference > docs/options.md`."""
GROUPS: Mapping[str, type[BaseModel]] = {
    "A sweep": sweep.Sweep,
    "resources": settings.Resources,
    "compare": settings.Compare,
    "controls": Controls,
    "wandb": settings.Wandb,
    "An experiment": Experiment,
    "training": descent.Training,
    "training.schedule.warmup": descent.Warmup,
    "evaluation": Evaluation,
    "teacher.training": descent.TeacherTraining,
    "teacher.fine_tune": descent.FineTuning,
    "review": review.Review,
    "review.lambda": review.AutoLambda,
    "review.plan": review.PLAN.model,
    "review.target": review.TARGET.model,
    "review.memory": review.MEMORY.model,
    "review.taps": review.TAPS.model,
    "review.extractor.training": review.EXTRACTOR_TRAINING.model,
}


def reference() -> str:
    """Return the reference as Markdown."""
    parts = [HEAD]
    for title, model in GROUPS.items():
        parts += [f"{'##' if title.startswith('A') else '###'} {title}", _table(options_of(model))]
    for kind, registry in REGISTRIES.items():
        parts += [f"## {kind.replace('_', ' ').capitalize()}", *_of_kind(registry)]
    return "\n\n".join(parts)


def _of_kind(registry: Registry[object]) -> Iterator[str]:
    for title, base in SLOTS.get(registry.kind, {}).items():
        yield from (f"### {title.capitalize()}", _table(options_of(base)))
    alike: list[str] = []
    for entry in registry:
        own = explained(registry, entry.name)[OWN]
        if own:
            yield from (f"### {entry.name}", _facts(entry), _table(own))
        else:
            alike.append(entry.name)
    if alike:
        yield f"Without options: {', '.join(f'`{name}`' for name in alike)}."


def _facts(entry: Entry[object]) -> str:
    needs = f" Needs: {', '.join(entry.needs)}." if entry.needs else ""
    return f"{entry.summary.replace('``', '`')} Source: {entry.source}.{needs}"


def _table(options: list[Option]) -> str:
    rows = [("option", "meaning", "values", "default"), ("---",) * 4]
    rows += [(f"`{one.key}`", one.meaning, one.values, f"`{one.default}`") for one in options]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows)


if __name__ == "__main__":
    say(reference())
