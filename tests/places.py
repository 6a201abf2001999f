"""Storage for tests: in this process's memory, and a local mock of S3."""

from __future__ import annotations

import os
from collections.abc import Iterator
from uuid import uuid4

import pytest

from tskd_tune.paths import Address


@pytest.fixture
def memory() -> Address:
    """An empty folder of fsspec's storage in memory."""
    return Address(f"memory://bucket-{uuid4().hex[:8]}/runs")


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    """The address of a mock of S3 on this machine, with the bucket ``bucket``."""
    server = pytest.importorskip("moto.server").ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def s3(s3_server: str, monkeypatch: pytest.MonkeyPatch) -> Address:
    """An empty folder in a bucket of the mock, with the environment that reaches it."""
    boto3, s3fs = (pytest.importorskip(name) for name in ("boto3", "s3fs"))
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name, value in s3_environment(s3_server).items():
        monkeypatch.setenv(name, value)
    s3fs.S3FileSystem.clear_instance_cache()
    boto3.client("s3").create_bucket(Bucket="bucket")
    return Address(f"s3://bucket/{uuid4().hex[:8]}")


def s3_environment(server: str) -> dict[str, str]:
    """Return the variables with which a process reaches the mock."""
    return {
        "AWS_ENDPOINT_URL": server,
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }
