"""The templates of clusters, filled in: valid for Ray, closed to the world, and of one version."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config

import tskd_tune
from tskd_tune.clusters.answers import AwsAnswers, LocalAnswers, address_mistake
from tskd_tune.clusters.rules import ClusterFile, mistakes
from tskd_tune.clusters.templates import AWS, LOCAL, PLACEHOLDER, filled, placeholders, template
from tskd_tune.clusters.versions import EXCLUDE_NEWER, versions
from tskd_tune.errors import InputError

ROOT = Path(__file__).parents[2]
IDS = {
    "IMAGE": "ami-00000000000000001",
    "SECURITY-GROUP": "sg-00000000000000001",
    "HEAD-PROFILE": "a-head",
    "WORKER-PROFILE": "a-worker",
}
ANSWERS = AwsAnswers("mine", "us-west-2", "203.0.113.7", "s3://a-bucket/runs")
SHARED = AwsAnswers("mine", "us-west-2", "203.0.113.7", "/mnt/x/runs", "fs-1.efs.us-west-2.amazonaws.com:/", spot=False)
TOKEN = "/home/ubuntu/.ray/auth_token"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user whose token is in order, in a home of the test's own."""
    monkeypatch.setenv("HOME", str(tmp_path))
    token = tmp_path / ".ray" / "auth_token"
    token.parent.mkdir()
    token.write_text("a" * 64)
    token.chmod(0o600)
    (tmp_path / "key").touch()
    return tmp_path


def on_aws(answers: AwsAnswers = ANSWERS) -> str:
    return filled(template(AWS), {**answers.values(), **IDS}, answers.flags)


def on_own_machines(home: Path) -> str:
    answers = LocalAnswers("lab", "10.0.0.1", ("10.0.0.2", "10.0.0.3"), "lab", home / "key", "/mnt/shared/runs")
    return filled(template(LOCAL), answers.values(), answers.flags)


def found(text: str) -> list[str]:
    return mistakes(ClusterFile(text, yaml.safe_load(text)))


def prepared(text: str) -> dict[str, Any]:
    """Return the file as `ray up` reads it, with Ray's defaults filled in."""
    config: dict[str, Any] = prepare_config(yaml.safe_load(text))
    return config


@pytest.mark.parametrize("answers", [ANSWERS, SHARED], ids=["s3", "shared folder"])
def test_ray_and_we_accept_the_filled_file(answers: AwsAnswers) -> None:
    text = on_aws(answers)
    validate_config(prepared(text))
    assert found(text) == []
    assert placeholders(text) == [] and "# only:" not in text and "# init:" not in text


def test_ray_and_we_accept_the_file_of_own_machines(home: Path) -> None:
    text = on_own_machines(home)
    config = prepared(text)
    validate_config(config)
    assert found(text) == [] and placeholders(text) == []
    assert config["provider"]["worker_ips"] == ["10.0.0.2", "10.0.0.3"]
    assert (config["max_workers"], config["available_node_types"]["local.cluster.node"]["min_workers"]) == (2, 2)


def test_the_templates_are_valid_for_ray_and_refused_by_us_for_their_placeholders() -> None:
    for name in (AWS, LOCAL):
        validate_config(prepared(template(name)))
        [left, *others] = found(template(name))
        assert "YOUR-CLUSTER-NAME" in left and "tskd-tune cluster init" in left
        assert others == []


def test_the_head_is_on_demand_and_runs_no_trial_and_the_workers_are_spot() -> None:
    kinds = prepared(on_aws())["available_node_types"]
    assert kinds["head"]["resources"] == {"CPU": 0, "GPU": 0}
    assert "InstanceMarketOptions" not in kinds["head"]["node_config"]
    assert kinds["gpu_spot"]["node_config"]["InstanceMarketOptions"] == {"MarketType": "spot"}
    assert "InstanceMarketOptions" not in kinds["gpu_on_demand"]["node_config"]
    assert [kinds[kind]["min_workers"] for kind in ("gpu_spot", "gpu_on_demand")] == [0, 0]
    assert [kinds[kind]["max_workers"] for kind in ("gpu_spot", "gpu_on_demand")] == [8, 0]
    shared = prepared(on_aws(SHARED))["available_node_types"]
    assert [shared[kind]["max_workers"] for kind in ("gpu_spot", "gpu_on_demand")] == [0, 8]
    assert 0 < prepared(on_aws())["idle_timeout_minutes"] <= 15
    assert prepared(on_aws())["provider"]["cache_stopped_nodes"] is False


def test_disks_are_encrypted_and_metadata_asks_for_a_token() -> None:
    for kind in prepared(on_aws())["available_node_types"].values():
        assert kind["node_config"]["BlockDeviceMappings"][0]["Ebs"]["Encrypted"] is True
        assert kind["node_config"]["MetadataOptions"] == {"HttpTokens": "required"}


def test_every_machine_installs_the_versions_of_this_machine(home: Path) -> None:
    for text in (on_aws(), on_aws(SHARED), on_own_machines(home)):
        [install] = [line for line in prepared(text)["setup_commands"] if "uv pip install" in line]
        assert f"ray[default,tune]=={versions()['RAY-VERSION']}" in install
        assert f"--exclude-newer {EXCLUDE_NEWER}" in install
        assert ("tskd-tune[s3] @ file://" in install) == ("s3://" in text)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert project["tool"]["uv"]["exclude-newer"] == EXCLUDE_NEWER


def test_an_installed_wheel_is_installed_by_its_version(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("answers", "versions"):
        monkeypatch.setattr(f"tskd_tune.clusters.{module}.clone", lambda: None)
    text = on_aws()
    assert f'"tskd-tune[s3]=={tskd_tune.__version__}"' in text
    assert "tskd-tune-source" not in text
    assert found(text) == []


def test_what_is_copied_is_there_and_builds_the_package(home: Path) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wheel = project["tool"]["hatch"]["build"]["targets"]["wheel"]
    needed = {*wheel["packages"], *wheel["force-include"], "pyproject.toml", "README.md", "LICENSE"}
    for text in (on_aws(), on_own_machines(home)):
        local = {path for path in prepared(text)["file_mounts"].values() if not path.startswith("~")}
        assert {Path(path).name for path in local} == needed
        assert [path for path in local if not Path(path).exists()] == []


def test_datasets_are_copied_where_a_url_is_given_and_a_folder_is_mounted() -> None:
    data = AwsAnswers("mine", "us-west-2", "203.0.113.7", "s3://a-bucket/runs", data="s3://b-bucket/data")
    assert any("s3 sync --only-show-errors s3://b-bucket/data /home/ubuntu/data" in line for line in commands(data))
    assert data.buckets == ["a-bucket", "b-bucket"]
    assert not any("s3 sync" in line or "mount" in line for line in commands(ANSWERS))
    assert any("fs-1.efs.us-west-2.amazonaws.com:/ /mnt/x" in line for line in commands(SHARED))
    assert any("TSKD_TUNE_CACHE=/mnt/x/cache TSKD_TUNE_DATA=/mnt/x/data" in line for line in commands(SHARED))


def commands(answers: AwsAnswers) -> list[str]:
    return list(prepared(on_aws(answers))["setup_commands"])


def test_every_machine_has_the_token_to_itself_and_asks_for_it() -> None:
    cluster = prepared(on_aws())
    assert cluster["file_mounts"][TOKEN] == "~/.ray/auth_token"
    for kind in ("head", "worker"):
        assert any("chmod 600 ~/.ray/auth_token" in line for line in cluster[f"{kind}_setup_commands"])
        start = cluster[f"{kind}_start_ray_commands"][-1]
        # Ray aborts natively where it must ask for a token and finds none.
        assert "test -s ~/.ray/auth_token &&" in start and "RAY_AUTH_MODE=token" in start


def test_a_sweep_on_the_head_joins_the_cluster() -> None:
    cluster = prepared(on_aws())
    assert any("export RAY_ADDRESS=auto" in line for line in cluster["head_setup_commands"])
    assert not any("RAY_ADDRESS" in line for line in cluster["worker_setup_commands"])


SLIPS = {
    "world": ("metadata: {", "metadata: {from: 0.0.0.0/0, ", "whole Internet"),
    "v6": ("metadata: {", "metadata: {from: '::/0', ", "whole Internet"),
    "group of Ray": (
        "  cache_stopped",
        "  security_group: {GroupName: x}\n  cache_stopped",
        "security_group adds rules",
    ),
    "no group": ("      SecurityGroupIds: *groups\n", "", "gpu_spot has no SecurityGroupIds"),
    "dashboard": ("--dashboard-host=127.0.0.1", "--dashboard-host=0.0.0.0", "opens the dashboard"),
    "dashboard by default": ("--dashboard-host=127.0.0.1", "", "--dashboard-host is missing"),
    "no token asked": (
        "RAY_AUTH_MODE=token ray start --head",
        "ray start --head",
        "head_start_ray_commands: `ray start`",
    ),
    "no token copied": ("  /home/ubuntu/.ray/auth_token: ~/.ray/auth_token\n", "", "the token reaches no machine"),
    "head trains": ("--num-cpus=0", "--num-cpus=4", "--num-cpus=4, so the head runs trials"),
    "head's resources": ("{CPU: 0, GPU: 0}", "{CPU: 4, GPU: 0}", "resources lets the head run trials"),
    "other Ray": (f"=={versions()['RAY-VERSION']}", "==2.40.1", "would install Ray 2.40.1"),
    "any Ray": (f"[default,tune]=={versions()['RAY-VERSION']}", "[default]", "would install Ray 2.1"),
    "a key": ("cluster_name: mine", "cluster_name: mine # AKIA" + "ABCDEFGHIJKLMNOP", "holds an access key of AWS"),
    "a W&B key": ("RAY_AUTH_MODE=token AWS", "WANDB_API_KEY=" + "f" * 40 + " AWS", "holds a key of Weights & Biases"),
    "no storage": ('storage: "s3://a-bucket/runs"', 'storage: ""', "share no storage"),
    "slip": ("max_workers: 8\nidle", "max_wrokers: 8\nidle", "max_wrokers"),
    "placeholder": ("region: us-west-2", "region: YOUR-REGION", "YOUR-REGION must be filled in"),
}


@pytest.mark.parametrize(("old", "new", "said"), SLIPS.values(), ids=SLIPS)
def test_a_mistake_is_named_in_one_sentence(old: str, new: str, said: str) -> None:
    text = on_aws()
    if said == "would install Ray 2.1":
        text = text.replace(f'ray: "{versions()["RAY-VERSION"]}"', 'ray: "2.1"')
    assert old in text
    [mistake] = found(text.replace(old, new, 1))
    assert said in mistake and "\n" not in mistake and ";" in mistake


def test_all_mistakes_are_named_at_once() -> None:
    text = (
        on_aws()
        .replace("--dashboard-host=127.0.0.1", "")
        .replace("--num-cpus=0", "")
        .replace("RAY_AUTH_MODE=token", "")
    )
    assert len(found(text)) == 4


def test_the_token_of_this_user_is_looked_at(home: Path) -> None:
    token = home / ".ray" / "auth_token"
    token.chmod(0o644)
    [mistake] = found(on_aws())
    assert "other users" in mistake and f"chmod 600 {token}" in mistake
    token.write_text("")
    assert "is empty" in found(on_aws())[0]
    token.unlink()
    assert "there is no token" in found(on_aws())[0]


def test_answers_are_checked_all_at_once() -> None:
    with pytest.raises(InputError) as raised:
        AwsAnswers("My Cluster", "mars", "0.0.0.0/0", "s3://", data="http://x", head_type="big", workers=0)
    said = str(raised.value)
    assert len(said.splitlines()) == 7
    assert all(f"--{option} is " in said for option in ("name", "region", "ssh-from", "storage", "data", "workers"))
    with pytest.raises(InputError, match="--export is missing"):
        AwsAnswers("mine", "us-west-2", "203.0.113.7", "/mnt/x")
    with pytest.raises(InputError, match="names a machine twice"):
        LocalAnswers("lab", "10.0.0.1", ("10.0.0.1",), "lab", Path(os.environ["HOME"]) / "key", "/mnt/x")


@pytest.mark.parametrize("text", ["a; rm -rf /", "/mnt/../etc", "/mnt/$(x)", "s3://b/../x", "s3://b/x y", ""])
def test_no_answer_becomes_a_command(text: str) -> None:
    with pytest.raises(InputError, match="--storage"):
        AwsAnswers("mine", "us-west-2", "203.0.113.7", text, export="server:/")


@pytest.mark.parametrize("given", ["0.0.0.0/0", "::/0", "10.0.0.0/8", "2001::/16", "me", ""])
def test_ssh_is_never_opened_to_the_world(given: str) -> None:
    assert "--ssh-from is" in (address_mistake(given) or "")


def test_the_script_for_slurm_has_no_placeholder() -> None:
    assert PLACEHOLDER.search(template("cluster.slurm.sh")) is None
