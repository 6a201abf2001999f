"""The files around the package: what a clone holds, says and runs."""

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

import tskd_tune
from tskd_tune.documents import PACKAGED

ROOT = Path(__file__).parents[1]
LOCKS = {"uv.lock", "pylock.toml", "poetry.lock", "Pipfile.lock", "pdm.lock", "pixi.lock", "requirements.txt"}
# Put together here, as this file is tracked too.
REGISTRIES = [f"{host}.org" for host in ("pypi", "files.pythonhosted", "download.pytorch", "conda.anaconda")]


def tracked() -> Iterator[Path]:
    if not (ROOT / ".git").exists() or shutil.which("git") is None:
        pytest.skip("this is not a clone with git at hand, so nothing says which files are tracked")
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return (ROOT / name for name in listed.split("\0") if name and (ROOT / name).exists())


@pytest.fixture(scope="module")
def pyproject() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


def make(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Ask make what it would run, which is nothing yet."""
    clean = {"PATH": os.environ["PATH"], **environment}
    command = ["make", "--dry-run", "--always-make", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=clean, check=False)


def test_no_lock_file_is_tracked():
    assert [path.name for path in tracked() if path.name in LOCKS] == []


def test_no_tracked_file_names_a_package_registry():
    named = re.compile("|".join(map(re.escape, REGISTRIES)))
    texts = {path: path.read_text(errors="replace") for path in tracked()}
    assert [path.name for path, text in texts.items() if named.search(text)] == []


def test_the_changelog_leads_to_this_version():
    text = (ROOT / "CHANGELOG.md").read_text()
    first = text.index("\n## ")
    assert text[first:].startswith(("\n## [Unreleased]", f"\n## [{tskd_tune.__version__}]"))
    assert tskd_tune.__version__ in text


def test_the_readme_says_how_to_begin():
    readme = (ROOT / "README.md").read_text()
    assert "make demo" in readme
    assert "tskd-tune sweep" in readme


def test_the_license_is_the_one_that_is_declared(pyproject: dict[str, Any]):
    project = pyproject["project"]
    assert (project["license"], project["license-files"]) == ("Apache-2.0", ["LICENSE"])
    text = (ROOT / "LICENSE").read_text()
    assert "Version 2.0, January 2004" in text and "END OF TERMS AND CONDITIONS" in text


def test_the_citation_names_this_project_and_version(pyproject: dict[str, Any]):
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    project = pyproject["project"]
    assert citation["title"] == project["name"]
    assert citation["version"] == tskd_tune.__version__
    assert citation["license"] == project["license"]
    assert citation["authors"] == project["authors"]
    assert citation["abstract"].removesuffix(".") == project["description"]
    assert citation["keywords"] == project["keywords"]


def test_the_hooks_before_a_commit_are_the_linters_of_ci():
    [local] = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    assert local["repo"] == "local"  # nothing is downloaded
    linters = [line for line in make("lint").stdout.splitlines() if re.search(r"/(ruff|mypy)\b", line)]
    assert [hook["entry"] for hook in local["hooks"]] == linters


def test_the_workflow_runs_what_ci_runs():
    [job] = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())["jobs"].values()
    assert [step["run"] for step in job["steps"] if "run" in step] == [".ci/run"]


def test_what_is_too_long_for_every_merge_runs_at_night():
    [job] = yaml.safe_load((ROOT / ".github" / "workflows" / "nightly.yml").read_text())["jobs"].values()
    assert job["strategy"]["matrix"]["run"] == ["make test-all", "make coverage", "make test-lowest MEETING=."]
    assert any(line.endswith(" tests/.") for line in make("test-lowest", "MEETING=.").stdout.splitlines())


@pytest.mark.parametrize("template", ["bug", "method"])
def test_who_files_an_issue_is_asked_for_the_state_of_the_run(template: str):
    form = yaml.safe_load((ROOT / ".github" / "ISSUE_TEMPLATE" / f"{template}.yml").read_text())
    fields = {field["id"]: field for field in form["body"]}
    assert "state.json" in fields["state"]["attributes"]["description"]
    assert fields["state"].get("validations", {}).get("required", False) == (template == "bug")


def test_the_packaged_experiments_and_the_search_spaces_are_part_of_the_wheel(pyproject: dict[str, Any]):
    wheel = pyproject["tool"]["hatch"]["build"]["targets"]["wheel"]
    # Without a narrower selection hatchling takes every file of the package that git does not ignore.
    files = ("cluster.yaml", "cluster.local.yaml", "cluster.slurm.sh")
    beside = {"search_spaces": "tskd_tune/search_spaces", **{name: f"tskd_tune/cluster_files/{name}" for name in files}}
    assert wheel == {"packages": ["tskd_tune"], "force-include": beside}
    assert PACKAGED == ROOT / "tskd_tune" / "experiments"
    yaml = [path for path in tracked() if path.is_relative_to(PACKAGED)]
    assert {path.suffix for path in yaml} == {".yaml"}


def test_what_the_makefile_runs():
    assert "tskd-tune sweep digits" in make("demo").stdout
    assert 'pytest -m "not slow"' in make("test").stdout
    assert [line for line in make("test-all").stdout.splitlines() if "pytest" in line] == [".venv/bin/pytest"]
    assert '.lowest/bin/pytest -m "not slow"' in make("test-lowest").stdout
    lint = make("lint").stdout
    assert all(word in lint for word in ("ruff check", "ruff format --check", "mypy"))
    assert 'pytest -m "not slow" --cov' in make("coverage").stdout
    assert "sphinx-build --quiet --fail-on-warning" in make("docs").stdout


def test_one_factory_builds_the_rows_of_all_tests():
    tests = ROOT / "tests"
    texts = {path: path.read_text() for path in tests.rglob("*.py")}
    # The benchmarks have rows of their own.
    building = [path for path, text in texts.items() if re.search(r"\bRow\(", text) and "entries.row import" in text]
    assert [path.relative_to(tests).as_posix() for path in building] == ["factories.py"]


def test_coverage_has_a_floor(pyproject: dict[str, Any]):
    assert pyproject["tool"]["coverage"]["report"]["fail_under"] >= 75


def test_everything_is_installed_into_the_clone_after_a_word_on_its_size():
    lines = make("install", "UV=.uv/bin/uv", "PYTHON=python3.11").stdout.splitlines()
    steps = [
        next(place for place, line in enumerate(lines) if word in line)
        for word in ("-m venv .uv", "6 GB", "pip install --python .venv")
    ]
    assert steps == sorted(steps)
    assert "--group dev --editable ." in lines[steps[-1]]


def test_the_lowest_versions_that_are_allowed_are_installed_beside(pyproject: dict[str, Any]):
    lines = make("test-lowest", "UV=.uv/bin/uv", "PYTHON=python3.11").stdout.splitlines()
    [installs] = [line for line in lines if "pip install --python .lowest" in line]
    assert "--resolution lowest-direct --group test" in installs
    # It asks for a later torch than the package does, and would raise the lowest one.
    assert not any("torchdistill" in str(one) for one in pyproject["dependency-groups"]["test"])


def test_downloads_stay_in_the_clone_where_there_is_no_home(tmp_path: Path):
    def cache(home: str) -> list[str]:
        database = make("--print-data-base", "install", HOME=home).stdout
        return re.findall(r"^XDG_CACHE_HOME :?= (.*)$", database, re.MULTILINE)

    assert cache(str(tmp_path / "missing")) == cache("") == [f"{ROOT}/.uv/cache"]
    assert cache(str(tmp_path)) == []


def test_without_a_python_the_sentence_says_what_to_do(tmp_path: Path):
    command = ["make", "PYTHON=", f"UV={tmp_path}/uv", f"INSTALLED={tmp_path}/installed", f"{tmp_path}/installed"]
    (tmp_path / "uv").touch()
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert "No Python 3.11 or later on the PATH" in ended.stderr and "make PYTHON=" in ended.stderr


@pytest.mark.parametrize("failing", ["nothing", "test\\ *", "*slow*", "test-lowest", "lint", "docs", "audit"])
def test_ci_fails_if_any_step_does_and_tells_of_all(failing: str, tmp_path: Path):
    status = int(failing != "nothing")
    for folder in (".ci", ".venv/bin", "bin", "tests/cluster"):
        (tmp_path / folder).mkdir(parents=True)
    shutil.copy(ROOT / ".ci" / "run", tmp_path / ".ci" / "run")
    for step in ("bin/make", ".venv/bin/pytest", "tests/cluster/prepare"):
        (tmp_path / step).write_text(f'#!/bin/sh\necho "3 passed"\ncase "$*" in {failing}) exit 1;; esac\n')
        (tmp_path / step).chmod(0o755)
    path = {"PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}"}
    ended = subprocess.run([tmp_path / ".ci" / "run"], capture_output=True, text=True, env=path, check=False)
    summary = ended.stdout.partition("==> Summary")[2]
    assert ended.returncode == status
    assert summary.count("3 passed") == 9
    assert summary.count("FAILED") == (2 if failing == "*slow*" else status), "the slow tests are two halves"


ASKED = {"name": "torch", "version": "2.15.0", "vulns": []}
HOLE = {"id": "PYSEC-1", "fix_versions": ["2.16.0"], "aliases": [], "description": ""}
AUDITS: dict[str, tuple[list[dict[str, Any]] | None, str, int, str]] = {
    "no hole": ([ASKED], "", 0, "1 packages were looked up, 0 known holes"),
    "a hole": ([{**ASKED, "vulns": [HOLE]}], "", 1, "torch 2.15.0: PYSEC-1, fixed in 2.16.0"),
    "nothing to ask": ([{"name": "torch", "skip_reason": "not found on the index"}], "", 0, "skipped: the database"),
    "required": ([{"name": "torch", "skip_reason": "not found"}], "required", 1, "skipped: the database"),
    "no network": (
        None,
        "",
        0,
        "skipped: the database of known holes cannot be asked here (ConnectionError: no route)",
    ),
}


@pytest.mark.parametrize(("found", "mode", "status", "told"), AUDITS.values(), ids=AUDITS)
def test_known_holes_fail_the_audit_and_a_missing_network_is_said(
    found: list[dict[str, Any]] | None, mode: str, status: int, told: str, tmp_path: Path
):
    program, answer = tmp_path / "pip-audit", json.dumps({"dependencies": found})
    says = "echo ConnectionError: no route >&2; exit 1" if found is None else f"echo '{answer}'"
    program.write_text(f"#!/bin/sh\n{says}\n")
    program.chmod(0o755)
    words = [sys.executable, ROOT / ".ci" / "audit", program, tmp_path, *([mode] if mode else [])]
    ended = subprocess.run(words, capture_output=True, text=True, check=False)
    assert (ended.returncode, told in ended.stdout) == (status, True), ended.stdout + ended.stderr
    assert ".ci/audit .audit/bin/pip-audit" in make("audit").stdout
