"""All runs, one per line, and the resolved experiment of each arm."""

from __future__ import annotations

from dataclasses import dataclass

from tskd_tune import documents
from tskd_tune.records.entries.row import Row
from tskd_tune.reports.findings.records import ArmFindings
from tskd_tune.reports.findings.several_teachers import run_text
from tskd_tune.reports.findings.summary import Findings
from tskd_tune.reports.forms.short import MISSING, duration
from tskd_tune.reports.forms.words import value_text
from tskd_tune.reports.page.section import SECTIONS, Page, Section, rendered
from tskd_tune.reports.page.words import minute
from tskd_tune.words import count

TEMPLATE = """\
{% from "macros" import table %}
<section aria-labelledby="runs">
<h2 id="runs">Every run</h2>
{{ table("runs", "One row per seed of a point; metrics at the last epoch that was trained.", titles, runs, kind="small")
}}<h3>Configurations</h3>
{% for item in configs %}
<details><summary>{{ item.arm }} · seed{{ "s" if "," in item.seeds else "" }} {{ item.seeds }}</summary>
<p>Trial{{ "s" if "," in item.trials else "" }} {{ item.trials }}.</p>
<pre tabindex="0">{{ item.yaml }}</pre>
</details>
{% endfor %}
</section>
"""


@SECTIONS.register("runs", source="the rows")
class Runs(Section):
    """All runs, one per line, and the resolved experiment of each arm."""

    place = 210

    def html(self, page: Page) -> str:
        """Return the section; empty where there is nothing to show."""
        found = page.found
        if not found.rows:
            return ""
        return rendered(
            TEMPLATE,
            titles=_titles(found),
            runs=[_line(row, found) for row in found.rows],
            configs=[_configuration(arm) for arm in found.arms],
        )


def _titles(found: Findings) -> list[str]:
    metrics = [found.heading(name) for name in _metrics(found)]
    titles = ["trial", "arm", "seed", "status", "epochs", *metrics, "time", "device", "peak memory", "commit"]
    return [*titles, *(["versions"] if len(found.versions) > 1 else []), "finished"]


def _metrics(found: Findings) -> list[str]:
    return [found.on("test"), found.on("validation")]


def _line(row: Row, found: Findings) -> list[str]:
    """Return the cells of a row in the table of all runs; where versions differ, with the number of its versions."""
    form, versions = f".{found.metric.digits}f", found.versions
    return [
        row.run,
        row.arm,
        run_text(row),
        "broke" if row.broke else row.status,
        f"{row.epochs} of {row.epochs_planned}",
        *(value_text(row.value(name), form) for name in _metrics(found)),
        duration(row.cost.seconds),
        _device(row),
        MISSING if row.cost.peak_memory_bytes is None else f"{row.cost.peak_memory_bytes / 2**20:.0f} MiB",
        (row.commit or MISSING)[:10] + ("-dirty" if (row.commit or "").endswith("-dirty") else ""),
        *([str(versions.index(row.versions) + 1)] if len(versions) > 1 else []),
        minute(row.finished),
    ]


def _device(row: Row) -> str:
    together = f", {row.cost.together} together" if row.cost.together > 1 else ""
    together += f", {row.cost.workers} workers" if row.cost.workers > 1 else ""
    host = f", on {row.cost.host}" if row.cost.host else ""
    return f"{row.cost.device}, {count(row.cost.threads, 'thread')}{together}{host}"


@dataclass(frozen=True)
class _Configuration:
    """The resolved experiment of an arm as YAML, without the seed."""

    arm: str
    seeds: str
    trials: str
    yaml: str


def _configuration(arm: ArmFindings) -> _Configuration:
    shown = {name: value for name, value in arm.experiment.items() if name != "seed"}
    return _Configuration(arm.arm, ", ".join(map(str, arm.seeds)), ", ".join(arm.runs), documents.dump(shown))
