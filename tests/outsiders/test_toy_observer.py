from tskd_tune.testing import ObserverContract


class TestWeight(ObserverContract):
    component = "toy_observer:Weight"
    flips = {"scale": {"scale": 2.0}}  # noqa: RUF012
