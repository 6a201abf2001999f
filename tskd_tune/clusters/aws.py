"""Makes what a cluster needs on AWS: a security group, a bucket and two roles; finds the newest image.

The keys of AWS are boto3's business: they are read from the environment or from ``~/.aws``, and written nowhere.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, Protocol

from tskd_tune.clusters import policies
from tskd_tune.clusters.answers import AwsAnswers, whole_range
from tskd_tune.errors import InputError, RunError

IMAGE: Final = "/aws/service/deeplearning/ami/x86_64/base-oss-nvidia-driver-gpu-ubuntu-24.04/latest/ami-id"
"""The parameter of AWS that names the newest image with NVIDIA's driver and Python 3.12."""
DEFAULT_REGION: Final = "us-east-1"  # the only region whose buckets may not name their region
PRICES: Final = "https://aws.amazon.com/ec2/pricing/on-demand/"


class Client(Protocol):
    """A client of boto3, whose methods are the operations of a service of AWS."""

    def __getattr__(self, operation: str) -> Callable[..., Mapping[str, object]]:
        """Return an operation, which returns AWS's answer as plain data."""


@dataclass(frozen=True)
class Made:
    """What was found or made on AWS.

    Attributes:
        image: the image that the machines start from.
        group: the id of the security group.
        head_profile, worker_profile: the names of the instance profiles.
        notes: a sentence for each thing that was made or found.
    """

    image: str
    group: str
    head_profile: str
    worker_profile: str
    notes: tuple[str, ...]

    def values(self) -> dict[str, str]:
        """Return what it puts into the template."""
        return {
            **{"IMAGE": self.image, "SECURITY-GROUP": self.group},
            **{"HEAD-PROFILE": self.head_profile, "WORKER-PROFILE": self.worker_profile},
        }


def make(answers: AwsAnswers, vpc: str | None = None) -> Made:
    """Make or find what the cluster needs.

    Args:
        answers: the user's answers.
        vpc: the network of the machines; None for the default network of the account.

    Raises:
        InputError: boto3 is not installed, AWS accepts no keys, or something that was named is missing.
        RunError: AWS refused something.
    """
    client = _clients(answers.region)
    notes: list[str] = []
    with _in_words():
        ec2, iam = client("ec2"), client("iam")
        image = _image(client("ssm"), answers.region)
        notes.append(f"image {image}, the newest with NVIDIA's driver in {answers.region}")
        for bucket in answers.buckets:
            notes.append(_bucket(client("s3"), bucket, answers.region))
        group = _group(ec2, answers, vpc or _default_vpc(ec2))
        notes.append(f"security group {group}: SSH from {whole_range(answers.ssh_from)} only")
        worker, head = f"{answers.name}-worker", f"{answers.name}-head"
        role = _profile(iam, worker, policies.of_worker(answers.buckets))
        of_head = policies.of_head(answers.buckets, region=answers.region, cluster=answers.name, worker_role=role)
        _profile(iam, head, of_head)
        notes.append(f"roles {head} and {worker}: {', '.join(answers.buckets) or 'no bucket'}, and the head's machines")
        if answers.spot:
            _allow_spot(iam)
            notes.append(_spot_price(ec2, answers))
    return Made(image, group, head, worker, tuple(notes))


def _clients(region: str) -> Callable[[str], Client]:
    try:
        import boto3
    except ModuleNotFoundError as error:
        raise InputError(
            "AWS needs boto3, which is not installed; install `tskd-tune[aws]`, or give --image, --security-group,"
            " --head-profile and --worker-profile"
        ) from error
    session = boto3.Session(region_name=region)

    def client(service: str) -> Client:
        made: Client = session.client(service)
        return made

    return client


@contextmanager
def _in_words() -> Iterator[None]:
    """Say what AWS said, and what to do; boto3's messages hold no keys."""
    from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError, PartialCredentialsError

    try:
        yield
    except (NoCredentialsError, PartialCredentialsError) as error:
        raise InputError(
            "AWS: no keys were found; run `aws configure` or `aws sso login`, or set AWS_PROFILE"
        ) from error
    except ClientError as error:
        said = error.response.get("Error", {})
        code, message = said.get("Code", "?"), str(said.get("Message", error))[:300]
        remedy = "ask for this right, or give the id of an existing one" if _refused(code) else "correct it"
        raise RunError(f"AWS refused {error.operation_name} ({code}: {message}); {remedy}") from error
    except BotoCoreError as error:
        raise RunError(f"AWS could not be asked ({' '.join(str(error).split())[:300]}); check the network") from error


def _refused(code: str) -> bool:
    return any(
        word in code for word in ("Unauthorized", "AccessDenied", "AuthFailure", "ExpiredToken", "InvalidClient")
    )


def _image(ssm: Client, region: str) -> str:
    from botocore.exceptions import ClientError

    try:
        found = ssm.get_parameter(Name=IMAGE)
    except ClientError as error:
        if _code(error) != "ParameterNotFound":
            raise
        raise InputError(
            f"--region: AWS names no deep-learning image in {region}; give another region, or --image"
        ) from error
    return _text(found["Parameter"], "Value")


def _bucket(s3: Client, bucket: str, region: str) -> str:
    """Make the bucket if it does not exist, closed to the public."""
    from botocore.exceptions import ClientError

    try:
        s3.head_bucket(Bucket=bucket)
    except ClientError as error:
        if _code(error) == "403":
            raise InputError(
                f"--storage: the bucket {bucket} belongs to another account, or your keys may not use it; name another"
            ) from error
        if _code(error) != "404":
            raise
    else:
        return f"bucket {bucket}: is there already; its settings were left as they are"
    where = {} if region == DEFAULT_REGION else {"CreateBucketConfiguration": {"LocationConstraint": region}}
    s3.create_bucket(Bucket=bucket, **where)
    closed = dict.fromkeys(("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets"), True)
    s3.put_public_access_block(Bucket=bucket, PublicAccessBlockConfiguration=closed)
    return f"bucket {bucket}: made, closed to the public"


def _default_vpc(ec2: Client) -> str:
    found = _items(ec2.describe_vpcs(Filters=[{"Name": "is-default", "Values": ["true"]}])["Vpcs"])
    if not found:
        raise InputError(
            "this account has no default network in this region; give --vpc, or make one by"
            " `aws ec2 create-default-vpc`"
        )
    return _text(found[0], "VpcId")


def _group(ec2: Client, answers: AwsAnswers, vpc: str) -> str:
    """Make the group if it does not exist, and give it the two rules and no other."""
    where = [{"Name": "group-name", "Values": [answers.name]}, {"Name": "vpc-id", "Values": [vpc]}]
    found = _items(ec2.describe_security_groups(Filters=where)["SecurityGroups"])
    if found:
        group, old = _text(found[0], "GroupId"), _items(_mapping(found[0]).get("IpPermissions"))
        if old:
            ec2.revoke_security_group_ingress(GroupId=group, IpPermissions=old)
    else:
        made = ec2.create_security_group(GroupName=answers.name, Description="tskd-tune", VpcId=vpc)
        group = _text(made, "GroupId")
    allowed = whole_range(answers.ssh_from)
    ranges = {"Ipv6Ranges": [{"CidrIpv6": allowed}]} if ":" in allowed else {"IpRanges": [{"CidrIp": allowed}]}
    rules = [
        {"IpProtocol": "tcp", "FromPort": 22, "ToPort": 22, **ranges},
        {"IpProtocol": "-1", "UserIdGroupPairs": [{"GroupId": group}]},
    ]
    ec2.authorize_security_group_ingress(GroupId=group, IpPermissions=rules)
    return group


def _profile(iam: Client, name: str, policy: str) -> str:
    """Make the role and its instance profile if they do not exist, set the policy, and return the ARN of the role."""
    from botocore.exceptions import ClientError

    def unless_there(operation: str, **options: str) -> None:
        try:
            getattr(iam, operation)(**options)
        except ClientError as error:
            # A role is in its profile already: a profile has room for one.
            if _code(error) not in ("EntityAlreadyExists", "LimitExceeded"):
                raise

    unless_there("create_role", RoleName=name, AssumeRolePolicyDocument=policies.TRUST)
    iam.put_role_policy(RoleName=name, PolicyName=name, PolicyDocument=policy)
    unless_there("create_instance_profile", InstanceProfileName=name)
    unless_there("add_role_to_instance_profile", InstanceProfileName=name, RoleName=name)
    return _text(iam.get_role(RoleName=name)["Role"], "Arn")


def _allow_spot(iam: Client) -> None:
    """Make the role of AWS's own that an account needs before its first spot machine; another init made it already."""
    from botocore.exceptions import ClientError

    try:
        iam.create_service_linked_role(AWSServiceName="spot.amazonaws.com")
    except ClientError as error:
        if _code(error) not in ("InvalidInput", "EntityAlreadyExists", "AccessDenied"):
            raise


def _spot_price(ec2: Client, answers: AwsAnswers) -> str:
    """Say what a worker costs now, as AWS says it."""
    now = datetime.now(UTC)
    found = _items(
        ec2.describe_spot_price_history(
            InstanceTypes=[answers.worker_type],
            ProductDescriptions=["Linux/UNIX"],
            StartTime=now - timedelta(minutes=1),
        ).get("SpotPriceHistory")
    )
    prices = sorted(float(_text(price, "SpotPrice")) for price in found)
    if not prices:
        raise InputError(
            f"--worker-type: AWS names no spot price of {answers.worker_type} in {answers.region}; give another type or"
            " region, or --on-demand"
        )
    return (
        f"a spot worker {answers.worker_type} costs ${prices[0]:.4g} to ${prices[-1]:.4g} an hour now, by zone, as AWS"
        f" says; the head {answers.head_type} costs its on-demand price ({PRICES})"
    )


def _code(error: Exception) -> str:
    return str(_mapping(_mapping(getattr(error, "response", {})).get("Error")).get("Code", ""))


def _text(value: object, key: str) -> str:
    return str(_mapping(value)[key])


def _mapping(value: object) -> Mapping[str, object]:
    return value if isinstance(value, Mapping) else {}


def _items(value: object) -> list[object]:
    return value if isinstance(value, list) else []
