"""A file system that is full for a while: the run says so, loses nothing, and goes on when there is space."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
UNSHARE = ["unshare", "--mount", *([] if os.geteuid() == 0 else ["--map-root-user"])]


def has_namespaces() -> bool:
    return (
        shutil.which("unshare") is not None and subprocess.run([*UNSHARE, "true"], capture_output=True).returncode == 0
    )


@pytest.mark.slow
@pytest.mark.skipif(not has_namespaces(), reason="needs a mount namespace (unshare --mount), for a small file system")
def test_a_full_file_system_is_named_and_a_resume_goes_on_when_there_is_space(tmp_path: Path) -> None:
    paths = [str(TESTS), str(TESTS.parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    done = subprocess.run(
        [*UNSHARE, sys.executable, "-m", "chaos.full", str(tmp_path)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    for code, said in (found["full"], found["still"]):
        assert code == 1 and "Traceback" not in said, said
        assert f"the disk of {tmp_path / 'small' / 'full'} is full: free space there, then: tskd-tune resume" in said, (
            said
        )
    assert found["resumed"][0] == 0, found["resumed"][1]
    assert found["rows"] and found["students"] and found["kept"]
