"""A cluster that asks for a token, in namespaces of the test's own: who gives none, or another, is refused."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import yaml

from tskd_tune.clusters.templates import LOCAL, template

pytestmark = pytest.mark.slow

CLIENT = """
import json, os, sys
from tskd_tune.errors import InputError
from tskd_tune.sweeps.on_ray.ray_address import named_cluster
try:
    named_cluster()
    print(json.dumps("let in"))
except InputError as error:
    print(json.dumps(str(error)))
"""
DASHBOARD = """
import sys, urllib.error, urllib.request
request = urllib.request.Request("http://127.0.0.1:8265/api/version")
if len(sys.argv) > 1:
    request.add_header("Authorization", "Bearer " + sys.argv[1])
try:
    print(urllib.request.urlopen(request, timeout=120).status)
except urllib.error.HTTPError as error:
    print(error.code)
"""
INSIDE = r"""
set -eu
ip link set lo up
mount -t tmpfs none /dev/shm
export HOME=$1/head; cd "$HOME"
eval "$2" > "$1/head.log" 2>&1 || { cat "$1/head.log"; exit 1; }
ask() { HOME=$1 RAY_ADDRESS=127.0.0.1:6379 "$PYTHON" "$FOLDER/client.py"; }
ask "$FOLDER/none"
RAY_AUTH_MODE=token ask "$FOLDER/wrong"
RAY_AUTH_MODE=token ask "$FOLDER/head"
"$PYTHON" "$FOLDER/dashboard.py"
"$PYTHON" "$FOLDER/dashboard.py" "$(cat "$FOLDER/wrong/.ray/auth_token")"
"$PYTHON" "$FOLDER/dashboard.py" "$(cat "$FOLDER/head/.ray/auth_token")"
"""


def head_command() -> str:
    """Return the command with which the template starts the head, for this machine."""
    start = str(yaml.safe_load(template(LOCAL))["head_start_ray_commands"][-1])
    return start.replace("YOUR-HEAD", "127.0.0.1").replace("--autoscaling-config=~/ray_bootstrap_config.yaml", "")


def namespaces() -> list[str]:
    words = ["unshare", "--mount", "--pid", "--fork", "--mount-proc", "--net", "--ipc", "--kill-child"]
    if shutil.which("unshare") is None or subprocess.run([*words, "true"], capture_output=True, check=False).returncode:
        pytest.skip("this user may make no namespaces, so a cluster would not be apart from others on this machine")
    return words


def test_a_client_without_the_token_is_refused(tmp_path: Path) -> None:
    apart = namespaces()
    for name, token in {"head": "a" * 64, "wrong": "b" * 64, "none": None}.items():
        (tmp_path / name / ".ray").mkdir(parents=True)
        if token:
            (tmp_path / name / ".ray" / "auth_token").write_text(token)
            (tmp_path / name / ".ray" / "auth_token").chmod(0o600)
    (tmp_path / "client.py").write_text(CLIENT)
    (tmp_path / "dashboard.py").write_text(DASHBOARD)
    clean = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    root = str(Path(__file__).parents[2])
    clean |= {"PATH": path, "PYTHON": sys.executable, "PYTHONPATH": root, "FOLDER": str(tmp_path)}
    words = [*apart, "bash", "-c", INSIDE, "inside", str(tmp_path), head_command()]
    with tempfile.TemporaryDirectory(dir="/tmp") as short:  # the path of a socket has at most 103 letters
        clean["RAY_TMPDIR"] = short
        done = subprocess.run(words, env=clean, capture_output=True, text=True, check=False, timeout=1200)
    assert done.returncode == 0, done.stdout + done.stderr
    *clients, without, wrong, right = done.stdout.splitlines()
    none, other, own = map(json.loads, clients)
    assert "asks for a token that this user does not give" in none and "RAY_AUTH_MODE=token" in none
    assert "asks for a token that this user does not give" in other
    assert own == "let in"
    assert (without, wrong, right) in (("401", "403", "200"), ("401", "401", "200"))
