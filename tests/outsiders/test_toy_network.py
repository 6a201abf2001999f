from tskd_tune.testing import NetworkContract


class TestThreeConvolutions(NetworkContract):
    component = "toy_network:ThreeConvolutions"
    options = {"width": 8}  # noqa: RUF012
