"""What ``submit`` sends to a cluster: the command, the YAML files and the user's modules."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import pytest
import ray.job_submission
from typer.testing import CliRunner

from tskd_tune.cli.commands import app
from tskd_tune.cli.training.submitting import job_of
from tskd_tune.errors import InputError
from tskd_tune.outside import JOB_VARIABLE, whole_name
from tskd_tune.sweeps.on_ray import ray_private

TASK = '''
from tskd_tune.tasks.base import Task
from tskd_tune.tasks.synthetic import synthetic


def data() -> Task:
    """Random images."""
    return synthetic()
'''
STORAGE = ["--storage", "/mnt/shared/runs"]


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    (tmp_path / "own" / "parts").mkdir(parents=True)
    (tmp_path / "own" / "mine.py").write_text(TASK)
    (tmp_path / "own" / "parts" / "other.py").write_text(TASK)
    (tmp_path / "base.yaml").write_text("student: resnet8\nreview: null\ntask: {name: 'own/mine:data'}\n")
    file = tmp_path / "own" / "sweep.yaml"
    tasks = "{choice: {a: {name: 'mine:data'}, b: {name: 'parts/other:data'}}}"
    file.write_text(f"experiment:\n  extends: ../base.yaml\n  task: {tasks}\nsearch: {{name: grid}}\n")
    return file


def test_a_sweep_is_sent_with_all_that_its_file_names(sweep: Path, tmp_path: Path) -> None:
    job = job_of(["sweep", str(sweep), *STORAGE, "--set", "seeds=[1]"])
    assert job.words == ["sweep", "own/sweep.yaml", *STORAGE, "--set", "seeds=[1]"]
    assert {name: path.relative_to(tmp_path).as_posix() for name, path in job.files.items()} == {
        "files/own/sweep.yaml": "own/sweep.yaml",
        "files/base.yaml": "base.yaml",
        "mine.py": "own/mine.py",
        "files/own/parts/other.py": "own/parts/other.py",
    }


def test_a_search_space_of_the_package_needs_no_file() -> None:
    job = job_of(["sweep", "digits", "--storage=s3://bucket/runs"])
    assert job.words[1] == "digits" and not job.files


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["report", "/mnt/runs/first"], "COMMAND: must be one of sweep, resume, extend, confirm"),
        (["sweep", "--storage", "/mnt"], "COMMAND: must be"),
        (["sweep", "digits"], "--storage: give the storage of the run, as a URL .* got none"),
        (["sweep", "digits", "--storage", "runs"], "--storage: .* got 'runs'"),
        (["resume", "first"], "--storage: .* got 'first'"),
        (["sweep", "nowhere.yaml", *STORAGE], "nowhere.yaml"),
    ],
)
def test_what_cannot_run_there_is_refused(words: list[str], told: str) -> None:
    with pytest.raises(InputError, match=told):
        job_of(words)


def test_a_run_is_resumed_with_the_modules_that_are_given(tmp_path: Path) -> None:
    (tmp_path / "mine.py").touch()
    job = job_of(["resume", "s3://bucket/runs/first"], [tmp_path / "mine.py"])
    assert job.words == ["resume", "s3://bucket/runs/first"] and [*job.files] == ["mine.py"]
    with pytest.raises(InputError, match="there is no such file"):
        job_of(["resume", "s3://bucket/runs/first"], [tmp_path / "none.py"])


@pytest.fixture(autouse=True)
def tokens(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The uses of this user's token, which would change the environment."""
    used: list[str] = []
    monkeypatch.setattr(ray_private, "use_token", lambda: used.append("used"))
    return used


def test_the_command_sends_a_job_and_says_how_to_watch_it(
    sweep: Path, tokens: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[Any] = []

    class Client:
        def __init__(self, address: str) -> None:
            assert tokens == ["used"], "before the client asks for it"
            sent.append(address)

        def submit_job(self, entrypoint: str, runtime_env: dict[str, Any]) -> str:
            folder = Path(runtime_env["working_dir"])
            sent.extend([entrypoint, sorted(path.name for path in folder.rglob("*.*")), folder])
            return "raysubmit_1"

    monkeypatch.setattr(ray.job_submission, "JobSubmissionClient", Client)
    words = ["submit", "http://127.0.0.1:8265", "sweep", str(sweep), *STORAGE, "--set", "seeds=[1, 2]", "--no-wandb"]
    found = CliRunner().invoke(app, words)
    assert found.exit_code == 0, found.output
    address, entrypoint, names, folder = sent
    assert address == "http://127.0.0.1:8265" and names == ["base.yaml", "mine.py", "other.py", "sweep.yaml"]
    assert shlex.split(entrypoint)[:5] == ["cd", "files", "&&", "exec", "tskd-tune"]
    assert shlex.split(entrypoint)[5:] == ["sweep", "own/sweep.yaml", *words[4:]]
    assert not folder.exists(), "nothing is left here"
    for line in ("ray job logs --follow --address http://127.0.0.1:8265 raysubmit_1", "ray job stop", "--with"):
        assert line in found.output
    found = CliRunner().invoke(app, ["submit", "127.0.0.1:8265", "sweep", "digits", *STORAGE])
    assert found.exit_code == 2 and "must be the address of a cluster's dashboard" in found.output


def test_in_a_job_a_module_of_the_job_keeps_its_name_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "of_a_job.py").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.syspath_prepend(str(tmp_path))
    assert whole_name("of_a_job:data") == f"{tmp_path}/of_a_job:data"
    monkeypatch.setenv(JOB_VARIABLE, "1")
    assert whole_name("of_a_job:data") == "of_a_job:data"


@pytest.mark.parametrize(("text", "told"), [("401 unauthorized", "token"), ("connection refused", "tunnel")])
def test_a_cluster_that_accepts_no_job_is_an_error_with_a_remedy(
    text: str, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(address: str) -> None:
        raise ConnectionError(text)

    monkeypatch.setattr(ray.job_submission, "JobSubmissionClient", refuse)
    found = CliRunner().invoke(app, ["submit", "http://127.0.0.1:1", "sweep", "digits", *STORAGE])
    assert found.exit_code == 1 and f"no cluster accepted the job ({text})" in found.output and told in found.output
