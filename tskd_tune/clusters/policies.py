"""What the machines of a cluster may do on AWS: the buckets of the cluster, and on the head its own machines."""

from __future__ import annotations

import json
from collections.abc import Sequence

TRUST = json.dumps(
    {
        "Version": "2012-10-17",
        "Statement": [
            {"Effect": "Allow", "Principal": {"Service": "ec2.amazonaws.com"}, "Action": "sts:AssumeRole"},
        ],
    }
)
"""Machines of EC2 may take the role."""
CLUSTER_TAG = "ray-cluster-name"
"""The tag that Ray gives each machine of a cluster."""
LOOKS = ("DescribeInstances", "DescribeInstanceTypes", "DescribeImages", "DescribeSubnets", "DescribeSecurityGroups")
STARTS_WITH = (
    "image/*",
    "network-interface/*",
    "security-group/*",
    "subnet/*",
    "volume/*",
    "key-pair/*",
    "spot-instances-request/*",
)


def of_worker(buckets: Sequence[str]) -> str:
    """Return the policy of a worker: it reads and writes the buckets of the cluster, and may do nothing else."""
    return _policy(_of_buckets(buckets))


def of_head(buckets: Sequence[str], *, region: str, cluster: str, worker_role: str) -> str:
    """Return the policy of the head.

    It uses the buckets, starts machines in the region, and tags and ends the machines of its own cluster.

    Args:
        buckets: the buckets of the cluster.
        region: the region of the cluster.
        cluster: the name of the cluster, with which Ray tags its machines.
        worker_role: the ARN of the role that the head gives its workers.
    """
    own = {"StringEquals": {f"aws:ResourceTag/{CLUSTER_TAG}": cluster}}
    new = {"StringEquals": {f"aws:RequestTag/{CLUSTER_TAG}": cluster}}
    made = {"StringEquals": {"ec2:CreateAction": "RunInstances"}}
    ec2 = f"arn:aws:ec2:{region}:*"
    # A public image belongs to no account.
    parts = [f"arn:aws:ec2:{region}::image/*", *(f"{ec2}:{part}" for part in STARTS_WITH)]
    return _policy(
        [
            *_of_buckets(buckets),
            _allow([f"ec2:{look}" for look in LOOKS], ["*"]),
            _allow(["ec2:RunInstances"], [f"{ec2}:instance/*"], new),
            _allow(["ec2:RunInstances"], parts),
            _allow(["ec2:CreateTags"], [f"{ec2}:instance/*"], made),
            _allow(["ec2:CreateTags", "ec2:TerminateInstances", "ec2:StopInstances"], [f"{ec2}:instance/*"], own),
            _allow(["iam:PassRole"], [worker_role], {"StringEquals": {"iam:PassedToService": "ec2.amazonaws.com"}}),
        ]
    )


def _of_buckets(buckets: Sequence[str]) -> list[dict[str, object]]:
    if not buckets:
        return []
    objects = ["s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:AbortMultipartUpload"]
    return [
        _allow(["s3:ListBucket", "s3:GetBucketLocation"], [f"arn:aws:s3:::{bucket}" for bucket in buckets]),
        _allow(objects, [f"arn:aws:s3:::{bucket}/*" for bucket in buckets]),
    ]


def _allow(
    actions: Sequence[str], resources: Sequence[str], condition: dict[str, dict[str, str]] | None = None
) -> dict[str, object]:
    statement: dict[str, object] = {"Effect": "Allow", "Action": list(actions), "Resource": list(resources)}
    return {**statement, "Condition": condition} if condition else statement


def _policy(statements: list[dict[str, object]]) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": statements})
