"""What a user has who installs the wheel: the commands of the README in an empty folder, without a clone."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from tskd_tune.shipped import spaces

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.slow


def uv() -> str:
    found = shutil.which("uv") or shutil.which("uv", path=ROOT / ".uv" / "bin")
    if found is None:
        pytest.skip("uv, which builds the wheel, is neither on the PATH nor in .uv; `make install` puts it there")
    return found


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the sdist and out of it the wheel, and install that into an environment that sees the libraries here."""
    place = tmp_path_factory.mktemp("wheel")
    subprocess.run([uv(), "build", "--out-dir", place, ROOT], check=True, capture_output=True)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", place / "venv"], check=True)
    (wheel,) = place.glob("*.whl")
    python = place / "venv" / "bin" / "python"
    subprocess.run([uv(), "pip", "install", "--no-deps", "--offline", "--python", python, wheel], check=True)
    (libraries,) = (place / "venv").glob("lib/python*/site-packages")
    # Behind the wheel's own files; an editable clone in that folder has no say, as its .pth is not read from here.
    (libraries / "libraries.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    return place / "venv" / "bin" / "tskd-tune"


@pytest.fixture
def empty(tmp_path: Path) -> Path:
    folder = tmp_path / "empty"
    folder.mkdir()
    return folder


def run(command: Path, folder: Path, *arguments: str) -> str:
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(
        [command, *arguments], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_wheel_runs_itself_and_holds_every_search_space(installed: Path, empty: Path):
    code = "import tskd_tune, tskd_tune.shipped as s; print(tskd_tune.__file__); print(*sorted(s.spaces()))"
    where, names = run(installed.with_name("python"), empty, "-c", code).splitlines()
    assert str(installed.parents[1]) in where
    assert names.split() == sorted(spaces())


def test_a_sweep_runs_by_name_in_an_empty_folder(installed: Path, empty: Path):
    short = [
        "--set",
        "seeds=[1]",
        "--set",
        "experiment.training.epochs=4",
        "--set",
        "experiment.teacher.training.epochs=1",
    ]
    assert "digits: in order" in run(installed, empty, "check", "digits")
    assert "review" in run(installed, empty, "plan", "digits")
    run(installed, empty, "sweep", "digits", "--name", "first", *short)
    assert "tskd_increment" in run(installed, empty, "report", "first")
    run(installed, empty, "init", "digits")
    assert "digits.yaml: in order" in run(installed, empty, "check", "digits.yaml")


def test_the_templates_of_clusters_are_part_of_the_wheel(installed: Path, empty: Path):
    code = (
        "from tskd_tune.clusters.templates import *; [template(name) for name in (AWS, LOCAL, SLURM)]; print(clone())"
    )
    assert run(installed.with_name("python"), empty, "-c", code) == "None\n"
