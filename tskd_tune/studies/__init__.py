"""Studies of the method's claims: each is a command that trains, computes, and writes a page with its numbers."""

from tskd_tune.studies import extractor, overhead, target  # noqa: F401 (each import registers its study)
from tskd_tune.studies.base import STUDIES, Study
from tskd_tune.studies.temporal import study as temporal  # noqa: F401 (registers its study)

__all__ = ["STUDIES", "Study"]
