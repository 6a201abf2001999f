from tskd_tune.testing import ExtractorContract


class TestFading(ExtractorContract):
    component = "toy_extractor:Fading"
    flips = {"fading": {"fading": 0.25}}  # noqa: RUF012
