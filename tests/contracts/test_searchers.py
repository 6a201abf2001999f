"""What every registered searcher promises, whatever it is: the kit that outsiders run too."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from tskd_tune.sweeps.searching.search import SEARCHERS
from tskd_tune.testing import SearcherContract


class TestEverySearcher(SearcherContract):
    @pytest.fixture(params=SEARCHERS.names())
    def name(self, request: pytest.FixtureRequest) -> str:
        return str(request.param)

    def options_of(self, name: str) -> Mapping[str, Any]:
        return {} if name == "grid" else {"trials": 6}
