"""The Ray of a sweep: which cluster it joins, and when it starts one of its own."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tskd_tune.errors import InputError, RunError
from tskd_tune.sweeps.declared.schema import Sweep
from tskd_tune.sweeps.on_ray import ray_address, ray_session
from tskd_tune.sweeps.on_ray.ray_causes import why_not_started
from tskd_tune.sweeps.run import start


@pytest.fixture
def fake_ray(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """A Ray that only notes how it is started and ended."""
    noted: list[Any] = []
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(ray_session.ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray_session.ray, "init", lambda where, **options: noted.append((where, options)))
    monkeypatch.setattr(ray_session.ray, "shutdown", lambda: noted.append("shutdown"))
    return noted


@pytest.mark.parametrize("given", [None, "", "local"])
def test_without_an_address_a_sweep_starts_a_ray_of_its_own_and_leaves_no_file(
    fake_ray: list[Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, given: str | None
) -> None:
    if given is not None:
        monkeypatch.setenv("RAY_ADDRESS", given)
    with ray_session.session(tmp_path / "run"):
        [(where, options)] = fake_ray
        folder = Path(options["_temp_dir"])
        assert where == "local" and folder.is_dir()
    assert fake_ray[1:] == ["shutdown"] and not folder.exists()


def test_only_the_cluster_that_is_named_is_joined(
    fake_ray: list[Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TSKD_TUNE_DATA", "data")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(ray_address, "_refuse_others", lambda address: None)
    with socket.create_server(("127.0.0.1", 0)) as server:
        named = f"127.0.0.1:{server.getsockname()[1]}"
        monkeypatch.setenv("RAY_ADDRESS", named)
        with ray_session.session(tmp_path / "run"):
            [(where, options)] = fake_ray
    assert where == named and "_temp_dir" not in options
    assert options["runtime_env"]["env_vars"]["TSKD_TUNE_DATA"] == str(tmp_path / "data")


@pytest.mark.parametrize("joined", ["named", "other"])
def test_a_ray_of_this_process_is_used_unless_another_cluster_is_named(
    fake_ray: list[Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, joined: str
) -> None:
    monkeypatch.setattr(ray_address, "_refuse_others", lambda address: None)
    monkeypatch.setattr(ray_session.ray, "is_initialized", lambda: True)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        monkeypatch.setenv("RAY_ADDRESS", f"127.0.0.1:{port}")
        known = SimpleNamespace(gcs_address=f"10.0.0.7:{port if joined == 'named' else 6379}")
        monkeypatch.setattr(ray_session.ray, "get_runtime_context", lambda: known)
        if joined == "named":
            with ray_session.session(tmp_path / "run"):
                pass
        else:
            told = r"RAY_ADDRESS=.*: this process uses the Ray at 10.0.0.7:6379 already; call ray.shutdown\(\)"
            with pytest.raises(InputError, match=told), ray_session.session(tmp_path / "run"):
                pass
    assert fake_ray == []


@pytest.mark.parametrize(
    ("address", "told"),
    [
        (
            "127.0.0.1:1",
            r"RAY_ADDRESS=127.0.0.1:1: no cluster answers at 127.0.0.1:1 \(.*refused.*\); start",
        ),
        ("no.such.host.invalid:6379", "no cluster answers at no.such.host.invalid:6379"),
        ("127.0.0.1", "must be HOST:PORT"),
        ("127.0.0.1:99999", "must be HOST:PORT"),
        ("http://127.0.0.1:6379", "is the address of a dashboard; send the sweep there with `tskd-tune submit"),
        ("ray://127.0.0.1:10001", r"cannot run through Ray Client .* --address auto"),
        ("garbage here", "must be HOST:PORT"),
    ],
)
def test_an_address_that_cannot_be_joined_is_a_sentence_and_leaves_no_folder(
    tiny_document: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, address: str, told: str
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", address)
    sweep = Sweep.read({"experiment": tiny_document, "search": {"name": "grid"}})
    with pytest.raises(InputError, match=told):
        start(sweep, "first", tmp_path, lambda event: None)
    assert list(tmp_path.iterdir()) == []


def test_auto_needs_a_cluster_on_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    from ray._private import services

    def none(address: str) -> str:
        raise ConnectionError("Could not find any running Ray instance")

    monkeypatch.setenv("RAY_ADDRESS", "auto")
    monkeypatch.setattr(services, "canonicalize_bootstrap_address", none)
    with pytest.raises(InputError, match=r"RAY_ADDRESS=auto: no cluster runs on this machine .*`ray start --head`"):
        ray_address.named_cluster()


@pytest.mark.parametrize(
    ("error", "cluster", "kind", "told"),
    [
        (RuntimeError("The current node timed out during startup."), None, RunError, "the machine was too slow"),
        (OSError(28, "No space left on device"), None, RunError, "folder for temporary files is full"),
        (OSError("AF_UNIX path length cannot exceed 107 bytes"), None, RunError, "set TMPDIR=/tmp"),
        (OSError(24, "Too many open files"), None, RunError, "ulimit -n"),
        (BlockingIOError(11, "Resource temporarily unavailable"), None, RunError, "ulimit -u"),
        (ValueError("anything else"), None, RunError, r"unset .*RAY_ODD.* \(Ray says: ValueError: anything else\)"),
        (RuntimeError("Version mismatch: Ray 2.1"), "h", InputError, "the same Ray and Python on all machines"),
        (RuntimeError("InvalidAuthToken"), "h", InputError, "asks for a token"),
        (ConnectionError("no"), "h", InputError, "cannot be joined"),
    ],
)
def test_every_reason_has_its_cause_and_remedy(
    monkeypatch: pytest.MonkeyPatch, error: Exception, cluster: str | None, kind: type[Exception], told: str
) -> None:
    monkeypatch.setenv("RAY_ODD", "1")
    address = None if cluster is None else ray_address.RayAddress("h:1", "h", 1)
    found = why_not_started(error, address)
    assert isinstance(found, kind)
    with pytest.raises(kind, match=told):
        raise found


def test_variables_that_ray_sets_itself_are_not_to_be_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "environ", {"RAY_CLIENT_MODE": "0", "RAY_USAGE_STATS_ENABLED": "0"})
    assert "unset" not in str(why_not_started(ValueError("odd"), None))
    os.environ["RAY_ODD"] = "1"
    assert ", or unset RAY_ODD (Ray says" in str(why_not_started(ValueError("odd"), None))


def test_a_ray_that_does_not_start_leaves_neither_a_run_nor_a_file(
    fake_ray: list[Any], tiny_document: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def fail(where: str, **options: Any) -> None:
        fake_ray.append(Path(options["_temp_dir"]))
        raise RuntimeError("The current node timed out during startup.")

    monkeypatch.setattr(ray_session.ray, "init", fail)
    sweep = Sweep.read({"experiment": tiny_document, "search": {"name": "grid"}})
    with pytest.raises(RunError, match="Ray did not start: the machine was too slow"):
        start(sweep, "first", tmp_path, lambda event: None)
    assert list(tmp_path.iterdir()) == [] and not fake_ray[0].exists()


def test_a_long_folder_for_temporary_files_is_not_used_for_sockets(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    long = tmp_path / ("n" * 60)
    long.mkdir()
    monkeypatch.setenv("TMPDIR", str(long))
    folder = ray_session._folder()
    assert long not in folder.parents and folder.is_dir()
    folder.rmdir()


def test_where_no_folder_serves_the_reasons_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(base: str) -> Path:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(ray_session, "_made", full)
    with pytest.raises(InputError, match=r"/tmp: No space left on device.*set TMPDIR to a short path"):
        ray_session._folder()
