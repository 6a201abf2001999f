"""Whatever a file of a run holds, no command runs code from the file, prints a traceback or loses a finished row.

A run may come from somebody else, or from a disk that lost bytes. Each file of a search and of a grid is replaced by an
exploit, by garbage, by a part of itself, by a link out of the run; then the commands that read a run are called.
"""

from __future__ import annotations

import json
import os
import pickle
import random
import re
import shutil
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from sweeps.stand_in import installed
from typer.testing import CliRunner

from tskd_tune.cli import app
from tskd_tune.errors import InputError
from tskd_tune.records.runs.run_folder import RunFolder
from tskd_tune.records.storing.files import refuse_links

TINY = {
    "task": {"name": "synthetic", "batch_size": 8, "size": 8, "train": 16, "validation": 8, "test": 8},
    "teacher": {"name": "resnet8", "training": {"epochs": 1, "lr": 0.01}},
    "student": {"name": "resnet8"},
    "training": {"epochs": 2, "lr": 0.05, "device": "cpu"},
    "review": None,
}
SEARCH = {
    "experiment": {**TINY, "training": {**TINY["training"], "lr": {"loguniform": [0.01, 0.1]}}},
    "seeds": [1],
    "search": {"name": "optuna", "trials": 3, "startup_trials": 2, "metric": "val_loss", "mode": "min"},
}
GRID = {
    "experiment": {**TINY, "distiller": {"name": {"grid": ["none", "kd"]}}},
    "seeds": [1, 2],
    "search": {"name": "grid"},
}
READING = (["status", "{run}"], ["runs", "--storage", "{storage}"], ["report", "{run}", "--json"], ["sync", "{run}"])
ON = {
    "grid": ["extend", "{run}", "--seeds", "7", "--no-wandb"],
    "search": [
        "confirm",
        "{run}",
        "--seeds",
        "7",
        "--top",
        "1",
        "--name",
        "sure",
        "--storage",
        "{storage}",
        "--no-wandb",
    ],
}
CHANGING = (["resume", "{run}", "--no-wandb"], ["export", "{run}", "{arm}", "{out}"])
# Files that hold code, or once held code, and files that a resume writes.
MOST_TEMPTING = (
    *("trials/tuner.pkl", "trials/searcher-state-2026.pkl", "trials/00000/error.pkl", "study.journal", "rows.jsonl"),
    *("sweep.yaml", "trainings/UNFINISHED/checkpoint.pt", "trainings/UNFINISHED/checkpoint-older.pt"),
)


class Exploit:
    """Runs a command where it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.marker}",)


def exploit(path: Path, content: bytes, marker: Path) -> None:
    bad = Exploit(marker)
    if path.suffix in (".pt", ".pth"):
        torch.save({"trainer": bad, "model": bad, "state_dict": bad}, path)
    elif path.suffix in (".yaml", ".json", ".jsonl", ".journal"):
        path.write_text(f'!!python/object/apply:os.system ["touch {marker}"]\n')
    else:
        path.write_bytes(pickle.dumps(bad))


def pickled(path: Path, content: bytes, marker: Path) -> None:
    path.write_bytes(pickle.dumps(Exploit(marker)))


def garbage(path: Path, content: bytes, marker: Path) -> None:
    path.write_bytes(random.Random(0).randbytes(2000))


def cut(path: Path, content: bytes, marker: Path) -> None:
    path.write_bytes(content[: len(content) // 2])


def flipped(path: Path, content: bytes, marker: Path) -> None:
    if content:
        at = len(content) // 3
        path.write_bytes(content[:at] + bytes([content[at] ^ 0x55]) + content[at + 1 :])


def empty(path: Path, content: bytes, marker: Path) -> None:
    path.write_bytes(b"")


def nested(path: Path, content: bytes, marker: Path) -> None:
    path.write_text("[" * 100_000 + "\n")


def folder(path: Path, content: bytes, marker: Path) -> None:
    path.unlink()
    path.mkdir()


def link(path: Path, content: bytes, marker: Path) -> None:
    outside = marker.with_name(f"outside{path.suffix}")
    outside.write_bytes(content)
    path.unlink()
    path.symlink_to(outside)


SLOWEST = 20.0  # of this process alone: the machine may be busy with others
ATTACKS: list[Callable[[Path, bytes, Path], None]] = [
    *(exploit, pickled, garbage, cut, flipped, empty, nested, folder, link),
]


def planted(run: Path) -> None:
    """Write what Ray Tune writes into a run's folder, and what W&B does."""
    for name in (
        "tuner.pkl",
        "trainable.pkl",
        "searcher-state-2026.pkl",
        "search_gen_state-2026.json",
        "experiment_state-2026.json",
    ):
        (run / "trials" / name).write_bytes(b"of Tune")
    for name in ("error.pkl", "params.pkl", "params.json", "result.json"):
        (run / "trials" / "00000" / name).write_bytes(b"of Tune")
    wandb = run / "wandb" / "offline-run-20260101_000000-abc"
    (wandb / "files").mkdir(parents=True)
    (wandb / "run-abc.wandb").write_bytes(b":W&B")
    (wandb / "files" / "config.yaml").write_text("a: 1\n")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Path]]:
    """A grid and a search, of which one training each is not finished, with a checkpoint and a whole older one."""
    with pytest.MonkeyPatch.context() as patch:
        root = tmp_path_factory.mktemp("crafted")
        patch.setenv("TSKD_TUNE_CACHE", str(root / "cache"))
        installed(patch)
        patch.setattr("tskd_tune.sweeps.recorder.forget_checkpoints", lambda folder, row: None)  # they are attacked too
        found = {}
        for name, document in {"grid": GRID, "search": SEARCH}.items():
            (root / f"{name}.yaml").write_text(yaml.safe_dump(document))
            done = call(
                ["sweep", str(root / f"{name}.yaml"), "--name", name, "--storage", str(root / "runs"), "--no-wandb"]
            )
            assert done == (0, ""), done
            found[name] = run = root / "runs" / name
            planted(run)
            lines = (run / "rows.jsonl").read_text().splitlines(keepends=True)
            (run / "rows.jsonl").write_text("".join(lines[:-1]))
            for path in run.glob("trainings/*/checkpoint.pt"):
                shutil.copy(path, path.with_name("checkpoint-older.pt"))
        yield found


def call(words: list[str]) -> tuple[int, str]:
    """Call a command; return its exit code, and what no command may raise."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        done = CliRunner().invoke(app, words)
    bad = "" if done.exception is None or isinstance(done.exception, SystemExit) else repr(done.exception)
    return done.exit_code, bad or ("Traceback" if "Traceback" in done.output else "")


def files(run: Path) -> list[str]:
    """Return the files of a run; of trainings and trials, those of one that is finished and one that is not."""
    found = sorted(str(path.relative_to(run)) for path in run.rglob("*") if path.is_file())
    lines = [json.loads(line) for line in (run / "rows.jsonl").read_text().splitlines()]
    done = {f"{row['identity']}-seed{row['seed']}" for row in lines}
    kept = [min(done), *(path.name for path in run.glob("trainings/*") if path.name not in done)]
    numbers = [path.parent.name for path in run.glob("trials/*/trial.json")]
    kept += [min(numbers), max(numbers)]
    return [name for name in found if name.count("/") < 2 or name.startswith("wandb") or name.split("/")[1] in kept]


def attacked(whole: Path, name: str, attack: Callable[[Path, bytes, Path], None], folder: Path) -> list[str]:
    """Attack a file of a copy of a run, call every command, and return in sentences what must not be."""
    storage, marker, out = folder / "runs", folder / "marker", folder / "out.pth"
    shutil.rmtree(folder, ignore_errors=True)
    run = Path(shutil.copytree(whole, storage / whole.name))
    before = (whole / "rows.jsonl").read_text().splitlines()
    content = (run / name).read_bytes()
    attack(run / name, content, marker)
    wrong = []
    for words in (*READING, *CHANGING, ON[whole.name]):
        given = {"run": run, "storage": storage, "out": out, "arm": json.loads(before[0])["arm"]}
        began = time.process_time()
        code, bad = call([word.format(**given) for word in words])
        wrong += [f"{words[0]}: {bad}"] if bad or code not in (0, 1, 2) else []
        wrong += (
            [f"{words[0]}: took {time.process_time() - began:.0f} s of a processor"]
            if time.process_time() - began > SLOWEST
            else []
        )
        wrong += [f"{words[0]} ran code"] if marker.exists() else []
    outside = list(folder.glob("outside*"))
    wrong += ["a file outside the run was changed"] if any(path.read_bytes() != content for path in outside) else []
    if name != "rows.jsonl" and (run / "rows.jsonl").read_text().splitlines()[: len(before)] != before:
        wrong.append("a finished row was lost")
    return [f"{name}, {attack.__name__}: {sentence}" for sentence in wrong]


@pytest.fixture
def with_runs(runs: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> dict[str, Path]:
    monkeypatch.setenv("TSKD_TUNE_CACHE", str(runs["grid"].parents[1] / "cache"))
    installed(monkeypatch)
    return runs


def test_the_exploit_would_work(tmp_path: Path) -> None:
    pickled(tmp_path / "file.pkl", b"", tmp_path / "marker")
    pickle.loads((tmp_path / "file.pkl").read_bytes())
    assert (tmp_path / "marker").exists()


@pytest.mark.usefixtures("no_wandb_account")
@pytest.mark.parametrize("name", MOST_TEMPTING)
def test_an_exploit_runs_nothing(with_runs: dict[str, Path], name: str, tmp_path: Path) -> None:
    whole = with_runs["search"]
    found = [path for path in files(whole) if path.endswith(name.rpartition("UNFINISHED")[2])]
    assert found
    assert attacked(whole, found[-1], exploit, tmp_path / "attacked") == []


@pytest.mark.usefixtures("no_wandb_account")
def test_a_resume_writes_through_no_link_that_leads_out_of_the_run(with_runs: dict[str, Path], tmp_path: Path) -> None:
    assert attacked(with_runs["grid"], "rows.jsonl", link, tmp_path / "attacked") == []
    run = tmp_path / "attacked" / "runs" / "grid"
    with pytest.raises(InputError, match=r"rows\.jsonl: is a link to .*replace the link by what it leads to"):
        refuse_links(run)


@pytest.mark.parametrize("name", ["../../elsewhere", "..", "/etc/elsewhere"])
def test_a_record_that_names_files_outside_the_run_is_left_out(
    with_runs: dict[str, Path], name: str, tmp_path: Path
) -> None:
    run = Path(shutil.copytree(with_runs["grid"], tmp_path / "runs" / "grid"))
    row = json.loads((run / "rows.jsonl").read_text().splitlines()[0]) | {"identity": name}
    (run / "rows.jsonl").write_text(json.dumps(row) + "\n")
    trial = run / "trials" / "00001" / "trial.json"
    trial.write_text(json.dumps(json.loads(trial.read_text()) | {"identity": name}))
    folder = RunFolder.open(run)
    with pytest.warns(UserWarning, match="must not lead to another folder"):
        assert folder.rows() == []
    assert any("trial.json" in sentence and "another folder" in sentence for sentence in folder.damage())


@pytest.mark.usefixtures("no_wandb_account")
@pytest.mark.parametrize("kind", ["grid", "search"])
@pytest.mark.parametrize("older", [False, True])
def test_commands_that_read_import_no_module_that_a_run_names(
    with_runs: dict[str, Path], kind: str, older: bool, tmp_path: Path
) -> None:
    run, marker = Path(shutil.copytree(with_runs[kind], tmp_path / "runs" / kind)), tmp_path / "marker"
    (run / "evil.py").write_text(f"import os\nos.system('touch {marker}')\n")
    (run / "sweep.yaml").write_text(
        re.sub(r"\bname: none\b|\bname: resnet8\b", f"name: {run}/evil:Evil", (run / "sweep.yaml").read_text())
    )
    for path in (run / "rows.jsonl", *run.glob("trials/*/trial.json"), run / "design.json"):
        path.write_text(re.sub('"(none|resnet8)"', json.dumps(f"{run}/evil:Evil"), path.read_text()))
    assert "evil:Evil" in (run / "sweep.yaml").read_text() + (run / "rows.jsonl").read_text()
    if older:  # then the status reads the whole document
        (run / "design.json").unlink()
    for words in READING:
        assert call([word.format(run=run, storage=run.parent) for word in words])[1] == ""
        assert not marker.exists(), words
    for form in ("md", "latex", "csv"):
        assert call(["report", str(run), "--format", form])[1] == "" and not marker.exists()


@pytest.mark.slow
@pytest.mark.usefixtures("no_wandb_account")
@pytest.mark.parametrize("kind", ["grid", pytest.param("search", marks=pytest.mark.long)])
@pytest.mark.parametrize("attack", ATTACKS)
def test_no_file_of_a_run_stops_a_command_with_a_traceback_or_runs_code(
    with_runs: dict[str, Path], kind: str, attack: Callable[[Path, bytes, Path], None], tmp_path: Path
) -> None:
    whole = with_runs[kind]
    named = files(whole)[ATTACKS.index(attack) % 3 :: 3]  # each file is attacked in three of the nine ways
    assert [wrong for name in named for wrong in attacked(whole, name, attack, tmp_path / "attacked")] == []
