from tskd_tune.testing import SearcherContract


class TestBackwards(SearcherContract):
    component = "toy_searcher:backwards"
    options = {"trials": 4}  # noqa: RUF012
    trials = 4
