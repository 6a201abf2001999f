"""Objects on a storage in memory and on a mock of S3: whole or absent, with a sentence for every failure."""

from __future__ import annotations

import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from faults import AWAY, DENIED, THROTTLED, Faulty

from tskd_tune.errors import InputError
from tskd_tune.paths import Address
from tskd_tune.storage.failures import StorageError
from tskd_tune.storage.objects import Objects
from tskd_tune.storage.patience import Patience


@pytest.fixture(params=["memory", "s3", "file"])
def objects(request: pytest.FixtureRequest, tmp_path: Path) -> Objects:
    """Storage that writes objects whole, also with conditions, and a plain file system behind fsspec."""
    if request.param == "file":
        from fsspec.implementations.local import LocalFileSystem

        return Objects(Address(str(tmp_path / "runs")), LocalFileSystem(auto_mkdir=True))
    return Objects(request.getfixturevalue(request.param) / "run")


def test_an_object_is_written_read_listed_and_removed(objects: Objects, tmp_path: Path) -> None:
    assert objects.read("a/x") is None and objects.names("a") == {} and not objects.fetch("a/x", tmp_path / "x")
    objects.write("a/x", b"old")
    objects.write("a/x", b"new")
    file = tmp_path / "deep" / "file"
    assert objects.fetch("a/x", file) and file.read_bytes() == b"new" and list(file.parent.iterdir()) == [file]
    objects.write("a/b/y", file)
    assert {name: entry.size for name, entry in objects.names("a").items()} == {"a/b/y": 3, "a/x": 3}
    written = objects.names("a")["a/x"].modified
    assert written is not None and abs(datetime.now(UTC) - written) < timedelta(minutes=1)
    assert objects.folders() == ["a"]
    objects.delete("a/x")
    objects.delete("a/x")
    assert objects.read("a/x") is None and list(objects.names("")) == ["a/b/y"]
    objects.remove_all()
    assert objects.names("") == {}


def test_an_object_is_made_once(objects: Objects) -> None:
    assert objects.create("x", b"mine") and objects.create("x", b"mine"), "a request that was sent twice is one"
    assert not objects.create("x", b"other") and objects.read("x") == b"mine"


def test_a_probe_says_what_the_storage_can_and_leaves_nothing(objects: Objects) -> None:
    now, conditional = objects.probe()
    assert abs(datetime.now(UTC) - now) < timedelta(minutes=1)
    assert conditional == (objects.address.scheme in ("memory", "s3")) and objects.names("") == {}


def test_requests_and_bytes_are_counted(memory: Address, tmp_path: Path) -> None:
    objects = Objects(memory)
    objects.write("x", b"12345")
    objects.read("x")
    objects.names("")
    objects.delete("x")
    assert objects.traffic.requests == {"PUT": 1, "GET": 1, "LIST": 1, "DELETE": 1}
    assert (objects.traffic.sent, objects.traffic.received) == (5, 5)


def test_a_missing_bucket_is_told_from_a_missing_object(s3: Address) -> None:
    gone = Objects(Address("s3://no-such-bucket/runs"))
    for ask in (lambda: gone.read("x"), lambda: gone.names(""), lambda: gone.write("x", b""), gone.folders, gone.probe):
        with pytest.raises(StorageError, match=r"s3://no-such-bucket.*no such bucket.*make the bucket, or correct"):
            ask()


def test_no_credentials_and_no_server_are_told(s3: Address, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import s3fs

    def asked() -> str:
        s3fs.S3FileSystem.clear_instance_cache()
        with pytest.raises(StorageError) as error:
            Objects(s3).read("x")
        return str(error.value)

    monkeypatch.setattr(s3fs.core.S3FileSystem, "retries", 1)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    assert "refuses this user (Unable to locate credentials); give the right credentials" in asked()
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "x")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "x")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    assert "does not answer" in asked() and "AWS_ENDPOINT_URL" in asked()


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        *((THROTTLED, "busy"), (AWAY, "away"), (DENIED, "denied"), (OSError(28, "No space left"), "full")),
        (KeyError(), "other"),
    ],
)
def test_each_kind_of_failure_has_its_sentence(error: Exception, kind: str, memory: Address) -> None:
    faulty = Faulty()
    objects = Objects(memory, faulty)
    faulty.fails = lambda call, path: error
    sentence = rf"{memory}/x: could not be written: .*; .*, then run `tskd-tune resume`"
    with pytest.raises(StorageError, match=sentence) as told:
        objects.write("x", b"")
    assert told.value.kind == kind


def test_a_package_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    import fsspec

    fsspec.registry.clear() if hasattr(fsspec.registry, "clear") else None
    monkeypatch.setitem(sys.modules, "s3fs", None)
    monkeypatch.setattr(fsspec.core, "url_to_fs", _raises(ImportError("Install s3fs to access S3")))
    with pytest.raises(InputError, match=r"package s3fs is missing on this machine; .*pip install 'tskd-tune\[s3\]'"):
        Objects(Address("s3://bucket/x"))
    with pytest.raises(InputError, match=r"the package that fsspec needs for gs:// is missing"):
        Objects(Address("gs://bucket/x"))


def test_an_unknown_kind_of_storage_is_refused() -> None:
    with pytest.raises(InputError, match=r"nope://bucket/x: storage of this kind is not known .*; give an address"):
        Objects(Address("nope://bucket/x"))


def _raises(error: Exception):
    def act(*arguments: object, **options: object) -> None:
        raise error

    return act


class Clock:
    """A clock that goes on while somebody waits."""

    def __init__(self, patience: Patience) -> None:
        self.now = 0.0
        patience._clock = lambda: self.now
        patience._hurry.wait = self.wait  # type: ignore[method-assign,assignment]

    def wait(self, seconds: float | None = None) -> bool:
        self.now += seconds or 0
        return False


def test_what_fails_for_a_while_is_repeated_and_said(memory: Address) -> None:
    faulty, told = Faulty(), list[str]()
    patience = Patience(told.append, seconds=300)
    clock = Clock(patience)
    faulty.fails = lambda call, path: AWAY if clock.now < 100 else None
    objects = Objects(memory, faulty)
    patience.repeat(lambda: objects.write("x", b"1"))
    assert objects.read("x") == b"1" and 100 <= clock.now < 121 and faulty.calls["pipe_file"] < 12
    assert 3 <= len(told) <= 5 and "does not answer (" in told[0] and "the training goes on" in told[0]
    assert told[-1] == "the storage works again; nothing was lost"


def test_what_fails_for_too_long_is_raised(memory: Address) -> None:
    faulty = Faulty()
    faulty.fails = lambda call, path: THROTTLED
    patience = Patience(lambda text: None, seconds=300)
    clock = Clock(patience)
    with pytest.raises(StorageError, match="busy"):
        patience.repeat(lambda: Objects(memory, faulty).write("x", b"1"))
    assert 270 < clock.now <= 300
