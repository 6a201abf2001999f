"""Puts the package, and what a GPU machine without internet lacks, into one folder: ``python -m benchmarks bundle``.

The wheels are fetched by ``uv`` for x86-64 Linux. Ray goes without its Java, its dashboard's front end
and its reinforcement learning, and binaries go without their symbols.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

ROOT = Path(__file__).resolve().parents[1]
SCRIPT = Path(__file__).with_suffix(".sh")
LIMIT_MIB = 60
PRESET: Literal[2, 6] = 6
"""How hard files are compressed: 2 is faster, and makes a larger bundle."""
MIB = 2**20
PYTHON, PLATFORM = "3.12", "x86_64-manylinux_2_28"
PROVIDED = (
    *("torch", "torchvision", "numpy", "pandas", "pyarrow", "scipy", "scikit-learn", "statsmodels", "timm", "pillow"),
    *("pytest", "pytest-xdist", "pytest-cov"),
)
"""What the GPU machine has, or what measuring does not need."""
RAY = "ray[tune]>=2.52,<3"
"""Ray without its dashboard's server, which only looks at a cluster."""
LEFT_OUT = ("ray/jars", "ray/rllib", "ray/dashboard/client", "ray/cpp", "plotly/package_data/datasets", "bin")
LEFT_OUT_OF_PROJECT = (".png", ".svg")
MAGIC = b"\x7fELF"


class BundleError(Exception):
    """The bundle cannot be made; the message says what to do."""


@dataclass(frozen=True)
class Bundled:
    """What was made: each file and its bytes."""

    folder: Path
    sizes: dict[str, int]

    @property
    def mib(self) -> float:
        """The size of all files."""
        return sum(self.sizes.values()) / MIB

    def __str__(self) -> str:
        files = ", ".join(f"{name} {size / MIB:.1f}" for name, size in self.sizes.items())
        return f"{self.folder}: {self.mib:.1f} MiB ({files}). There: {self.folder / 'run.sh'}"


def make(folder: Path, python: str = PYTHON) -> Bundled:
    """Make the bundle for a version of Python.

    Raises:
        BundleError: uv is missing, a package cannot be fetched, or the bundle is too large.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as place:
        site = Path(place) / "site"
        versions = fetch(site, Path(place), python)
        slim(site)
        pack(site, [path.relative_to(site) for path in files_of(site)], folder / "site.tar.xz")
    pack(ROOT, project_files(), folder / "project.tar.xz")
    (folder / "versions.txt").write_text(versions)
    (folder / "python.txt").write_text(f"{python}\n")
    shutil.copy(SCRIPT, folder / "run.sh")
    (folder / "run.sh").chmod(0o755)
    made = ("site.tar.xz", "project.tar.xz", "versions.txt", "python.txt", "run.sh")
    bundled = Bundled(folder, {name: (folder / name).stat().st_size for name in made})
    if bundled.mib > LIMIT_MIB:
        raise BundleError(f"{bundled}: more than {LIMIT_MIB} MiB; name more of what is not needed in bundle.LEFT_OUT")
    return bundled


def fetch(site: Path, place: Path, python: str) -> str:
    """Install what the GPU machine lacks into a folder, and return the names and versions."""
    overrides, wanted = place / "overrides.txt", place / "wanted.txt"
    overrides.write_text("\n".join([*(f'{name} ; python_version < "3"' for name in PROVIDED), RAY]))
    target = ["--python-version", python, "--python-platform", PLATFORM, "--only-binary", ":all:"]
    compiled = ["pip", "compile", str(ROOT / "pyproject.toml"), "--group", f"{ROOT / 'pyproject.toml'}:test"]
    compiled += [*target, "--override", str(overrides), "--no-annotate", "--no-header"]
    _uv([*compiled, "--output-file", str(wanted)])
    _uv(["pip", "install", "--target", str(site), "--no-deps", "--link-mode", "copy", *target, "-r", str(wanted)])
    return wanted.read_text()


def _uv(words: Sequence[str]) -> str:
    found = shutil.which("uv") or str(ROOT / ".uv" / "bin" / "uv")
    try:
        ended = subprocess.run(
            [found, "--no-python-downloads", *words], capture_output=True, text=True, check=False, cwd=ROOT
        )
    except FileNotFoundError:
        raise BundleError("benchmarks bundle: needs uv to fetch wheels, but there is none; install uv") from None
    if ended.returncode:
        raise BundleError(f"benchmarks bundle: `uv {' '.join(words[:2])}` failed:\n{ended.stderr.strip()[-2000:]}")
    return ended.stdout


def slim(site: Path) -> None:
    """Remove what measuring does not need, and the symbols of binaries."""
    for name in LEFT_OUT:
        shutil.rmtree(site / name, ignore_errors=True)
    for cache in list(site.rglob("__pycache__")):
        shutil.rmtree(cache)
    strip = shutil.which("strip")
    binaries = [path for path in files_of(site) if is_binary(path)]
    if strip is not None and binaries:
        # A binary that cannot be stripped stays as it is.
        subprocess.run([strip, "--strip-unneeded", *map(str, binaries)], capture_output=True, check=False)


def is_binary(path: Path) -> bool:
    """Tell whether a file is a program or a library of Linux."""
    with path.open("rb") as file:
        return file.read(len(MAGIC)) == MAGIC


def files_of(folder: Path) -> list[Path]:
    """Return all files in a folder."""
    return sorted(path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())


def project_files() -> list[Path]:
    """Return the files of the project, as they are in the working tree.

    Raises:
        BundleError: the package lies outside of a git repository.
    """
    command = ["git", "-C", str(ROOT), "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    if ended.returncode:
        raise BundleError(f"benchmarks bundle: {ROOT} is no git repository; make the bundle in a clone of the project")
    names = [Path(name) for name in ended.stdout.split("\0") if name and not name.endswith(LEFT_OUT_OF_PROJECT)]
    return [name for name in names if (ROOT / name).is_file()]


def pack(folder: Path, names: Iterable[Path], archive: Path) -> None:
    """Pack files of a folder, compressed; the archive is the same for the same files."""
    with tarfile.open(archive, "w:xz", preset=PRESET) as packed:
        for name in sorted(names):
            packed.add(folder / name, arcname=str(name), filter=_anonymous)


def _anonymous(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = member.mtime = 0
    member.uname = member.gname = ""
    return member


def main(folder: Path, python: str) -> None:
    """Carry out the command."""
    try:
        made = make(folder.resolve(), python)
    except BundleError as error:
        raise SystemExit(str(error)) from error
    sys.stdout.write(f"{made}\n")
