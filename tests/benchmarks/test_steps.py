"""The suites of steps: their rows, the arithmetic of their figures, and what they can do without."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from typer.testing import CliRunner

from benchmarks import floor, steps
from benchmarks.__main__ import app
from benchmarks.clocks import interleaved
from benchmarks.contenders import GENERAL, REVIEW, Ours
from benchmarks.environment import Environment
from benchmarks.exactness import ExactnessError, Found, same_bits
from benchmarks.floor import Ceilings, Work, outputs, work
from benchmarks.rows import Check, Goal, Report, Row, Spent, table
from benchmarks.steps import PARTS, REFERENCE, Size, raise_first
from benchmarks.variants import FORMATS, is_exact, is_graph, variants_of
from benchmarks.workload import Variant, Workload
from tskd_tune.experiment.assembly import task_of

CPU = torch.device("cpu")
TINY = Workload("resnet8", "resnet14", batch_size=16, general=4, reviews=3, k=2, hidden=2)
ROW = Row(
    suite="step",
    name="general step",
    device="cpu",
    precision="float32",
    layout="NCHW",
    unit="step",
    clock="cpu",
    ours=Spent(0.5, 0.25),
    reference=Spent(0.5, 1.0),
    exactness="bitwise",
    compared="weights",
    floor_seconds=0.05,
    goals=(Goal("reference / ours", 4.0, 2.5, at_least=True), Goal("ms", 4.0, 2.5, at_least=False)),
)


@pytest.fixture(scope="module")
def measured() -> steps.Measured:
    return steps.measure(TINY, FORMATS, CPU, repeats=2)


def test_a_row_divides_the_references_time_by_ours() -> None:
    assert ROW.ratio == 4.0 and ROW.floor_fraction == 0.2
    assert replace(ROW, clock="wall").ratio == 1.0
    plain = ROW.plain()
    assert plain["ratio"] == plain["ratio_cpu"] == 4.0 and plain["ratio_wall"] == 1.0
    assert [goal["met"] for goal in plain["goals"]] == [True, False]
    assert "missed" in str(ROW.goals[1]) and "met" in str(ROW.goals[0])


def test_the_file_holds_rows_environment_and_checks(tmp_path: Path) -> None:
    report = Report((ROW,), (Check("general", 1.0, {"teacher": 0.5}),), ("a note",))
    report.write(tmp_path / "figures.json", Environment.of(CPU))
    found = json.loads((tmp_path / "figures.json").read_text())
    assert set(found) == {"rows", "environment", "checks", "counts", "notes", "refused"}
    assert found["rows"][0] == json.loads(json.dumps(ROW.plain()))
    assert {"suite", "name", "device", "precision", "ratio", "exactness"} <= set(found["rows"][0])
    assert found["environment"]["versions"]["torch"] == torch.__version__.partition("+")[0]
    assert {"cpu", "gpu", "threads", "load", "cores", "python", "commit"} <= set(found["environment"])
    assert found["checks"][0]["holds"] is False and not report.holds
    assert found["checks"][0]["error"] == pytest.approx(-0.5)


def test_every_variant_has_a_row_whose_numbers_were_compared(measured: steps.Measured) -> None:
    for variant in FORMATS:
        row = measured.row("cycle", "cycle", "cycle", variant, {GENERAL: 15, REVIEW: 1})
        assert row.exactness == ("changes results" if variant.precision == "bfloat16" else "rounding")
        assert row.prepare_seconds is not None and row.prepare_seconds > 0
        ours = measured.timed[variant.name]
        first = 15 * ours.each(GENERAL)[0].cpu + ours.each(REVIEW)[0].cpu
        assert row.repeats[0][0].cpu == pytest.approx(first)
        assert row.ours.cpu == pytest.approx(sum(pair[0].cpu for pair in row.repeats) / 2)
        assert row.floor_fraction is not None and row.floor_fraction > 0
    assert [check.name for check in measured.checks] == [GENERAL, REVIEW]
    assert table(Report((row,), measured.checks)).row_count == 1


def test_contenders_take_turns() -> None:
    order: list[str] = []

    class Named:
        def __init__(self, name: str) -> None:
            self.name = name

        def prepare(self) -> None:
            order.append(f"prepare {self.name}")

        def run(self) -> dict[str, Spent]:
            order.append(self.name)
            return {"step": Spent(float(len(order)), 0.0)}

    timed = interleaved({"a": Named("a"), "b": Named("b")}, repeats=3)
    assert order == ["prepare a", "prepare b", *"ababab"]
    assert timed["a"].median("step").wall == 5.0 and timed["b"].each("step")[-1].wall == 8.0


def test_operations_and_bytes_are_those_of_the_networks() -> None:
    plain = work(Workload(batch_size=1, general=100), review=False)
    assert plain.operations == pytest.approx(244.0e6, rel=1e-3)
    assert plain.values == pytest.approx(8.4 * 200_704)
    distils = work(Workload(batch_size=1, general=100, distils=True), review=False)
    assert distils.operations - plain.operations == pytest.approx(251.5e6, rel=1e-3)
    review = work(Workload(batch_size=2, general=100, reviews=2), review=True)
    gates = 6 * 4 * 8 * (3 + 1) * (1024 + 256 + 64)
    assert review.values == pytest.approx(2 * (8.4 * 200_704 + 2.4 * 544_768 + 3 * 2.4 * 200_704 + gates))


def test_the_floor_is_the_larger_of_two_times() -> None:
    ceilings = Ceilings({"float32": 100.0, "bfloat16": 200.0}, bytes=8.0)
    assert ceilings.seconds(Work(operations=1000.0, values=2.0), "float32") == 10.0
    assert ceilings.seconds(Work(operations=10.0, values=20.0), "bfloat16") == 5.0


@pytest.mark.parametrize("slow", ["a product", "a convolution"])
def test_the_ceiling_is_that_of_the_faster_library(slow: str, monkeypatch: pytest.MonkeyPatch) -> None:
    counted: list[int] = []

    def seconds(function: Callable[[], object], device: torch.device) -> float:
        with FlopCounterMode(display=False) as counter:
            function()
        operations = counter.get_total_flops()
        counted.append(operations)
        is_product = operations == 2 * floor.MATRIX["cpu"] ** 3
        return max(operations, 1) / (1.0 if is_product == (slow == "a product") else 3.0)

    monkeypatch.setattr(floor, "_seconds", seconds)
    found = floor.ceilings(CPU).operations
    assert found == {"float32": pytest.approx(3.0), "bfloat16": pytest.approx(3.0)}
    assert len(set(filter(None, counted))) == 2, "operations are those that torch counts"


def test_a_frozen_network_does_not_change_while_its_outputs_are_counted() -> None:
    loop = TINY.loop(TINY.trainer(Variant(""), CPU), CPU)
    before = loop.teacher.state_dict()["bn1.running_mean"].clone()
    assert outputs(loop.teacher) > outputs(loop.student)
    assert torch.equal(loop.teacher.state_dict()["bn1.running_mean"], before)


def test_a_variant_that_fails_or_computes_something_else_costs_no_other_its_figures(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fails, differs = (replace(FORMATS[0], name=name) for name in ("fails", "differs"))
    build, compare = Ours.__init__, steps.against_reference

    def built(self: Ours, workload: Workload, variant: Variant, device: torch.device) -> None:
        build(self, workload, variant, device)
        if variant.name == "fails":
            monkeypatch.setattr(self, "prepare", lambda: torch.zeros(2) @ torch.zeros(3))

    def compared(workload: Workload, variant: Variant, device: torch.device) -> Found:
        if variant.name == "differs":
            raise ExactnessError("differs: by much")
        return compare(workload, variant, device)

    monkeypatch.setattr(Ours, "__init__", built)
    monkeypatch.setattr(steps, "against_reference", compared)
    chosen = [fails, differs, FORMATS[0]]
    measured = steps.measure(TINY, chosen, CPU, repeats=1)
    assert measured.has(chosen) == [FORMATS[0]]
    assert measured.refused["fails"].startswith("fails: RuntimeError: ")
    assert measured.refused["differs"] == "differs: by much"


def test_nothing_is_measured_where_the_reference_fails() -> None:
    with pytest.raises(RuntimeError, match="the reference loop: no"):
        raise_first({REFERENCE: f"{REFERENCE}: no"}, REFERENCE, PARTS)


def test_a_gpu_has_each_format_with_each_engine() -> None:
    chosen = variants_of(torch.device("cuda"))
    names = [variant.name for variant in chosen]
    assert len(set(names)) == len(names) == 2 * len(FORMATS) + 2
    assert [is_exact(variant) for variant in chosen] == [True] * 6 + [False] * 2
    assert sum(is_graph(variant) for variant in chosen) == len(FORMATS) + 2
    assert variants_of(CPU) == FORMATS


@pytest.mark.parametrize("variant", variants_of(torch.device("cuda")), ids=lambda variant: variant.name)
def test_the_package_has_the_options_of_every_variant(variant: Variant) -> None:
    training = Workload().experiment(replace(variant, options={**variant.options, "graphs": "auto"}), CPU).training
    assert all(getattr(training, name) == value for name, value in variant.options.items() if name != "graphs")


def test_two_variants_with_other_bits_are_refused() -> None:
    assert same_bits(TINY, FORMATS[0], FORMATS[0], CPU).exactness == "bitwise"
    with pytest.raises(ExactnessError, match="float32 NCHW and bfloat16 channels_last"):
        same_bits(TINY, FORMATS[0], FORMATS[2], CPU)


def test_a_quick_suite_is_smaller_and_a_whole_one_has_five_repeats() -> None:
    for device in (CPU, torch.device("cuda")):
        quick, whole = Size.of(device, quick=True), Size.of(device, quick=False)
        assert whole.repeats >= 5 and whole.batch_size == 128
        for size in (quick, whole):  # an epoch has an image of each class
            task_of(Workload(batch_size=size.batch_size, general=size.general).experiment(FORMATS[0], CPU)).facts()
        assert quick.repeats * quick.batch_size * quick.general < whole.repeats * whole.batch_size * whole.general


def test_no_suite_needs_ray_optuna_or_wandb() -> None:
    code = """
import sys
for name in ("ray", "optuna", "wandb", "wandb_workspaces"):
    sys.modules[name] = None  # an import of it fails
import torch
from benchmarks.__main__ import app
from benchmarks import steps, variants, workload
tiny = workload.Workload("resnet8", "resnet14", batch_size=16, general=5, reviews=2, k=2, hidden=2)
found = steps.measure(tiny, variants.FORMATS[:1], torch.device("cpu"), repeats=1)
print(found.row("step", "step", "step", variants.FORMATS[0], {"general": 1}).exactness)
"""
    root = Path(__file__).parents[2]
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=root)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.strip() in ("rounding", "bitwise")


def test_cuda_without_a_gpu_is_refused() -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    result = CliRunner().invoke(app, ["step", "--device", "cuda"])
    assert result.exit_code != 0


def test_an_unknown_device_is_refused() -> None:
    assert CliRunner().invoke(app, ["step", "--device", "tpu"]).exit_code != 0


@pytest.mark.slow
def test_the_command_writes_its_figures(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["cycle", "--quick", "--json", str(tmp_path / "cycle.json")])
    assert result.exit_code in (0, 1), result.output  # 1: a busy machine, where the parts do not add up
    found = json.loads((tmp_path / "cycle.json").read_text())
    assert [row["precision"] for row in found["rows"]] == ["float32", "float32", "bfloat16"]
    assert (result.exit_code == 0) == all(check["holds"] for check in found["checks"])
