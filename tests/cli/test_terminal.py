"""What a command says when something ends it, and which paths it takes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

import tskd_tune
from tskd_tune.cli.commands import app
from tskd_tune.cli.terminal import PATH_OPTIONS, complain, in_words, warn


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (PermissionError(13, "Permission denied", "/x"), "/x: the operating system says: Permission denied"),
        (OSError(24, "Too many open files"), "Too many open files"),
        (MemoryError(), "not enough memory"),
        (ModuleNotFoundError("No module named 'ray.tune'", name="ray.tune"), "cannot be imported (ray.tune)"),
        (RecursionError("maximum recursion depth exceeded"), "nested too deeply"),
        (UnicodeEncodeError("utf-8", "\ud83d", 0, 1, "surrogates not allowed"), "contains an invalid character"),
    ],
)
def test_what_a_machine_can_cause_is_no_bug(error: Exception, told: str, capsys: pytest.CaptureFixture[str]) -> None:
    def fail() -> None:
        raise error

    with pytest.raises(typer.Exit) as ended:
        in_words(fail)()
    said = capsys.readouterr().err
    assert ended.value.exit_code == 1 and told in said and len(said.splitlines()) == 1


def test_a_message_does_not_act_on_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    """A message may show a name that a stranger's file holds."""
    complain("x.pth: \x1b[2J\x1b]0;title\x07 is no part\nof \u202eit, \t too")
    warn(["a class \x1b[31m is\nempty"])
    said = capsys.readouterr()
    assert said.err.splitlines() == [
        "error: x.pth: \\x1b[2J\\x1b]0;title\\x07 is no part",
        "error: of \\u202eit, \\t too",
    ]
    assert said.out.splitlines() == ["warning: a class \\x1b[31m is", "empty"]


def test_what_nothing_else_can_cause_is_a_bug(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit):
        in_words(lambda: {}["none"])()  # type: ignore[misc]
    assert "this is a bug in tskd-tune" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["runs", "--storage", "s3://bucket/../x"], "--storage: s3://bucket/../x: is no address of a folder"),
        (["sweep", "sweep.yaml", "--storage", "nope://b/x"], "sweep.yaml"),
        (["runs", "--storage", "nope://b/x"], "nope://b/x: storage of this kind is not known"),
        (["report", "nope://bucket/run"], "nope://bucket/run: storage of this kind is not known"),
        (["check", "https://host/sweep.yaml"], "FILE: https://host/sweep.yaml is an address"),
        (["check", "s3://bucket/sweep.yaml"], "FILE: s3://bucket/sweep.yaml is an address"),
        (["study", "target", "--output", "s3://bucket/study"], "--output: s3://bucket/study is an address"),
    ],
)
def test_an_address_is_refused_where_it_cannot_be_used(
    arguments: list[str], told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 2 and told in done.stderr and list(tmp_path.iterdir()) == []


def test_every_option_that_is_a_path_is_named_as_an_option() -> None:
    paths = {
        parameter.name
        for command in typer.main.get_group(app).commands.values()
        for parameter in command.params
        if parameter.param_type_name == "option" and parameter.metavar in ("DIR", "FILE", "FOLDER")
    }
    assert paths == PATH_OPTIONS


def test_a_local_address_is_the_path(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["runs", "--storage", f"file://{tmp_path}"])
    assert done.exit_code == 0 and "file:" not in done.stdout


@pytest.mark.parametrize("command", [["runs"], ["status", "first"], ["sweep", "digits"], ["train", "x.yaml"]])
def test_an_empty_storage_is_not_the_current_folder(command: list[str]) -> None:
    done = CliRunner().invoke(app, [*command, "--storage", ""])
    assert done.exit_code == 2 and "the path is empty" in done.output


def test_a_current_folder_that_is_gone_is_said(tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    script = f"import os; os.rmdir({str(gone)!r}); from tskd_tune.cli.app import main; main()"
    path = str(Path(tskd_tune.__file__).parents[1])
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=gone, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True
    )
    assert done.returncode == 2 and done.stderr.startswith("error: the current folder is gone"), done.stderr
