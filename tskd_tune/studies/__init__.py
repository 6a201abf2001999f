"""Studies of the method's claims: each is a command that trains, computes, and writes a page with its numbers."""

import tskd_tune.studies.extractor.study
import tskd_tune.studies.overhead.study
import tskd_tune.studies.target.study
import tskd_tune.studies.temporal.study  # noqa: F401 (each registers its study)
from tskd_tune.studies.base import STUDIES, Study

__all__ = ["STUDIES", "Study"]
