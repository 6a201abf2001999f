from tskd_tune.testing import SchedulerContract


class TestBar(SchedulerContract):
    component = "toy_scheduler:bar"
    flips = {"margin": {"margin": 0.1}, "patience": {"patience": 4}}  # noqa: RUF012
