"""The report of a run as a W&B Report: run sets by arm, their curves, the table of arms and the verdicts.

Run sets name their runs by id, because W&B's filters take the ``=`` of a label such as ``k=3`` as an operator.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias

import wandb
import wandb_workspaces.reports.v2 as wr
from wandb_workspaces import expr

from tskd_tune.errors import RunError
from tskd_tune.paths import in_shell
from tskd_tune.records.entries.row import Row
from tskd_tune.records.runs.run_folder import RunFolder
from tskd_tune.records.wandb.offline import offline_of
from tskd_tune.records.wandb.server import Place, account, has_key, run_id, why_away
from tskd_tune.reports.findings import effects
from tskd_tune.reports.findings.records import ArmFindings
from tskd_tune.reports.findings.summary import Findings, summary
from tskd_tune.reports.forms import report_lines, wandb_private
from tskd_tune.reports.forms.head_lines import head_lines
from tskd_tune.reports.forms.markdown import markdown
from tskd_tune.reports.forms.tables import columns
from tskd_tune.reports.forms.words import MOST_ARMS

FORMAT: Final = 1
FILE: Final = "wandb-report.json"
# The largest length of a report's title.
TITLE_LENGTH: Final = 128
PANEL: Final = {"w": 8, "h": 7}
# The number of panels side by side; a report's grid has 24 columns.
COLUMNS: Final = 3
# The other values that a history may have: key, title, whether the axis is logarithmic.
FOLLOWED: Final = (
    ("loss", "Loss", False),
    ("review_loss", "Review loss, before λ", True),
    ("teacher_gap", "Gap to the teacher", False),
    ("grad_norm_review", "Norm of the review's gradient", True),
    ("grad_cosine_review", "Cosine of the review's gradient and the task's", False),
)


Where: TypeAlias = Mapping[str, str]
"""Entity and project, as W&B's classes take them; empty where they are those of the report."""

# W&B's blocks, panels and run sets have no types.
Block: TypeAlias = Any
Panel: TypeAlias = Any
RunSet: TypeAlias = Any


@dataclass(frozen=True)
class SavedReport:
    """The place where a report was saved before."""

    id: str
    url: str
    entity: str


@dataclass(frozen=True)
class Published:
    """The file of a report's spec, and the report's address online or the reason why there is no address.

    Attributes:
        path: the file, on this machine.
        place: how messages call the file: its path, or its address on an object storage.
        url: the report's address online.
        why_not: the reason why there is none.
    """

    path: Path
    place: str
    url: str | None = None
    why_not: str = ""


@dataclass(frozen=True)
class Arm:
    """The runs of one arm: their results, and their W&B ids."""

    found: ArmFindings
    ids: Sequence[str]

    @property
    def name(self) -> str:
        """The arm's label in the table."""
        return self.found.arm


def publish(run: RunFolder, *, patience: float = 10.0, deadline: float = 120.0) -> Published:
    """Write a report's spec into the run's folder, and save the report online where there is a key.

    A report that was saved before is updated at the same address. Entity, project and server come from W&B's own
    environment variables, otherwise entity and project come from the sweep.

    Args:
        run: a run with rows.
        patience: seconds to wait for the server's first answer.
        deadline: seconds to wait until the report is saved.

    Raises:
        RunError: the records cannot be read, the folder cannot be written, or the server does not answer or refuses.
    """
    known, path, place = account(), run.bring(run.path / FILE), Place.of(run.document())
    spec = run.store.place(FILE)
    project, entity = place.project_in(known), place.entity_in(known)
    before = _before(path, known.base_url, entity, project)
    found = summary(run)
    _write(run, build(run, found, project=project), {"server": known.base_url, "entity": entity} | before)
    if known.mode in ("offline", "dryrun", "disabled"):
        return Published(path, spec, why_not=f"WANDB_MODE is {known.mode}")
    if not has_key(known):
        return Published(path, spec, why_not=f"there is no key for {known.base_url}")
    away = why_away(known.base_url, patience)
    if away:
        raise RunError(f"{away}; the report's spec is in {spec}, publish it with: {_command(run)}")
    report = _within(deadline, lambda: _saved(run, found, entity, project, before), spec, _command(run))
    saved = {"server": known.base_url, "entity": report.entity, "id": report.id, "url": report.url}
    _write(run, report, saved)
    return Published(path, spec, report.url)


def build(run: RunFolder, found: Findings, *, project: str, entity: str = "") -> wr.Report:
    """Return the report of a run from its summary. The same records give the same spec.

    Without an entity, the run sets use the project in which the report is saved, and no server is contacted.
    """
    where = {"entity": entity, "project": project} if entity else {}
    arms = _arms(run, found)
    blocks = list(_blocks(run, found, arms, where))
    _name(blocks, run.name)
    title = f"{run.name}: {found.kind}"[:TITLE_LENGTH]
    return wr.Report(project=project, entity=entity, title=title, description=found.runs.sentence, blocks=blocks)


# The parts of a report


def _arms(run: RunFolder, found: Findings) -> list[Arm]:
    kept = {one.id for one in offline_of(run)}
    return [Arm(arm, [name for row in arm.rows for name in _ids(run, row, kept)]) for arm in found.arms]


def _ids(run: RunFolder, row: Row, kept: set[str]) -> list[str]:
    """Return the ids of a row's W&B run. There is a second id where the server once refused the first."""
    training = row.identity if run.state.by_identity and row.identity else row.run
    name = run_id(run.state.id or run.name, training, row.seed)
    return [name, f"{name}-offline"] if f"{name}-offline" in kept else [name]


def _blocks(run: RunFolder, found: Findings, arms: Sequence[Arm], where: Where) -> Iterator[Block]:
    text = markdown(found)
    if head_lines(found):
        yield wr.UnorderedList(head_lines(found))
    yield from (wr.H2("Verdicts"), wr.UnorderedList(report_lines.verdict_lines(found)))
    yield from (wr.H2("Arms"), wr.P(f"{found.runs.sentence}."))
    if arms:
        yield from (wr.MarkdownBlock(_table(found, text)), wr.UnorderedList(report_lines.under_table(found)))
        yield from _curves(run, found, arms, where)
        yield from _sequences(run, found, arms, where)
        yield from _responses(found, arms, where)
    yield wr.H2("The whole report in words", collapsed_blocks=[wr.MarkdownBlock(text)])


def _table(found: Findings, text: str) -> str:
    """Return the table of arms, cut out of the Markdown report."""
    first = columns(found)[0].title
    return next(part for part in text.split("\n\n") if part.startswith(f"| {first} |"))


def _curves(run: RunFolder, found: Findings, arms: Sequence[Arm], where: Where) -> Iterator[Block]:
    shown = arms[:MOST_ARMS]
    panels = _followed(run, found, shown)
    if not panels:
        return
    yield wr.H2("Curves")
    rest = len(arms) - len(shown)
    yield wr.P(
        "Mean over the seeds of an arm by epoch; the band goes from the worst seed to the best."
        + (f" The first {len(shown)} arms of the table; {rest} more are not drawn." if rest else "")
    )
    yield wr.PanelGrid(runsets=[_runset(arm.name, arm.ids, where) for arm in shown], panels=panels)


def _followed(run: RunFolder, found: Findings, arms: Sequence[Arm]) -> list[Panel]:
    """Return a panel for each value that the histories of these arms contain."""
    trials = dict.fromkeys(name for arm in arms for name in arm.found.runs)
    keys = {key for trial in trials for line in run.history(trial) for key in line.numbers}
    headlines = [found.on("validation"), found.on("test")]
    wanted = [(key, found.heading(key), False) for key in headlines] + list(FOLLOWED)
    return _laid_out([_line(key, title, log) for key, title, log in wanted if key in keys])


def _sequences(run: RunFolder, found: Findings, arms: Sequence[Arm], where: Where) -> Iterator[Block]:
    """Compare feature maps with increments, in arms that differ only in the sequence."""
    pairs = _pairs(found, arms)
    panels = _followed(run, found, [arm for pair in pairs for arm in pair])
    if not pairs or not panels:
        return
    yield wr.H2("Feature maps against increments")
    yield wr.P("Arms that differ only in the sequence of their reviews.")
    sets = [_runset(f"{arm.found.review['sequence']}: {arm.name}", arm.ids, where) for pair in pairs for arm in pair]
    yield wr.PanelGrid(runsets=sets, panels=panels)


def _pairs(found: Findings, arms: Sequence[Arm]) -> list[list[Arm]]:
    pairs = effects.sequence_pairs(found.arms)[: MOST_ARMS // 2]
    return [[arms[pair.increment], arms[pair.feature_map]] for pair in pairs]


def _responses(found: Findings, arms: Sequence[Arm], where: Where) -> Iterator[Block]:
    """Draw the headline over k and delta, where arms differ in k or delta."""
    reviewing = [arm for arm in arms if arm.found.review]
    varied = [name for name in ("k", "delta") if len({str(arm.found.review.get(name)) for arm in reviewing}) > 1]
    if not varied:
        return
    headline, title = wr.SummaryMetric(found.headline), found.heading(found.headline)
    scatters = [
        wr.ScatterPlot(title=f"{title} over {name}", x=wr.Config(f"review.{name}"), y=headline) for name in varied
    ]
    axes = [
        *(wr.ParallelCoordinatesPlotColumn(wr.Config(f"review.{name}"), display_name=name) for name in ("k", "delta")),
        wr.ParallelCoordinatesPlotColumn(headline, display_name=title),
    ]
    parallel = wr.ParallelCoordinatesPlot(title=f"k, delta and {title}", columns=axes)
    yield wr.H2(" and ".join(varied))
    yield wr.P(
        "k and delta also set the number of reviews: compare points with the same number of reviews (see the table)."
    )
    ids = [name for arm in reviewing for name in arm.ids]
    runset = _runset("arms with a review", ids, where, grouped=False)
    yield wr.PanelGrid(runsets=[runset], panels=_laid_out([*scatters, parallel]))


def _runset(name: str, ids: Sequence[str], where: Where, *, grouped: bool = True) -> RunSet:
    """Return the set of runs with these ids, drawn as one line per group; `WandbTracker` groups runs by arm."""
    chosen = expr.And(expr.Metric("ID").isin(list(ids)))
    return wr.Runset(name=name, filters=chosen, groupby=["Group"] if grouped else [], **where)


def _line(key: str, title: str, log: bool) -> Panel:
    return wr.LinePlot(
        title=title, x="epoch", y=[key], log_y=log or None, groupby_aggfunc="mean", groupby_rangefunc="minmax"
    )


def _laid_out(panels: Sequence[Panel]) -> list[Panel]:
    for place, panel in enumerate(panels):
        row, column = divmod(place, COLUMNS)
        panel.layout = wr.Layout(x=column * PANEL["w"], y=row * PANEL["h"], **PANEL)
    return list(panels)


def _name(blocks: Sequence[Block], run: str) -> None:
    """Name run sets and panels by their places, because W&B names them at random."""
    for number, grid in enumerate(block for block in blocks if isinstance(block, wr.PanelGrid)):
        for kind, things in (("set", grid.runsets), ("panel", grid.panels)):
            for place, thing in enumerate(things):
                word = f"{run} {number} {kind} {place}"
                wandb_private.name(thing, hashlib.sha256(word.encode()).hexdigest()[:12])


# Saving


def _before(path: Path, server: str, entity: str | None, project: str) -> dict[str, Any]:
    """Return id, address and entity of the report if it was saved to the same place before."""
    with suppress(OSError, ValueError, KeyError, TypeError):
        old = json.loads(path.read_text("utf-8"))
        same = (old["server"], old["project"]) == (server, project) and entity in (None, old["entity"])
        if same and old["id"]:
            return {name: old[name] for name in ("id", "url", "entity")}
    return {}


def _write(run: RunFolder, report: wr.Report, place: Mapping[str, Any]) -> None:
    facts = {
        "format": FORMAT,
        "run": run.name,
        "server": place["server"],
        "entity": place["entity"],
        "project": report.project,
        "id": place.get("id"),
        "url": place.get("url"),
        "title": report.title,
        "description": report.description,
        "spec": wandb_private.spec(report),
    }
    run.store.write(FILE, (json.dumps(facts, indent=1, ensure_ascii=False) + "\n").encode())


def _saved(run: RunFolder, found: Findings, entity: str | None, project: str, before: Mapping[str, Any]) -> wr.Report:
    where = str(entity or before.get("entity") or wandb.Api().default_entity)
    report = build(run, found, project=project, entity=where)
    report.id = before.get("id", "")
    return report.save()


def _command(run: RunFolder) -> str:
    return f"tskd-tune report {in_shell(run.place)} --wandb"


def _within(deadline: float, save: Any, place: str, command: str) -> wr.Report:
    """Save in a separate thread, because W&B's client has no time limit.

    Raises:
        RunError: the report was not saved, or the deadline passed.
    """
    ended: list[Any] = []

    def work() -> None:
        try:
            ended.append(save())
        except (Exception, SystemExit) as error:
            ended.append(error)

    thread = threading.Thread(target=work, name="wandb report", daemon=True)
    thread.start()
    thread.join(deadline)
    outcome = ended[0] if ended else TimeoutError(f"it did not answer within {deadline:g} s")
    if isinstance(outcome, BaseException):
        hint = f"upload the runs with `tskd-tune sync` first, and if the report was deleted online, delete {place}"
        raise RunError(f"W&B did not take the report ({outcome}); {hint}; then run: {command}")
    return outcome
