"""Counts what a sweep asks of an object storage: requests and bytes by purpose, on a mock of S3 on this machine.

    python -m benchmarks.storage --epochs 40
    python -m benchmarks.storage --epochs 60 --one

It needs the packages of the tests (moto, s3fs). The sweep has four trainings, two at once, of synthetic images.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import re
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote

PURPOSES: Final = {
    "records": r"/log(/|$)",
    "lease": r"/lease(/|$)",
    "checkpoints": r"/checkpoint-\d+\.pt$",
    "students": r"/student\.pth$",
    "W&B files": r"/wandb/",
    "pages": r"\.(html|md)$",
}


class Counted:
    """A WSGI application that counts the requests to another one."""

    def __init__(self, inner: Any) -> None:
        """Pass requests on to ``inner``."""
        self._inner = inner
        self._lock = threading.Lock()
        self.requests: Counter[tuple[str, str]] = Counter()
        self.sent: Counter[str] = Counter()

    def __call__(self, environ: Mapping[str, Any], start: Any) -> Iterable[bytes]:
        """Answer a request."""
        query = re.search(r"prefix=([^&]*)", environ.get("QUERY_STRING", ""))
        path = environ["PATH_INFO"] + (f"/{unquote(query[1])}" if query else "")
        purpose = next((name for name, pattern in PURPOSES.items() if re.search(pattern, path)), "other")
        kind = "LIST" if query else environ["REQUEST_METHOD"]
        with self._lock:
            self.requests[purpose, kind] += 1
            self.sent[purpose] += int(environ.get("CONTENT_LENGTH") or 0)
        answer: Iterable[bytes] = self._inner(environ, start)
        return answer


def serve() -> tuple[Counted, str]:
    """Start a mock of S3 with the bucket ``bucket``; return what counts, and its address."""
    import boto3
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import make_server

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    counted = Counted(DomainDispatcherApplication(create_backend_app))
    server = make_server("127.0.0.1", 0, counted, threaded=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}"
    os.environ.update(AWS_ENDPOINT_URL=address, AWS_ACCESS_KEY_ID="x", AWS_SECRET_ACCESS_KEY="x")
    os.environ.update(AWS_DEFAULT_REGION="us-east-1", AWS_EC2_METADATA_DISABLED="true", WANDB_MODE="offline")
    boto3.client("s3").create_bucket(Bucket="bucket")
    return counted, address


def document(epochs: int) -> dict[str, object]:
    """Return the sweep: two arms with two seeds."""
    task = {"name": "synthetic", "batch_size": 8, "size": 8, "train": 256, "validation": 8, "test": 8}
    training = {"epochs": epochs, "lr": 0.05, "device": "cpu"}
    teacher = {"name": "resnet14", "training": {"epochs": 1, "lr": 0.01}}
    review = {"k": 2, "delta": 1, "extractor": {"name": "conv_lstm", "hidden": 2}}
    arms = {"plain": {"review": None}, "tskd": {}}
    of = {
        "task": task,
        "teacher": teacher,
        "student": "resnet8",
        "review": review,
        "training": training,
        "choice": arms,
    }
    return {"experiment": of, "seeds": [1, 2], "search": {"name": "grid"}, "resources": {"cpu": 1, "concurrent": 2}}


def alone(epochs: int) -> dict[str, object]:
    """Return one training of the sweep, without a review."""
    task = {"name": "synthetic", "batch_size": 8, "size": 8, "train": 256, "validation": 8, "test": 8}
    return {
        "task": task,
        "student": "resnet8",
        "review": None,
        "training": {"epochs": epochs, "lr": 0.05, "device": "cpu"},
    }


def measure(epochs: int, *, one: bool) -> dict[str, object]:
    """Train the sweep, or ``one`` training without Ray, and return the figures."""
    import tskd_tune

    counted, _ = serve()
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as cache:
        os.environ["TSKD_TUNE_CACHE"] = str(Path(cache))
        if one:
            folder = tskd_tune.train(alone(epochs), "run", storage="s3://bucket/runs", track=False)
        else:
            folder = tskd_tune.sweep(document(epochs), "run", storage="s3://bucket/runs")
        seconds, rows = time.monotonic() - began, len(folder.rows())
    total, sent = sum(counted.requests.values()), sum(counted.sent.values())
    return {
        "epochs": epochs * rows,
        "trainings": rows,
        "seconds": round(seconds, 1),
        "requests": {f"{purpose} {kind}": number for (purpose, kind), number in sorted(counted.requests.items())},
        "bytes_sent": dict(sorted(counted.sent.items())),
        "requests_an_epoch": round(total / (epochs * rows), 2),
        "requests_a_training": round(total / rows, 1),
        "bytes_an_epoch_without_models": round(
            (sent - counted.sent["checkpoints"] - counted.sent["students"]) / (epochs * rows)
        ),
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=40, help="epochs of each training")
    parser.add_argument("--one", action="store_true", help="only one training, without Ray and W&B")
    given = parser.parse_args()
    print(json.dumps(measure(given.epochs, one=given.one), indent=1))  # noqa: T201
