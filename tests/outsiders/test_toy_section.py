from tskd_tune.testing import SectionContract


class TestSeeds(SectionContract):
    component = "toy_section:Seeds"
