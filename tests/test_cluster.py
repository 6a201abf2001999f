"""The cluster file: valid for Ray, closed to the world, and of use only once its ids are filled in."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config

ROOT = Path(__file__).parents[1]
FILE = ROOT / "cluster.yaml"
TOKEN = "/home/ubuntu/.ray/auth_token"


@pytest.fixture(scope="module")
def cluster() -> dict[str, Any]:
    """The file as `ray up` reads it, with Ray's defaults filled in."""
    config: dict[str, Any] = prepare_config(yaml.safe_load(FILE.read_text()))
    return config


def node_types(cluster: dict[str, Any]) -> dict[str, Any]:
    return dict(cluster["available_node_types"])


def workers(cluster: dict[str, Any]) -> list[dict[str, Any]]:
    return [node for name, node in node_types(cluster).items() if name != cluster["head_node_type"]]


def test_ray_accepts_it(cluster: dict[str, Any]):
    validate_config(cluster)


def test_ray_would_refuse_a_slip(cluster: dict[str, Any]):
    with pytest.raises(Exception, match="max_wrokers"):
        validate_config({**cluster, "max_wrokers": 3})


def test_nothing_is_open_to_the_world(cluster: dict[str, Any]):
    written = str(cluster)
    assert "0.0.0.0" not in written
    assert "::/0" not in written
    assert any("--dashboard-host=127.0.0.1" in line for line in cluster["head_start_ray_commands"])


def test_no_machine_is_left_to_rays_own_security_group(cluster: dict[str, Any]):
    # Ray opens SSH to the world in the group that it makes for a machine without one.
    assert all(len(node["node_config"]["SecurityGroupIds"]) == 1 for node in node_types(cluster).values())
    assert "security_group" not in cluster["provider"]


def test_as_it_stands_aws_starts_nothing(cluster: dict[str, Any]):
    for node in node_types(cluster).values():
        assert node["node_config"]["SecurityGroupIds"] == ["sg-" + "0" * 17]
        assert node["node_config"]["ImageId"] == "ami-" + "0" * 17


def test_the_head_runs_no_trial(cluster: dict[str, Any]):
    assert node_types(cluster)[cluster["head_node_type"]]["resources"] == {"CPU": 0, "GPU": 0}
    start = cluster["head_start_ray_commands"][-1]
    assert "--num-cpus=0" in start and "--num-gpus=0" in start


def test_workers_have_a_gpu_and_none_is_kept_without_work(cluster: dict[str, Any]):
    assert [node["min_workers"] for node in workers(cluster)] == [0, 0]
    assert all(node["resources"]["GPU"] == 1 for node in workers(cluster))
    assert max(node["max_workers"] for node in workers(cluster)) == cluster["max_workers"]
    assert 0 < cluster["idle_timeout_minutes"] <= 15
    assert cluster["provider"]["cache_stopped_nodes"] is False


def test_every_machine_has_the_token_to_itself_and_asks_for_it(cluster: dict[str, Any]):
    assert cluster["file_mounts"][TOKEN] == "~/.ray/auth_token"
    for kind in ("head", "worker"):
        assert any("chmod 600 ~/.ray/auth_token" in line for line in cluster[f"{kind}_setup_commands"])
        assert "RAY_AUTH_MODE=token ray start" in cluster[f"{kind}_start_ray_commands"][-1]


def test_a_sweep_on_the_head_joins_the_cluster(cluster: dict[str, Any]):
    assert any("export RAY_ADDRESS=auto" in line for line in cluster["head_setup_commands"])
    assert not any("RAY_ADDRESS" in line for line in cluster["worker_setup_commands"])


def test_what_is_copied_is_there_and_is_what_the_package_is_built_from(cluster: dict[str, Any]):
    local = {path for remote, path in cluster["file_mounts"].items() if remote != TOKEN}
    assert {"Makefile", "pyproject.toml", "README.md", "LICENSE", "tskd_tune"} <= local
    assert [path for path in local if not (ROOT / path).exists()] == []
