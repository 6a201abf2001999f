from tskd_tune.testing import DistillerContract


class TestGaps(DistillerContract):
    component = "toy_distiller:Gaps"
    flips = {"weight": {"weight": 2.0}}  # noqa: RUF012
