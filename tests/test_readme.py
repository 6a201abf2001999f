"""The files that the README and the guide show are read, checked and run, from another folder than theirs."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tskd_tune.cli import app
from tskd_tune.sweeps.declared.checking import check
from tskd_tune.sweeps.declared.schema import Sweep

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs" / "guide").glob("*.md"))]
TEXT = "\n".join(page.read_text() for page in PAGES)
FILES = dict(re.findall(r"^```(?:python|yaml)\n# (\w+\.(?:py|yaml))\n(.*?)^```", TEXT, re.DOTALL | re.MULTILINE))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder with these files; commands run beside it."""
    made = tmp_path / "mine"
    made.mkdir()
    for name, content in FILES.items():
        (made / name).write_text(content)
    monkeypatch.chdir(tmp_path)
    return made


def test_the_pages_show_these_files():
    assert sorted(FILES) == ["my_parts.py", "my_parts.yaml", "my_search.yaml", "my_sweep.yaml", "test_my_parts.py"]


def test_its_pictures_are_there_and_small():
    pictures = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", PAGES[0].read_text())
    assert pictures == ["docs/review.svg", "docs/report.png"]
    assert all(0 < (ROOT / picture).stat().st_size < 200_000 for picture in pictures)


def test_its_sweep_has_six_arms(folder: Path):
    assert len(Sweep.load(folder / "my_sweep.yaml").space().grid()) == 6


def test_its_search_has_four_search_parameters(folder: Path):
    holes = Sweep.load(folder / "my_search.yaml").space().holes()
    assert [hole.name for hole in holes] == ["review.k", "review.delta", "review.lambda", "review.sequence"]


def test_its_components_are_found_beside_their_yaml(folder: Path):
    sweep = Sweep.load("mine/my_parts.yaml")
    assert check(sweep) == []
    assert [point.label for point in sweep.space().grid()] == ["distiller=none", "distiller=my_parts:Hint"]
    shown = CliRunner().invoke(app, ["list", "distillers", "mine/my_parts:Hint"])
    assert "weight: weight of the gaps (number from 0; default: 1)" in shown.output


def test_its_components_pass_the_contract_tests(folder: Path):
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_my_parts.py"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


@pytest.mark.slow
def test_its_components_run_on_rays_workers_and_after_a_resume_elsewhere(folder: Path, tmp_path: Path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()

    def run(*arguments: str, where: Path) -> str:
        command = [sys.executable, "-c", "from tskd_tune.cli import main; main()", *arguments]
        done = subprocess.run(command, cwd=where, env=dict(os.environ), capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    run("sweep", "mine/my_parts.yaml", "--name", "own", "--set", "seeds=[1]", where=tmp_path)
    rows = tmp_path / "runs" / "own" / "rows.jsonl"
    first, _ = rows.read_text().splitlines(keepends=True)
    # What is missing is trained by a resume, in a folder from which nothing of one's own can be seen.
    rows.write_text(first)
    assert "my_parts:Hint" in run("resume", str(rows.parent), where=elsewhere)
    assert len(rows.read_text().splitlines()) == 2
