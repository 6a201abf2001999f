"""The engine knows no platform: it trains where neither ray, optuna nor wandb can be imported."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

PLATFORM = ("ray", "optuna", "wandb")

# What only the platform, the records and the reports need: a GPU machine may lack any of it.
ABSENT = (*PLATFORM, "typer", "rich", "jinja2", "plotly")

REFUSE = f"""
import sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {ABSENT}:
            raise ModuleNotFoundError(f"refused: {{name}}", name=name)

sys.meta_path.insert(0, Refuse())
"""

TRAIN = """
import json
import torch
torch.set_num_threads(1)
from tskd_tune.experiment import Experiment
from tskd_tune.experiment.ready import build_trainer

experiment = Experiment.read(
    {
        "task": {"name": "synthetic", "batch_size": 8, "size": 8, "train": 8, "validation": 0, "test": 8},
        "teacher": {"name": "resnet8", "training": {"epochs": 1, "lr": 0.01}},
        "student": {"name": "resnet8"},
        "review": {"k": 1, "delta": 1, "extractor": {"name": "conv_lstm", "hidden": 1}},
        "training": {"epochs": 2, "lr": 0.01, "device": "cpu"},
    }
)
trainer = build_trainer(experiment)
records = [trainer.epoch().plain() for _ in range(2)]
print(json.dumps([[record["phase"], record["loss"]] for record in records]))
"""


def run(code: str, cache: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "TSKD_TUNE_CACHE": str(cache)}
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False)


def test_the_engine_loads_nothing_of_the_platform(tmp_path: Path):
    modules = ["training.trainer", "training.teachers", "experiment", "experiment.assembly", "experiment.teacher"]
    imports = "\n".join(f"import tskd_tune.{module}" for module in modules)
    ended = run(f"{imports}\nimport sys\nprint([name for name in {PLATFORM} if name in sys.modules])", tmp_path)
    assert (ended.stdout, ended.stderr) == ("[]\n", "")


def test_it_trains_and_reviews_where_the_platform_is_absent(tmp_path: Path):
    ended = run(REFUSE + TRAIN, tmp_path)
    assert ended.returncode == 0, ended.stderr
    (memorize, _), (review, loss) = json.loads(ended.stdout)
    assert (memorize, review) == ("memorize", "review")
    assert loss > 0


@pytest.mark.parametrize("name", PLATFORM)
def test_the_refusal_refuses(name: str, tmp_path: Path):
    ended = run(f"{REFUSE}\nimport {name}", tmp_path)
    assert f"refused: {name}" in ended.stderr


def test_nothing_but_the_kit_imports_pytest():
    package = Path(__file__).parents[1] / "tskd_tune"
    files = {path.relative_to(package) for path in package.rglob("*.py") if "import pytest" in path.read_text()}
    assert files and {path.parts[0] for path in files} == {"testing"}
