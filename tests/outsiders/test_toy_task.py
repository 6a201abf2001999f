from tskd_tune.testing import TaskContract


class TestStripes(TaskContract):
    component = "toy_task:stripes"
    flips = {"batch_size": {"batch_size": 8}, "strength": {"strength": 32}}  # noqa: RUF012
