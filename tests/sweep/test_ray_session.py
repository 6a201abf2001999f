"""The Ray of a sweep: which cluster it joins, and when it starts one of its own."""

from __future__ import annotations

from typing import Any

import pytest

from tskd_tune.sweep import ray_session


@pytest.mark.parametrize(("given", "address"), [(None, "local"), ("", "local"), ("10.0.0.1:6379", "10.0.0.1:6379")])
def test_only_the_cluster_that_is_named_is_joined(
    monkeypatch: pytest.MonkeyPatch, given: str | None, address: str
) -> None:
    joined: list[Any] = []
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    if given is not None:
        monkeypatch.setenv("RAY_ADDRESS", given)
    monkeypatch.setattr(ray_session.ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray_session.ray, "init", lambda where, **options: joined.append(where))
    monkeypatch.setattr(ray_session.ray, "shutdown", lambda: None)
    with ray_session.session():
        pass
    assert joined == [address]
