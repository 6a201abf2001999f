"""What a W&B Report of a run holds: no server is asked for any of it."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import wandb

import factories
from tskd_tune.errors import RunError
from tskd_tune.paths import Address
from tskd_tune.records.entries.row import PlanRecord, Row
from tskd_tune.records.runs.run_folder import RunFolder
from tskd_tune.reports.findings.summary import summary
from tskd_tune.reports.forms import report_lines, tables, wandb_private, wandb_report
from tskd_tune.reports.forms.markdown import markdown
from tskd_tune.reports.forms.plain import as_json
from tskd_tune.reports.forms.words import MOST_ARMS

pytestmark = pytest.mark.usefixtures("no_wandb_account")

INCREMENT = {"sequence": "increment", "k": 3, "delta": 5, "lambda": 1.0}
ARMS: dict[str, Any] = {
    "none": None,
    "increment, k=3": INCREMENT,
    "feature_map": INCREMENT | {"sequence": "feature_map"},
    "k=6": INCREMENT | {"k": 6},
}


def a_row(run: str, seed: int, arm: str, review: dict[str, Any] | None) -> Row:
    facts = {
        "metrics": {"test_top1": 60.0 + seed, "val_top1": 50.0},
        "plan": PlanRecord(memorize=[0], review=[2]) if review else PlanRecord(),
        "experiment": {"student": {"name": "resnet8"}, "review": review, "seed": seed},
    }
    return factories.a_row(run, seed, arm, planned=3, **facts)


@pytest.fixture
def a_run(tmp_path: Path) -> Callable[..., RunFolder]:
    def make(
        arms: dict[str, Any],
        document: dict[str, Any] | None = None,
        history: bool = True,
        seeds: tuple[int, ...] = (1, 2),
    ) -> RunFolder:
        folder = RunFolder.create(tmp_path, "first", "sweep", document or {})
        rows = [
            a_row(str(number), seed, arm, review) for number, (arm, review) in enumerate(arms.items()) for seed in seeds
        ]
        factories.write_rows(folder, rows)
        for row in rows if history else []:
            more = {"review_loss": 0.1} if row.experiment["review"] else {}
            lines = [{"seed": row.seed, "epoch": epoch, "loss": 1.0, "val_top1": 50.0, **more} for epoch in range(3)]
            folder.append_history(row.run, lines)
        return RunFolder(folder.path, folder.state.model_copy(update={"id": "first"}))

    return make


def spec_of(folder: RunFolder) -> dict[str, Any]:
    return wandb_private.spec(wandb_report.build(folder, summary(folder), project="mine"))


def words(block: dict[str, Any]) -> str:
    return "".join(child.get("text", "") or words(child) for child in block.get("children", []))


def sections(spec: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """Return heading -> the blocks under it."""
    found: dict[str, list[dict[str, Any]]] = {}
    for block in spec["blocks"]:
        if block["type"] == "heading":
            found[words(block)] = [*block.get("collapsedChildren", [])]
        elif found:
            found[list(found)[-1]].append(block)
    return found


def grid(spec: dict[str, Any], heading: str) -> dict[str, Any]:
    (block,) = [block for block in sections(spec)[heading] if block["type"] == "panel-grid"]
    return block["metadata"]


def run_sets(metadata: dict[str, Any]) -> dict[str, list[str]]:
    """Return run set -> the ids that it lets through; each has one filter, on the id, and nothing else."""
    found = {}
    for one in metadata["runSets"]:
        (chosen,) = one["filters"]["filters"]
        assert (chosen["key"], chosen["op"]) == ({"section": "run", "name": "name"}, "IN")
        found[one["name"]] = chosen["value"]
    return found


def panels(metadata: dict[str, Any]) -> list[dict[str, Any]]:
    return metadata["panelBankSectionConfig"]["panels"]


def test_a_run_set_an_arm_names_its_runs_by_id_whatever_its_label(a_run: Callable[..., RunFolder]) -> None:
    folder = a_run(ARMS)
    curves = grid(spec_of(folder), "Curves")
    assert run_sets(curves) == {
        arm: [f"first-{number}-seed1", f"first-{number}-seed2"] for number, arm in enumerate(ARMS)
    }
    assert all(one["grouping"] == [{"section": "run", "name": "group"}] for one in curves["runSets"])
    assert all("project" not in one for one in curves["runSets"])


def test_a_run_that_the_server_refused_is_known_by_its_second_id_too(a_run: Callable[..., RunFolder]) -> None:
    folder = a_run(ARMS)
    (folder.path / "wandb" / "offline-run-20260101_000000-first-1-seed2-offline").mkdir(parents=True)
    sets = run_sets(grid(spec_of(folder), "Curves"))
    assert sets["increment, k=3"] == ["first-1-seed1", "first-1-seed2", "first-1-seed2-offline"]
    assert len(sets["none"]) == 2


def test_curves_are_of_what_the_histories_followed(a_run: Callable[..., RunFolder]) -> None:
    shown = panels(grid(spec_of(a_run(ARMS)), "Curves"))
    assert [panel["config"]["metrics"] for panel in shown] == [["val_top1"], ["loss"], ["review_loss"]]
    assert {panel["config"]["xAxis"] for panel in shown} == {"epoch"}
    assert {(panel["config"]["groupAgg"], panel["config"]["groupArea"]) for panel in shown} == {("mean", "minmax")}
    assert [panel["config"].get("yLogScale") for panel in shown] == [None, None, True]
    places = [(panel["layout"]["x"], panel["layout"]["y"]) for panel in shown]
    assert places == [(0, 0), (8, 0), (16, 0)]


def test_without_histories_there_are_no_curves(a_run: Callable[..., RunFolder]) -> None:
    spec = spec_of(a_run(ARMS, history=False))
    assert list(sections(spec)) == ["Verdicts", "Arms", "k", "The whole report in words"]


def test_arms_that_are_not_drawn_are_counted(a_run: Callable[..., RunFolder]) -> None:
    arms = {f"arm {number}": None for number in range(MOST_ARMS + 3)}
    spec = spec_of(a_run(arms))
    assert len(run_sets(grid(spec, "Curves"))) == MOST_ARMS
    assert "3 more are not drawn" in words(sections(spec)["Curves"][0])


def test_feature_maps_stand_against_the_increments_that_differ_in_nothing_else(
    a_run: Callable[..., RunFolder],
) -> None:
    sets = run_sets(grid(spec_of(a_run(ARMS)), "Feature maps against increments"))
    assert sets == {
        "increment: increment, k=3": ["first-1-seed1", "first-1-seed2"],
        "feature_map: feature_map": ["first-2-seed1", "first-2-seed2"],
    }


def test_feature_maps_alone_are_compared_with_nothing(a_run: Callable[..., RunFolder]) -> None:
    arms = {"maps": INCREMENT | {"sequence": "feature_map"}, "other": INCREMENT | {"lambda": 2.0}}
    assert "Feature maps against increments" not in sections(spec_of(a_run(arms)))


@pytest.mark.parametrize(("changed", "heading"), [({"k": 6}, "k"), ({"delta": 9}, "delta"), ({"lambda": 2.0}, None)])
def test_k_and_delta_are_drawn_where_arms_differ_in_them(
    a_run: Callable[..., RunFolder], changed: dict[str, Any], heading: str | None
) -> None:
    spec = spec_of(a_run({"none": None, "one": INCREMENT, "two": INCREMENT | changed}))
    if heading is None:
        assert not {"k", "delta", "k and delta"} & set(sections(spec))
        return
    metadata = grid(spec, heading)
    scatter, parallel = panels(metadata)
    assert (scatter["config"]["xAxis"], scatter["config"]["yAxis"]) == (
        f"config:review.value.{heading}",
        "summary:test_top1",
    )
    columns = [column["accessor"] for column in parallel["config"]["columns"]]
    assert columns == ["config:review.value.k", "config:review.value.delta", "summary:test_top1"]
    names = [f"first-{number}-seed{seed}" for number in (1, 2) for seed in (1, 2)]
    assert run_sets(metadata) == {"arms with a review": names}
    assert metadata["runSets"][0]["grouping"] == []


def test_a_search_is_judged_by_its_own_metric(a_run: Callable[..., RunFolder]) -> None:
    document = {"search": {"name": "optuna", "metric": "val_top1", "mode": "max"}}
    spec = spec_of(a_run({"one": INCREMENT, "two": INCREMENT | {"k": 6}}, document))
    assert panels(grid(spec, "k"))[0]["config"]["yAxis"] == "summary:val_top1"


def test_the_table_and_the_whole_report_are_those_of_the_markdown(a_run: Callable[..., RunFolder]) -> None:
    folder = a_run(ARMS)
    found = summary(folder)
    parts = sections(spec_of(folder))
    (table,) = [block["content"] for block in parts["Arms"] if block["type"] == "markdown-block"]
    assert table in markdown(found)
    assert len(table.splitlines()) == 2 + len(ARMS)
    for column in tables.columns(found):
        assert column.title in table
    assert parts["The whole report in words"][0]["content"] == markdown(found)


def listed(block: dict[str, Any]) -> list[str]:
    assert block["type"] == "list"
    return [words(item) for item in block["children"]]


def test_verdicts_come_first_and_what_is_to_know_of_the_table_stands_under_it(
    a_run: Callable[..., RunFolder],
) -> None:
    folder = a_run(ARMS, seeds=(1, 2, 3, 4, 5))
    found = summary(folder)
    parts = sections(spec_of(folder))
    assert list(parts)[:2] == ["Verdicts", "Arms"]
    verdicts = listed(parts["Verdicts"][0])
    assert verdicts == report_lines.verdict_lines(found)
    assert verdicts[0] == as_json(found)["family"]["findings"][0]["sentence"]
    assert "'increment, k=3' against 'none'" in verdicts[0] and "Check that the option" in verdicts[0]
    assert listed(parts["Arms"][-1]) == report_lines.under_table(found)


def test_where_nothing_is_compared_the_reason_is_given(a_run: Callable[..., RunFolder]) -> None:
    folder = a_run({"none": None})
    reason = as_json(summary(folder))["family_reason"]
    assert reason and listed(sections(spec_of(folder))["Verdicts"][0]) == [reason]


def test_an_empty_run_has_a_report(a_run: Callable[..., RunFolder]) -> None:
    spec = spec_of(a_run({}))
    assert "0 runs finished" in words(sections(spec)["Arms"][0])
    assert not [block for block in spec["blocks"] if block["type"] == "panel-grid"]


def test_the_same_records_give_the_same_bytes(a_run: Callable[..., RunFolder]) -> None:
    folder = a_run(ARMS)
    done = wandb_report.publish(folder)
    first = done.path.read_bytes()
    assert done.url is None and "there is no key" in done.why_not
    wandb_report.publish(folder)
    assert done.path.read_bytes() == first
    spec = json.loads(first)["spec"]
    names = [panel["__id__"] for block in spec["blocks"] if "metadata" in block for panel in panels(block["metadata"])]
    assert len(set(names)) == len(names) == 8


def test_a_report_that_was_saved_is_remembered_until_the_place_changes(
    a_run: Callable[..., RunFolder], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = a_run(ARMS)
    path = wandb_report.publish(folder).path
    saved = {**json.loads(path.read_text()), "id": "abc", "url": "http://here/abc", "entity": "someone"}
    path.write_text(json.dumps(saved))
    wandb_report.publish(folder)
    assert json.loads(path.read_text()) == saved
    monkeypatch.setenv("WANDB_PROJECT", "another")
    wandb.teardown()
    wandb_report.publish(folder)
    kept = json.loads(path.read_text())
    assert (kept["project"], kept["id"], kept["url"]) == ("another", None, None)
    path.write_text("torn {")
    assert wandb_report.publish(folder).url is None


def test_the_sweep_names_the_place(a_run: Callable[..., RunFolder]) -> None:
    folder = a_run(ARMS)
    folder.replace_document({**folder.document(), "wandb": {"project": "theirs", "entity": "lab"}})
    kept = json.loads(wandb_report.publish(folder).path.read_text())
    assert (kept["project"], kept["entity"]) == ("theirs", "lab")


def test_offline_mode_asks_no_server(a_run: Callable[..., RunFolder], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    assert wandb_report.publish(a_run(ARMS)).why_not == "WANDB_MODE is offline"


def test_a_server_that_never_answers_is_given_up_at_the_deadline(
    a_run: Callable[..., RunFolder], monkeypatch: pytest.MonkeyPatch
) -> None:
    never = threading.Event()
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    monkeypatch.setattr(wandb_report, "why_away", lambda url, patience: None)
    monkeypatch.setattr(wandb_report, "_saved", lambda *_: never.wait(60))
    with pytest.raises(RunError, match=r"it did not answer within 0\.1 s.*tskd-tune sync.*--wandb"):
        wandb_report.publish(a_run(ARMS), deadline=0.1)
    never.set()


def test_the_spec_of_a_run_on_a_storage_is_named_by_its_address(memory: Address) -> None:
    done = wandb_report.publish(RunFolder.create(memory, "far", "sweep", {}))
    assert done.place == f"{memory}/far/wandb-report.json" and json.loads(done.path.read_text())["spec"]
