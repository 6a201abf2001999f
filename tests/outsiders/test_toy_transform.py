from tskd_tune.testing import TransformContract


class TestEnergy(TransformContract):
    component = "toy_transform:Energy"
    flips = {"damping": {"damping": 2.0}}  # noqa: RUF012
