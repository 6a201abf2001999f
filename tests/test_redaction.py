"""Secrets of the environment never reach a file, a table or the terminal, whichever package's error names them."""

from __future__ import annotations

import json
import os
import traceback
from pathlib import Path
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

import factories
from tskd_tune.cli import app
from tskd_tune.records.runs.run_folder import RunFolder
from tskd_tune.records.sessions.breakage import breakage, reason_of
from tskd_tune.records.wandb.tracking import WandbTracker
from tskd_tune.redaction import redacted
from tskd_tune.sweeps import recorder
from tskd_tune.sweeps.on_ray import ray_settings

KEY = "f00d" * 10
NAMES = ("WANDB_API_KEY", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "RAY_AUTH_TOKEN", "HF_TOKEN", "DB_PASSWORD")


@pytest.mark.parametrize("name", NAMES)
def test_a_secret_of_the_environment_is_replaced_by_its_name(name: str) -> None:
    assert redacted(f"403 for {KEY}!", {name: KEY}) == f"403 for [{name}]!"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("HOME", "/home/me-and-you"),
        ("RAY_AUTH_TOKEN_PATH", "/home/me/.ray/token"),
        ("SSH_KEY", "/home/me/.ssh/key"),
        ("MONKEY", "a-long-enough-word"),
        ("TOKEN", "short"),
        ("CACHE_KEY", "123456789"),
    ],
)
def test_other_variables_are_left_as_they_are(name: str, value: str) -> None:
    assert redacted(f"{value} is not there", {name: value}) == f"{value} is not there"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("GET https://me:hunter2@host/x", "GET https://[user and password]@host/x"),
        ("key AKIA" + "ABCDEFGHIJKLMNOP", "key [access key of AWS]"),
        ("?X-Amz-Signature=" + "0f" * 32, "?X-Amz-Signature=[signature of AWS]"),
        ("Authorization: Bearer " + "aB3." * 8, "Authorization: Bearer [authorization]"),
        ("s3://bucket/runs and https://host:8080/x", "s3://bucket/runs and https://host:8080/x"),
    ],
)
def test_what_has_the_form_of_a_secret_is_replaced(text: str, shown: str) -> None:
    assert redacted(text, {}) == shown


@pytest.fixture
def key(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    return KEY


def broken() -> Exception:
    """Return the error of a package that names the key, and an error below it that names the key too."""
    try:
        try:
            raise ConnectionError(f"GET /graphql, user api:{KEY}")
        except ConnectionError as error:
            raise RuntimeError(f"refused: {KEY}") from error
    except RuntimeError as error:
        return error


def test_a_training_that_breaks_writes_no_secret(key: str, tmp_path: Path) -> None:
    error = broken()
    assert key in "".join(traceback.format_exception(error))
    found = breakage(error)
    assert key not in found.reason + found.text + reason_of(error)
    assert found.text.count("[WANDB_API_KEY]") == 2 and "Traceback" in found.text
    folder = RunFolder.create(tmp_path, "run", "sweep", {"experiment": {}})
    row = factories.a_row(status="failed", reason=found.reason, broke=True)
    folder.add_row(folder.keep_error(row, found.text))
    texts = [path.read_text() for path in folder.path.rglob("*") if path.is_file()]
    assert sum("[WANDB_API_KEY]" in text for text in texts) == 2
    assert not any(key in text for text in texts)


def test_an_error_in_rays_words_is_written_without_secrets(key: str, tmp_path: Path) -> None:
    (tmp_path / "error.txt").write_text(f"Traceback\nConnectionError: {key}\n")
    death = recorder._death(SimpleNamespace(pickled_error_file=None, error_file=str(tmp_path / "error.txt")))  # type: ignore[arg-type]
    assert key not in death.reason + death.text and "[WANDB_API_KEY]" in death.reason


def test_wandb_is_named_without_its_key(key: str, tmp_path: Path) -> None:
    tracker = WandbTracker(tmp_path, sweep="s", run="00000", seed=1, arm="a")
    tracker._give_up(f"CommError: {key}")
    assert tracker.warning is not None and key not in tracker.warning and "[WANDB_API_KEY]" in tracker.warning


def test_the_terminal_shows_no_secret(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*words: object, **options: object) -> None:
        raise broken()

    monkeypatch.setattr("tskd_tune.cli.preparing.starting.init", fails)
    shown = CliRunner().invoke(app, ["init"])
    assert shown.exit_code == 1 and "this is a bug" in shown.output
    assert key not in shown.output and "refused: [WANDB_API_KEY]" in shown.output


def test_no_secret_goes_to_the_workers_by_rays_environment(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray writes a runtime environment into its logs, and shows it on the dashboard."""
    monkeypatch.setenv("TSKD_TUNE_DATA", "/data")
    for name in NAMES:
        monkeypatch.setenv(name, KEY)
    assert "/data" in json.dumps(ray_settings.for_cluster())
    assert KEY not in json.dumps(ray_settings.for_cluster())


def test_the_environment_of_this_process_is_used(key: str) -> None:
    assert redacted(os.environ["WANDB_API_KEY"]) == "[WANDB_API_KEY]"
