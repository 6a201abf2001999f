from __future__ import annotations

import re
import subprocess

from tskd_tune.records.entries import provenance
from tskd_tune.version import __version__


def test_versions_name_this_package_python_and_what_is_installed(monkeypatch):
    found = provenance.versions()
    assert found["tskd-tune"] == __version__
    assert found["torch"].count(".") >= 1
    monkeypatch.setattr(provenance, "PACKAGES", ("a-package-that-is-nowhere",))
    provenance._versions.cache_clear()
    assert set(provenance.versions()) == {"tskd-tune", "python"}
    provenance._versions.cache_clear()


def test_the_commit_is_a_hash_or_nothing(monkeypatch):
    provenance.commit.cache_clear()
    assert re.fullmatch(r"[0-9a-f]{40}(-dirty)?", provenance.commit() or "0" * 40)
    monkeypatch.setattr(provenance, "_git", lambda folder, *words: "a" * 40 if words[0] != "status" else "")
    provenance.commit.cache_clear()
    assert provenance.commit() == "a" * 40
    monkeypatch.setattr(provenance, "_git", lambda folder, *words: "a" * 40)
    provenance.commit.cache_clear()
    assert provenance.commit() == "a" * 40 + "-dirty"
    monkeypatch.setattr(provenance, "_git", lambda folder, *words: None)
    provenance.commit.cache_clear()
    assert provenance.commit() is None
    provenance.commit.cache_clear()


def test_git_that_is_away_or_stuck_is_no_commit(monkeypatch, tmp_path):
    assert provenance._git(tmp_path, "rev-parse", "HEAD") is None
    for error in (FileNotFoundError("git"), subprocess.TimeoutExpired("git", 10)):

        def away(*args, error=error, **named):
            raise error

        monkeypatch.setattr(provenance.subprocess, "run", away)
        assert provenance._git(tmp_path, "rev-parse", "HEAD") is None
