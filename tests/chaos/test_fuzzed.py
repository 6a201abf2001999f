"""Files that no editor would write: `check` says in a sentence what is wrong, within seconds, without a traceback.

`tests/cli/preparing/test_slips.py` changes values and keys of shipped files. Here bytes are changed, and files are
built to exhaust the memory, the stack or the patience of a reader of YAML.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from tskd_tune import documents
from tskd_tune.cli import app
from tskd_tune.errors import InputError
from tskd_tune.shipped import spaces
from tskd_tune.sweeps.estimating import estimate
from tskd_tune.sweeps.estimating.estimate import Estimate

SLOWEST = 30.0  # of this process alone: the machine may be busy with others
SMALL = """\
# Does a review help?
experiment:
  task: {name: synthetic, batch_size: 8, size: 8, train: 16, validation: 8, test: 8}
  teacher: {name: resnet8, training: {epochs: 1}}
  student: resnet8
  review:
    choice:
      none: null
      tskd: {k: 2, delta: 1, lambda: {auto: 0.1}}
  training: {epochs: 8, lr: 0.05, device: cpu}
seeds: [1, 2]
search: {name: grid}
"""
SNIPPETS = [
    *(
        b"\t",
        b"\x00",
        b"\xff\xfe",
        b"\xef\xbb\xbf",
        b"\xc3",
        b"\r",
        b"\x0c",
        b"\x1b[2J",
        b"\xe2\x80\xa8",
        b"\xf0\x9f\x98\x80",
    ),
    *(b"---\n", b"...\n", b"%YAML 9.9\n", b"&a ", b"*a", b"<<: *a\n", b"!!python/object/apply:os.system ['true'] "),
    *(
        b"!!binary aGk= ",
        b"!!set {a} ",
        b"!!timestamp 2026-01-01 ",
        b"!x ",
        b"? ",
        b"| \n",
        b">-\n",
        b"'",
        b'"',
        b"#",
        b"%",
        b"@",
        b"`",
    ),
    *(
        b"2026-11-27",
        b"2026-11-27T10:00:00Z",
        b"1:30",
        b".nan",
        b"-.inf",
        b"1e999",
        b"0x" + b"f" * 40,
        b"9" * 400,
        b"1_000",
        b"0o9",
    ),
    *(
        b"{",
        b"}",
        b"[",
        b"]",
        b": ",
        b"- ",
        b", ",
        b"\n",
        b"  ",
        b"yes",
        b"null",
        b"~",
        b"experiment: {}\n",
        b"seeds: [3]\n",
    ),
]


@pytest.fixture(autouse=True)
def _untimed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out the timing of steps, which takes seconds and has tests of its own."""
    zeros = dict.fromkeys(("hours", "teacher_hours", "teachers", "disk_bytes"), 0)
    cost = Estimate(runs=1, epochs=1, concurrent=1, timed=[], taken_from={}, how="", **zeros)
    monkeypatch.setattr(estimate, "of_sweep", lambda sweep: cost)
    monkeypatch.setattr(estimate, "of_experiment", lambda experiment: cost)


def checked(file: Path) -> str:
    """Check a file; return what the command said about a file that it refused, and "" for a file in order."""
    began = time.process_time()
    done = CliRunner().invoke(app, ["check", str(file)])
    taken = time.process_time() - began
    unexpected = done.exception if not isinstance(done.exception, SystemExit | None) else None
    assert unexpected is None and "Traceback" not in done.output, (done.output, repr(unexpected))
    assert done.exit_code in (0, 2), done.output
    assert taken < SLOWEST, taken
    assert done.exit_code == 0 or done.stderr.startswith("error: "), done.output
    return done.stderr if done.exit_code else ""


def changed(content: bytes, chance: random.Random) -> bytes:
    """Return a file with one to four places where bytes were added, removed, flipped, doubled or moved."""
    for _ in range(chance.choice([1, 1, 2, 4])):
        at = chance.randrange(len(content) + 1)
        end = min(len(content), at + chance.choice([0, 1, 1, 5, 40, 400]))
        piece = content[at:end]
        kind = chance.choice(["add", "add", "add", "cut", "flip", "double", "move", "end"])
        if kind == "add":
            piece = chance.choice(SNIPPETS)
        elif kind == "cut":
            piece = b""
        elif kind == "flip":
            piece = bytes(byte ^ (1 << chance.randrange(8)) for byte in piece)
        elif kind == "double":
            piece *= 2
        elif kind == "move":
            other = chance.randrange(len(content) + 1)
            piece += content[other : other + 60]
        content = content[:at] if kind == "end" else content[:at] + piece + content[end:]
    return content


def cases(number: int, contents: list[bytes]) -> Iterator[bytes]:
    for seed in range(number):
        chance = random.Random(seed)
        yield changed(chance.choice(contents), chance)


def test_the_small_file_is_in_order(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(SMALL)
    assert checked(tmp_path / "a.yaml") == ""


def test_a_hundred_files_with_changed_bytes(tmp_path: Path) -> None:
    refused = 0
    for content in cases(100, [SMALL.encode()]):
        (tmp_path / "a.yaml").write_bytes(content)
        refused += checked(tmp_path / "a.yaml") != ""
    assert refused > 30


@pytest.mark.long
def test_hundreds_of_files_with_changed_bytes(tmp_path: Path) -> None:
    refused = 0
    for content in cases(400, [SMALL.encode()]):
        (tmp_path / "a.yaml").write_bytes(content)
        refused += checked(tmp_path / "a.yaml") != ""
    assert refused > 100


@pytest.mark.long
def test_hundreds_of_shipped_files_with_changed_bytes_are_read_or_refused(tmp_path: Path) -> None:
    """Only reading: a table of the paper has a hundred arms, and to check all of them takes seconds."""
    contents = [file.read_bytes() for file in (*spaces().values(), *documents.PACKAGED.rglob("*.yaml"))]
    refused = 0
    for content in cases(400, contents):
        (tmp_path / "a.yaml").write_bytes(content)
        try:
            documents.load(tmp_path / "a.yaml")
        except InputError as error:
            assert str(error).strip() and all(len(line) < 2000 for line in str(error).splitlines())
            refused += 1
    assert refused > 70


def laughs() -> bytes:
    lines = ["a0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol]"]
    lines += [f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 9)}]" for level in range(1, 12)]
    return "\n".join(lines).encode()


def merges() -> bytes:
    lines = ["a0: &a0 {x: 1}"]
    lines += [
        f"a{level}: &a{level} {{<<: [{', '.join([f'*a{level - 1}'] * 9)}], y{level}: 1}}" for level in range(1, 12)
    ]
    return "\n".join(lines).encode()


def block(depth: int) -> bytes:
    return "\n".join(f"{' ' * level}a:" for level in range(depth)).encode()


RATES = ("lr", "weight_decay", "momentum")
BOMBS: dict[str, Callable[[], bytes]] = {
    "a billion laughs": laughs,
    "a billion merges": merges,
    "nested lists": lambda: b"[" * 200_000,
    "nested mappings": lambda: b"{a: " * 50_000,
    "nested blocks": lambda: block(1500),
    "nested items": lambda: b"- " * 50_000,
    "a list of itself": lambda: b"experiment: &a [*a]\n",
    "a mapping of itself": lambda: b"experiment: &a {x: *a}\n",
    "a merge of itself": lambda: b"experiment: &a {<<: *a}\n",
    "an unknown alias": lambda: b"experiment: *a\n",
    "a repeated anchor": lambda: b"experiment: [&a 1, &a 2, *a]\n",
    "repeated keys": lambda: b"seeds: [1]\n" * 1000,
    "many keys": lambda: b"".join(b"k%d: 1\n" % number for number in range(5_000)),
    "many seeds": lambda: SMALL.replace("[1, 2]", str([*range(5_000)])).encode(),
    "a billion points": lambda: SMALL.replace(
        "lr: 0.05", ", ".join(f"{key}: {{grid: {[n / 1e6 for n in range(1, 1001)]}}}" for key in RATES)
    ).encode(),
    "a long key": lambda: b"x" * 1_000_000 + b": 1\n",
    "a long text": lambda: b"experiment: " + b"x" * 1_000_000,
    "a long number": lambda: b"experiment: " + b"9" * 100_000,
    "a large number": lambda: SMALL.replace("epochs: 8", f"epochs: {10**30}").encode(),
    "no number": lambda: SMALL.replace("0.05", ".nan").encode(),
    "a date": lambda: SMALL.replace("epochs: 8", "epochs: 2026-11-27").encode(),
    "a date as a key": lambda: SMALL.replace("seeds", "2026-11-27").encode(),
    "tabs": lambda: SMALL.replace("  ", "\t").encode(),
    "UTF-16": lambda: SMALL.encode("utf-16"),
    "a mark of order": lambda: b"\xef\xbb\xbf" + SMALL.encode(),
    "two documents": lambda: SMALL.encode() + b"---\n" + SMALL.encode(),
    "a list": lambda: yaml.safe_dump([1, 2]).encode(),
    "nothing": bytes,
    "spaces": lambda: b" " * 2_000_000,
    "comments": lambda: b"#\n" * 500_000,
    "17 MiB": lambda: bytes(17 * 2**20),
    "a tag that runs code": lambda: b"experiment: !!python/object/apply:os.system ['touch marker']\n",
    "a tag that imports": lambda: b"experiment: !!python/name:os.system\n",
}
# Files that are in order, whatever they look like.
HARMLESS = ("a mark of order", "many seeds")


@pytest.mark.parametrize("name", BOMBS)
def test_a_file_that_is_built_to_harm(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.yaml").write_bytes(BOMBS[name]())
    said = checked(tmp_path / "a.yaml")
    assert (said == "") == (name in HARMLESS), said
    assert all(len(line) < 2000 for line in said.splitlines())
    assert [path.name for path in tmp_path.iterdir()] == ["a.yaml"]


def test_a_device_without_an_end_is_refused() -> None:
    assert "larger than 16 MiB" in checked(Path("/dev/zero"))
