"""The bundle for a GPU machine without internet: its pieces here, and as a whole where there is a network."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
from importlib import metadata
from pathlib import Path

import pytest
import torch

from benchmarks import bundle
from benchmarks.bundle import LEFT_OUT, MAGIC, PROVIDED, Bundled, BundleError
from tskd_tune.version import __version__

NO_NETWORK = ("dns error", "error sending request", "Could not connect", "client error (Connect)")


@pytest.fixture
def unpacked(tmp_path: Path) -> Path:
    """A bundle with the project, and with a single package beside it."""
    made = tmp_path / "bundle"
    site = tmp_path / "site"
    (site / "lacking").mkdir(parents=True)
    (site / "lacking" / "__init__.py").write_text("ANSWER = 42\n")
    made.mkdir()
    bundle.pack(site, [Path("lacking/__init__.py")], made / "site.tar.xz")
    bundle.pack(bundle.ROOT, bundle.project_files(), made / "project.tar.xz")
    (made / "run.sh").write_bytes(bundle.SCRIPT.read_bytes())
    return made


def run(made: Path, words: list[str], path: str | None = None, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment |= {"PYTHON": sys.executable, "OUT": str(made / "out"), **variables}
    environment |= {} if path is None else {"PYTHONPATH": path}
    return subprocess.run(
        ["sh", str(made / "run.sh"), *words], capture_output=True, text=True, env=environment, cwd=made
    )


def test_one_command_unpacks_the_bundle_and_runs_the_package(unpacked: Path) -> None:
    ended = run(unpacked, ["exec", "tskd-tune", "--version"])
    assert ended.returncode == 0, ended.stderr
    assert __version__ in ended.stdout
    code = "import lacking, tskd_tune; print(lacking.ANSWER, tskd_tune.__file__)"
    answer, file = run(unpacked, ["exec", sys.executable, "-c", code]).stdout.split()
    assert answer == "42" and file.startswith(str(unpacked / "unpacked" / "project"))


def test_a_step_that_fails_does_not_stop_the_next_and_is_named(unpacked: Path) -> None:
    ended = run(unpacked, ["benchmarks", "no-such-suite", "nor-this"], DEVICE="cpu")
    assert ended.returncode == 1
    assert "failed: no-such-suite nor-this" in ended.stderr
    assert (unpacked / "out" / "nor-this.log").exists()


def stubbed(made: Path, words: list[str], does: str, **variables: str) -> tuple[list[str], str]:
    """Run a bundle whose Python notes what it is asked, and then does something; return what was asked, and said."""
    tools = made / "unpacked" / "bin"
    tools.mkdir(parents=True)
    (made / "run.sh").write_bytes(bundle.SCRIPT.read_bytes())
    (made / "unpacked" / "project" / "benchmarks").mkdir(parents=True)
    for name in ("__init__.py", "within.py"):
        shutil.copy(bundle.SCRIPT.with_name(name), made / "unpacked" / "project" / "benchmarks")
    (made / "unpacked" / "whole").touch()
    within = f'case "$*" in "-m benchmarks.within"*) exec {sys.executable} "$@";; esac'
    for name in ("python", "tskd-tune"):
        (tools / name).write_text(f'#!/bin/sh\n{within}\necho "$*" >> "{made}/asked"\n{does}\n')
        (tools / name).chmod(0o755)
    ended = run(made, words, PYTHON=str(tools / "python"), **{"DEVICE": "cuda", **variables})
    lines = [line for line in (made / "asked").read_text().splitlines() if not line.startswith("-c ")]
    (made / "asked").write_text("\n".join(lines))
    return [line.removeprefix("-m ").split(" --device")[0] for line in lines], ended.stdout + ended.stderr


def test_what_tells_most_runs_first_and_in_short(tmp_path: Path) -> None:
    asked, _ = stubbed(tmp_path, [], "true")
    short = [f"benchmarks {suite}" for suite in ("step", "review", "together", "tables")]
    assert asked[0].startswith("pytest ") and "tests/training/test_gpu.py" in asked[0]
    assert asked[1:6] == [*short, "benchmarks together"] and asked[6].startswith("sweep digits")
    assert asked[7:9] == ["benchmarks profile", "benchmarks loader"]
    whole = ("step", "review", "tables", "profile", "loader", "cycle", "layouts")
    assert asked[9:] == [f"benchmarks {suite}" for suite in whole]
    lines = (tmp_path / "asked").read_text().splitlines()
    is_short = [line.endswith("--quick") for line in lines]
    assert is_short == [False, *[True] * 4, False, False, True, True, *[False] * 7]
    files = [str(tmp_path / "out" / name) for name in ("quick/step.json --quick", "together.json")]
    assert lines[1].endswith(files[0]) and lines[5].endswith(files[1])
    summary = (tmp_path / "out" / "summary.txt").read_text().splitlines()
    assert len(summary) == 16 and all(": ok, " in line for line in summary)


def test_a_budget_ends_what_is_too_long_and_names_what_is_left_out(tmp_path: Path) -> None:
    asked, said = stubbed(tmp_path, ["benchmarks", "first", "second", "third"], "exec sleep 60", BUDGET="31")
    assert asked == ["benchmarks first"]
    assert "first: cut off" in (tmp_path / "out" / "summary.txt").read_text()
    assert "left out, because BUDGET was spent: second third" in said and "failed: first" in said


def test_a_machine_without_a_gpu_is_told_so_and_runs_no_test_of_a_gpu(tmp_path: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("a GPU is here")
    does = f'case "$1" in -|-c) exec {sys.executable} "$@";; esac'
    asked, said = stubbed(tmp_path, [], does, DEVICE="")
    assert "shows no GPU (" in said and "so all is measured on the CPU, without the GPU tests" in said
    assert asked[1].startswith("benchmarks step") and not [line for line in asked if line.startswith("pytest")]


def test_a_python_without_torch_is_refused(tmp_path: Path) -> None:
    (tmp_path / "asked").touch()
    _, said = stubbed(tmp_path, [], "exit 1", DEVICE="")
    assert "there is no Python with torch at" in said and not (tmp_path / "out" / "summary.txt").exists()


def test_a_sweep_is_not_blamed_for_a_step_that_failed_before(tmp_path: Path) -> None:
    does = 'case "$*" in "-m pytest"*) exit 3;; esac'
    _, said = stubbed(tmp_path, [], does)
    assert "failed: gpu\n" in said and "gpu: failed with 3" in (tmp_path / "out" / "summary.txt").read_text()


def test_a_bundle_for_another_python_is_refused(unpacked: Path) -> None:
    (unpacked / "python.txt").write_text("2.7\n")
    ended = run(unpacked, ["exec", "true"])
    assert ended.returncode == 2 and "the bundle is for Python 2.7, but" in ended.stderr
    (unpacked / "python.txt").write_text("{}.{}\n".format(*sys.version_info[:2]))
    assert run(unpacked, ["exec", "true"]).returncode == 0


def test_a_machine_without_python_is_told_so(unpacked: Path) -> None:
    ended = run(unpacked, ["exec", "true"], PYTHON=str(unpacked / "python3"))
    assert ended.returncode == 2 and f"there is no Python at {unpacked}/python3; set PYTHON" in ended.stderr


def test_an_unknown_command_is_refused(unpacked: Path) -> None:
    ended = run(unpacked, ["everything"])
    assert ended.returncode == 2 and "no command everything" in ended.stderr


def test_a_broken_archive_is_reported(unpacked: Path) -> None:
    (unpacked / "site.tar.xz").write_bytes(b"no archive")
    ended = run(unpacked, ["exec", "true"])
    assert ended.returncode == 2 and "could not unpack" in ended.stderr


def test_the_project_is_packed_as_it_is_in_the_working_tree() -> None:
    names = {str(name) for name in bundle.project_files()}
    assert {"pyproject.toml", "tskd_tune/cli/__init__.py", "search_spaces/digits.yaml", "benchmarks/bundle.sh"} <= names
    assert "tests/training/test_gpu.py" in names
    assert not [name for name in names if name.startswith((".git/", ".venv/")) or name.endswith(".png")]


def test_an_archive_depends_on_its_files_alone(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("a = 1\n")
    for number in (1, 2):
        bundle.pack(tmp_path, [Path("a.py")], tmp_path / f"{number}.tar.xz")
        os.utime(tmp_path / "a.py", (number, number))
    assert (tmp_path / "1.tar.xz").read_bytes() == (tmp_path / "2.tar.xz").read_bytes()
    with tarfile.open(tmp_path / "1.tar.xz") as archive:
        assert [member.uname for member in archive] == [""]


def test_what_measuring_does_not_need_is_left_out(tmp_path: Path) -> None:
    for name in (*LEFT_OUT, "ray/core", "ray/__pycache__"):
        (tmp_path / name).mkdir(parents=True, exist_ok=True)
        (tmp_path / name / "file").write_text("x")
    program = tmp_path / "ray" / "core" / "raylet"
    program.write_bytes(Path(sys.executable).resolve().read_bytes())
    bundle.slim(tmp_path)
    assert sorted(str(path.relative_to(tmp_path)) for path in bundle.files_of(tmp_path)) == [
        "ray/core/file",
        "ray/core/raylet",
    ]
    assert bundle.is_binary(program) and program.read_bytes()[:4] == MAGIC


def test_a_bundle_that_is_too_large_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundle, "fetch", lambda site, place, python: (site / "x").mkdir(parents=True) or "x==1\n")
    monkeypatch.setattr(bundle, "LIMIT_MIB", 0.0)
    with pytest.raises(BundleError, match=r"more than 0.0 MiB; name more .* bundle.LEFT_OUT"):
        bundle.make(tmp_path / "bundle")


def test_a_bundle_says_how_large_it_is_and_what_to_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundle, "fetch", lambda site, place, python: (site / "x").mkdir(parents=True) or "x==1\n")
    made = bundle.make(tmp_path / "bundle")
    assert set(made.sizes) == {"site.tar.xz", "project.tar.xz", "versions.txt", "python.txt", "run.sh"}
    assert 0 < made.mib < 5 and str(tmp_path / "bundle" / "run.sh") in str(made)
    assert os.access(tmp_path / "bundle" / "run.sh", os.X_OK)
    assert isinstance(made, Bundled) and (tmp_path / "bundle" / "versions.txt").read_text() == "x==1\n"


def test_without_uv_the_command_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundle.shutil, "which", lambda name: str(tmp_path / "no-such-uv"))
    with pytest.raises(BundleError, match="install uv"):
        bundle.fetch(tmp_path / "site", tmp_path, "3.12")


def with_only(folder: Path, roots: tuple[str, ...]) -> Path:
    """Link the named distributions and what they need, and nothing else, into a folder for PYTHONPATH."""
    wanted, seen = list(roots), set()
    while wanted:
        name = wanted.pop()
        if name in seen:
            continue
        seen.add(name)
        try:
            found = metadata.distribution(name)
        except metadata.PackageNotFoundError:
            continue
        needed = [line for line in found.requires or [] if "extra ==" not in line]
        wanted += [line.split(";")[0].split("[")[0].rstrip(" <>=!~.0123456789,()") for line in needed]
        for top in {Path(str(file)).parts[0] for file in found.files or [] if not str(file).startswith("..")}:
            target = Path(str(found.locate_file(top)))
            if target.exists() and not (folder / top).exists():
                (folder / top).symlink_to(target)
    return folder


@pytest.mark.long
@pytest.mark.timeout(3000)
def test_the_bundle_runs_beside_torch_and_its_friends_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundle, "PRESET", 0)  # minutes less
    monkeypatch.setattr(bundle, "LIMIT_MIB", 90)
    try:
        made = bundle.make(tmp_path / "bundle", f"{sys.version_info.major}.{sys.version_info.minor}")
    except BundleError as error:
        if any(words in str(error) for words in NO_NETWORK):
            pytest.skip("needs a network, to fetch wheels")
        raise
    assert made.mib < bundle.LIMIT_MIB
    (tmp_path / "provided").mkdir()
    path = str(with_only(tmp_path / "provided", PROVIDED))
    (tmp_path / "python").write_text(f'#!/bin/sh\nexec "{sys.executable}" -S "$@"\n')  # -S: without site-packages
    (tmp_path / "python").chmod(0o755)
    interpreter = str(tmp_path / "python")
    lacking = run(tmp_path / "bundle", ["exec", interpreter, "-c", "import ray; print(ray.__file__)"], path)
    assert str(tmp_path / "bundle" / "unpacked" / "site") in lacking.stdout, lacking.stderr
    words = ["exec", interpreter, "-m"]
    checked = run(tmp_path / "bundle", [*words, "tskd_tune", "check", "digits"], path)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    measured = run(tmp_path / "bundle", [*words, "benchmarks", "step", "--quick", "--device", "cpu"], path)
    assert measured.returncode in (0, 1) and "general step" in measured.stdout, measured.stderr
