"""`tskd-tune cluster init` and `check` from the command line, without AWS."""

from __future__ import annotations

import json
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from tskd_tune.cli import app
from tskd_tune.clusters import answers

EXISTING = ["--image", "ami-1", "--security-group", "sg-1", "--head-profile", "h", "--worker-profile", "w"]
AWS = ["--region", "us-west-2", "--ssh-from", "203.0.113.7", "--storage", "s3://a-bucket/runs", *EXISTING]
LOCAL = ["--provider", "local", "--head", "10.0.0.1", "--worker", "10.0.0.2", "--ssh-user", "lab", "--ssh-key", "key"]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "key").touch()

    def invoke(*words: str, code: int = 0, keys: str | None = None) -> Result:
        ended = CliRunner().invoke(app, list(words), input=keys)
        assert ended.exit_code == code, ended.output
        assert "Traceback" not in ended.output
        return ended

    return invoke


def test_a_file_is_made_and_found_in_order(run: Callable[..., Result], tmp_path: Path) -> None:
    told = run("cluster", "init", *AWS).output
    assert "ray up cluster.yaml" in told and "tskd-tune report s3://a-bucket/runs/first" in told
    token = tmp_path / "home" / ".ray" / "auth_token"
    assert stat.S_IMODE(token.stat().st_mode) == 0o600
    assert token.read_text() not in (tmp_path / "cluster.yaml").read_text() + told
    assert "without mistakes" in run("check", "cluster.yaml").output
    assert json.loads(run("check", "cluster.yaml", "--json").output) == {"ok": True, "problems": [], "kind": "cluster"}


def test_a_second_file_keeps_the_token_and_nothing_is_replaced_silently(
    run: Callable[..., Result], tmp_path: Path
) -> None:
    run("cluster", "init", *AWS)
    token = (tmp_path / "home" / ".ray" / "auth_token").read_text()
    assert "--overwrite to replace it" in run("cluster", "init", *AWS, code=2).output
    run("cluster", "init", *AWS, "--overwrite", "--workers", "3")
    run("cluster", "init", "other.yaml", *LOCAL, "--storage", "/mnt/x/runs")
    assert "max_workers: 3" in (tmp_path / "cluster.yaml").read_text()
    assert (tmp_path / "home" / ".ray" / "auth_token").read_text() == token
    assert "without mistakes" in run("check", "other.yaml").output


def test_without_a_terminal_all_missing_options_are_named(run: Callable[..., Result], tmp_path: Path) -> None:
    told = run("cluster", "init", code=2).output
    assert [line.split(" is missing")[0] for line in told.splitlines()] == [
        f"error: --{option}" for option in ("region", "ssh-from", "storage")
    ]
    told = run("cluster", "init", "--provider", "local", code=2).output
    assert told.count("is missing") == 5
    assert not (tmp_path / "cluster.yaml").exists() and not (tmp_path / "home").exists()


def test_some_existing_things_without_the_others_are_refused(run: Callable[..., Result]) -> None:
    told = run("cluster", "init", *AWS[:-2], code=2).output
    assert "--worker-profile: give all of" in told


def test_a_terminal_is_asked(run: Callable[..., Result], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("tskd_tune.cli.preparing.clustering._answered", lambda: True)
    monkeypatch.setattr("tskd_tune.cli.preparing.clustering.public_address", lambda: "198.51.100.4")
    told = run("cluster", "init", *EXISTING, keys="us-west-2\n\n/mnt/x/runs\nserver:/\n").output
    assert "[198.51.100.4]" in told
    text = (tmp_path / "cluster.yaml").read_text()
    assert "nfsvers=4.1,hard,timeo=600 server:/ /mnt/x" in text and "region: us-west-2" in text


def test_a_mistake_ends_check_with_2(run: Callable[..., Result], tmp_path: Path) -> None:
    run("cluster", "init", *AWS)
    file = tmp_path / "cluster.yaml"
    file.write_text(file.read_text().replace("127.0.0.1", "0.0.0.0"))
    assert (
        "error: cluster.yaml: head_start_ray_commands: --dashboard-host=0.0.0.0"
        in run("check", "cluster.yaml", code=2).output
    )
    told = run("check", "cluster.yaml", "--json", code=2)
    assert json.loads(told.stdout)["ok"] is False
    assert "keys are set in the file" in run("check", "cluster.yaml", "--set", "a=1", code=2).output


def test_a_script_for_slurm_is_written(run: Callable[..., Result], tmp_path: Path) -> None:
    told = run("cluster", "init", "--provider", "slurm", "--json").output
    assert json.loads(told)["next"] == ["sbatch cluster.slurm.sh"]
    assert (tmp_path / "cluster.slurm.sh").read_text().startswith("#!/usr/bin/env bash\n")


def test_a_token_that_others_can_read_is_refused(run: Callable[..., Result], tmp_path: Path) -> None:
    token = tmp_path / "home" / ".ray" / "auth_token"
    token.parent.mkdir(parents=True)
    token.write_text("x")
    token.chmod(0o644)
    assert "other users" in run("cluster", "init", *AWS, code=2).output
    assert not (tmp_path / "cluster.yaml").exists()


def test_a_public_address_is_offered_only_where_this_machine_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    class Address:
        def __init__(self, address: str) -> None:
            self.address = address

    cards = {"lo": [Address("127.0.0.1"), Address("00:00:5e:00:53:01")], "eth0": [Address("10.0.0.4")]}
    monkeypatch.setattr(answers.psutil, "net_if_addrs", lambda: cards)
    assert answers.public_address() is None
    cards["eth1"] = [Address("8.8.4.4")]
    assert answers.public_address() == "8.8.4.4"
