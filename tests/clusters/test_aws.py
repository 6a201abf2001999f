"""What `cluster init` makes on AWS, and `ray up` with the file it writes, against a mock of AWS on loopback."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

boto3 = pytest.importorskip("boto3")
server_of_moto = pytest.importorskip("moto.server")

from tskd_tune.clusters import aws, policies  # noqa: E402
from tskd_tune.clusters.answers import AwsAnswers  # noqa: E402
from tskd_tune.errors import InputError, RunError  # noqa: E402

REGION, ACCOUNT = "us-west-2", "123456789012"
ANSWERS = AwsAnswers("mine", REGION, "203.0.113.7", "s3://my-own-bucket/runs", workers=3)
SECRET = "not-a-secret-of-anyone"
KEYS = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": SECRET}


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """A mock of AWS on a free port of loopback."""
    running = server_of_moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    running.start()
    host, port = running.get_host_and_port()
    yield f"http://{host}:{port}"
    running.stop()


@pytest.fixture(scope="module")
def named(server: str) -> Iterator[None]:
    """The mock names an image as AWS does."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {"AWS_ENDPOINT_URL": server, **KEYS}.items():
            patch.setenv(name, value)
        name_an_image()
    yield


@pytest.fixture
def account(server: str, named: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An account of AWS, and a user with a home of the test's own."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name, value in {
        **KEYS,
        "AWS_ENDPOINT_URL": server,
        "HOME": str(tmp_path / "home"),
        "AWS_EC2_METADATA_DISABLED": "true",
    }.items():
        monkeypatch.setenv(name, value)
    (tmp_path / "home").mkdir()
    yield tmp_path


def name_an_image() -> None:
    """Name an image as AWS does; the mock has no such parameter, and lets nobody write one."""
    from moto.ssm.models import ssm_backends

    boto3.client("ssm", REGION).put_parameter(Name="mine", Value="ami-12c6146b", Type="String")
    parameters = ssm_backends[ACCOUNT][REGION]._parameters
    parameters[aws.IMAGE] = parameters.pop("mine")


def rules(group: str) -> list[dict[str, Any]]:
    [found] = boto3.client("ec2", REGION).describe_security_groups(GroupIds=[group])["SecurityGroups"]
    return list(found["IpPermissions"])


def test_the_group_opens_ssh_to_one_address_and_nothing_else(account: Path) -> None:
    made = aws.make(ANSWERS)
    by_protocol = {rule["IpProtocol"]: rule for rule in rules(made.group)}
    assert set(by_protocol) == {"tcp", "-1"}
    assert (by_protocol["tcp"]["FromPort"], by_protocol["tcp"]["ToPort"]) == (22, 22)
    assert [found["CidrIp"] for found in by_protocol["tcp"]["IpRanges"]] == ["203.0.113.7/32"]
    assert by_protocol["-1"]["IpRanges"] == [] and by_protocol["-1"]["Ipv6Ranges"] == []
    assert [pair["GroupId"] for pair in by_protocol["-1"]["UserIdGroupPairs"]] == [made.group]


def test_twice_changes_nothing_but_the_address(account: Path) -> None:
    first = aws.make(ANSWERS)
    second = aws.make(AwsAnswers("mine", REGION, "2001:db8::7/128", "s3://my-own-bucket/runs"))
    assert (second.group, second.head_profile) == (first.group, first.head_profile)
    [ssh] = [rule for rule in rules(second.group) if rule["IpProtocol"] == "tcp"]
    assert ssh["IpRanges"] == [] and [found["CidrIpv6"] for found in ssh["Ipv6Ranges"]] == ["2001:db8::7/128"]
    assert any("is there already" in note for note in second.notes)


def test_the_bucket_is_closed_and_the_image_is_aws_own(account: Path) -> None:
    made = aws.make(ANSWERS)
    s3, ssm = boto3.client("s3", REGION), boto3.client("ssm", REGION)
    closed = s3.get_public_access_block(Bucket="my-own-bucket")["PublicAccessBlockConfiguration"]
    assert set(closed.values()) == {True} and len(closed) == 4
    assert made.image == ssm.get_parameter(Name=aws.IMAGE)["Parameter"]["Value"]
    assert any("costs $" in note and "as AWS says" in note for note in made.notes)
    # On demand, nothing is asked about spot machines.
    assert not any("costs $" in note for note in aws.make(AwsAnswers(**{**vars(ANSWERS), "spot": False})).notes)


def test_the_roles_may_do_what_they_need_and_no_more(account: Path) -> None:
    made = aws.make(ANSWERS)
    iam = boto3.client("iam", REGION)
    for profile in (made.head_profile, made.worker_profile):
        [role] = iam.get_instance_profile(InstanceProfileName=profile)["InstanceProfile"]["Roles"]
        assert role["RoleName"] == profile
        assert iam.list_attached_role_policies(RoleName=profile)["AttachedPolicies"] == []
    worker = statements(iam.get_role_policy(RoleName="mine-worker", PolicyName="mine-worker")["PolicyDocument"])
    assert {resource for statement in worker for resource in statement["Resource"]} == {
        "arn:aws:s3:::my-own-bucket",
        "arn:aws:s3:::my-own-bucket/*",
    }
    head = statements(iam.get_role_policy(RoleName="mine-head", PolicyName="mine-head")["PolicyDocument"])
    for statement in head:
        assert "*" not in statement["Action"] and not any(action.endswith(":*") for action in statement["Action"])
        if "*" in statement["Resource"]:
            assert all(action.startswith("ec2:Describe") for action in statement["Action"])
        if "ec2:TerminateInstances" in statement["Action"]:
            assert statement["Condition"] == {"StringEquals": {"aws:ResourceTag/ray-cluster-name": "mine"}}
        if "iam:PassRole" in statement["Action"]:
            assert statement["Resource"] == [iam.get_role(RoleName="mine-worker")["Role"]["Arn"]]
    assert statements(policies.of_worker([])) == []


def statements(document: Any) -> list[dict[str, Any]]:
    return list((json.loads(document) if isinstance(document, str) else document)["Statement"])


def test_no_keys_no_network_and_no_such_thing_are_sentences(account: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(RunError, match=r"^AWS refused DescribeVpcs \(InvalidVpcID.*\); correct it$"), aws._in_words():
        boto3.client("ec2", REGION).describe_vpcs(VpcIds=["vpc-00000000"])
    with pytest.raises(InputError, match="AWS names no deep-learning image in eu-north-1"):
        aws.make(AwsAnswers(**{**vars(ANSWERS), "region": "eu-north-1"}))
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    with pytest.raises(RunError, match="AWS could not be asked") as raised:
        aws.make(ANSWERS)
    assert SECRET not in str(raised.value)
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(InputError, match="no keys were found; run `aws configure`"):
        aws.make(ANSWERS)


def test_without_boto3_the_sentence_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "boto3", None)
    with pytest.raises(InputError, match=r"install `tskd-tune\[aws\]`"):
        aws.make(ANSWERS)


def test_an_account_without_a_default_network_is_told_so() -> None:
    class Empty:
        def describe_vpcs(self, **options: object) -> dict[str, object]:
            return {"Vpcs": []}

    with pytest.raises(InputError, match="no default network in this region; give --vpc"):
        aws._default_vpc(Empty())  # type: ignore[arg-type]


@pytest.mark.slow
def test_ray_up_starts_the_head_and_opens_nothing(account: Path) -> None:
    """Against the mock, `ray up` goes as far as SSH to the head, which no mock answers."""
    place = account / "somewhere"
    place.mkdir()
    init = ["cluster", "init", "--region", REGION, "--ssh-from", "203.0.113.7", "--storage", "s3://my-own-bucket/runs"]
    done = command(place, sys.executable, "-m", "tskd_tune", *init, "--workers", "3", "--name", "up")
    assert done.returncode == 0, done.stdout + done.stderr
    assert command(place, sys.executable, "-m", "tskd_tune", "check", "cluster.yaml").returncode == 0
    told = up(place)
    assert "Launched" in told and "SSH" in told, told

    ec2 = boto3.client("ec2", REGION)
    [head] = [machine for found in ec2.describe_instances()["Reservations"] for machine in found["Instances"]]
    tags = {tag["Key"]: tag["Value"] for tag in head["Tags"]}
    assert (tags["ray-cluster-name"], tags["ray-node-type"], tags["ray-user-node-type"]) == ("up", "head", "head")
    assert (head["InstanceType"], head.get("InstanceLifecycle")) == ("m6i.large", None)
    assert head["IamInstanceProfile"]["Arn"].endswith("/up-head")
    groups = ec2.describe_security_groups()["SecurityGroups"]
    [own] = [group for group in groups if group["GroupId"] == head["SecurityGroups"][0]["GroupId"]]
    assert own["GroupName"] == "up" and len(head["SecurityGroups"]) == 1
    assert not any(
        "0.0.0.0/0" in str(group["IpPermissions"]) or "::/0" in str(group["IpPermissions"]) for group in groups
    )
    assert not any(group["GroupName"].startswith("ray-autoscaler") for group in groups)
    assert (account / "home" / ".ssh" / f"ray-autoscaler_{REGION}.pem").stat().st_mode & 0o077 == 0

    worker = started_worker(place / "cluster.yaml")
    assert (worker["InstanceType"], worker["InstanceLifecycle"]) == ("g6.xlarge", "spot")
    assert [group["GroupId"] for group in worker["SecurityGroups"]] == [own["GroupId"]]
    assert worker["IamInstanceProfile"]["Arn"].endswith("/up-worker")


def command(place: Path, *words: str) -> subprocess.CompletedProcess[str]:
    root = str(Path(__file__).parents[2])
    return subprocess.run(
        words,
        cwd=place,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": root},
        check=False,
        timeout=600,
    )


def up(place: Path) -> str:
    """Run `ray up` until it waits for SSH, then end it, and return its words."""
    words = [str(Path(sys.executable).with_name("ray")), "up", "-y", "--no-config-cache", "--disable-usage-stats"]
    log = place / "up.log"
    with log.open("w") as file:
        running = subprocess.Popen(
            [*words, "cluster.yaml"], cwd=place, stdout=file, stderr=subprocess.STDOUT, start_new_session=True
        )
    try:
        until = time.monotonic() + 600
        while time.monotonic() < until and running.poll() is None and "SSH still not available" not in log.read_text():
            time.sleep(0.5)
    finally:
        if running.poll() is None:
            os.killpg(running.pid, signal.SIGKILL)
        running.wait()
    return log.read_text()


def started_worker(file: Path) -> dict[str, Any]:
    """Start a worker as the autoscaler on the head does, and return what AWS says of it."""
    code = f"""
import json, yaml
from ray.autoscaler._private.commands import _bootstrap_config
from ray.autoscaler._private.providers import _get_node_provider
from ray.autoscaler._private.util import prepare_config
config = _bootstrap_config(yaml.safe_load(open({str(file)!r})), no_config_cache=True)
kind = config["available_node_types"]["gpu_spot"]
assert kind["resources"]["GPU"] == 1 and kind["resources"]["CPU"] == 4, kind["resources"]
provider = _get_node_provider(config["provider"], config["cluster_name"])
tags = {{"ray-node-type": "worker", "ray-user-node-type": "gpu_spot", "ray-node-name": "w", "ray-launch-config": "x"}}
provider.create_node(kind["node_config"], tags, 1)
"""
    done = command(file.parent, sys.executable, "-c", code)
    assert done.returncode == 0, done.stdout + done.stderr
    where = [{"Name": "tag:ray-node-type", "Values": ["worker"]}]
    [found] = boto3.client("ec2", REGION).describe_instances(Filters=where)["Reservations"]
    return dict(found["Instances"][0])
