"""The Ray of a sweep on one machine: it listens on loopback only, and refuses who does not know its token."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

SWEEP = """
import ipaddress, json, os, subprocess, sys
from pathlib import Path
import psutil, ray
from tskd_tune.sweeps.on_ray import ray_session

def asked(environment):
    code = "from ray._raylet import GcsClient; import sys; GcsClient(address=sys.argv[1]); print('let in')"
    words = [sys.executable, "-c", code, ray.get_runtime_context().gcs_address]
    done = subprocess.run(words, env=environment, capture_output=True, text=True)
    return "let in" if "let in" in done.stdout else done.stdout + done.stderr

def open_to_others(connection):
    address = ipaddress.ip_address(connection.laddr.ip)
    return not (getattr(address, "ipv4_mapped", None) or address).is_loopback

with ray_session.session(Path(sys.argv[1])):
    seen = ray.get(ray.remote(lambda: dict(os.environ)).remote())
    processes = [psutil.Process(), *psutil.Process().children(recursive=True)]
    listening = [c for p in processes for c in p.net_connections("inet") if c.status == "LISTEN"]
    plain = {name: value for name, value in os.environ.items() if not name.startswith("RAY_AUTH")}
    right = {name: os.environ[name] for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN")}
    found = {
        "listening": len(listening),
        "open": [f"{c.laddr.ip}:{c.laddr.port}" for c in listening if open_to_others(c)],
        "without": asked(plain),
        "wrong": asked({**plain, **right, "RAY_AUTH_TOKEN": "0" * 64}),
        "right": asked({**plain, **right}),
    }
found["after"] = [name for name in os.environ if name.startswith("RAY_AUTH")]
with ray_session.session(Path(sys.argv[1])):  # a second Ray has another token
    found["again"] = ray.get(ray.remote(lambda: 1).remote())
print(json.dumps(found))
"""


def test_it_listens_on_loopback_and_asks_for_its_token(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    clean = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    words = [sys.executable, "-c", SWEEP, str(tmp_path)]
    done = subprocess.run(words, env={**clean, "HOME": str(home)}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["listening"] > 3 and found["open"] == []
    assert "let in" not in (found["without"], found["wrong"])
    assert "token" in found["wrong"].lower()
    assert (found["right"], found["again"], found["after"]) == ("let in", 1, [])
    assert not (home / ".ray").exists(), "the token is in no file"
