from __future__ import annotations

import re
import subprocess

from tskd_tune import __version__
from tskd_tune.records import pedigree


def test_versions_name_this_package_python_and_what_is_installed(monkeypatch):
    found = pedigree.versions()
    assert found["tskd-tune"] == __version__
    assert found["torch"].count(".") >= 1
    monkeypatch.setattr(pedigree, "PACKAGES", ("a-package-that-is-nowhere",))
    assert set(pedigree.versions()) == {"tskd-tune", "python"}


def test_the_commit_is_a_hash_or_nothing(monkeypatch):
    pedigree.commit.cache_clear()
    assert re.fullmatch(r"[0-9a-f]{40}(-dirty)?", pedigree.commit() or "0" * 40)
    monkeypatch.setattr(pedigree, "_git", lambda folder, *words: "a" * 40 if words[0] != "status" else "")
    pedigree.commit.cache_clear()
    assert pedigree.commit() == "a" * 40
    monkeypatch.setattr(pedigree, "_git", lambda folder, *words: "a" * 40)
    pedigree.commit.cache_clear()
    assert pedigree.commit() == "a" * 40 + "-dirty"
    monkeypatch.setattr(pedigree, "_git", lambda folder, *words: None)
    pedigree.commit.cache_clear()
    assert pedigree.commit() is None
    pedigree.commit.cache_clear()


def test_git_that_is_away_or_stuck_is_no_commit(monkeypatch, tmp_path):
    assert pedigree._git(tmp_path, "rev-parse", "HEAD") is None
    for error in (FileNotFoundError("git"), subprocess.TimeoutExpired("git", 10)):

        def away(*args, error=error, **named):
            raise error

        monkeypatch.setattr(pedigree.subprocess, "run", away)
        assert pedigree._git(tmp_path, "rev-parse", "HEAD") is None
