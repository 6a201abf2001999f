"""The study of the review's target: dynamic or static, attached or detached, for increments and feature maps."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, ClassVar

from pydantic import NonNegativeInt

from tskd_tune.options import DISTINCT
from tskd_tune.plain import Json
from tskd_tune.studies.base import STUDIES, Study
from tskd_tune.studies.found import Found
from tskd_tune.studies.place import Place

SPACE = "study_target"


@STUDIES.register("target", source="TSKD, Section 3.3: a dynamic target guides the student better than static features")
class TargetStudy(Study):
    """Is the dynamic target better than the static one, and does it matter where the gradient flows?

    A sweep trains the arms of the search space `study_target` with paired seeds. All arms that review do so in the same
    epochs, with the same share of the gradient at their first review. What is said is what the judge of the reports
    says; with fewer than five seeds nothing is a finding.
    """

    quick: ClassVar[Mapping[str, Json]] = {
        "settings": [
            "experiment.task={name: digits, train: 300, validation: 0, batch_size: 32}",
            "experiment.teacher={name: resnet20, training: {epochs: 15, lr: 0.05}}",
            "experiment.student={name: resnet8}",
            "experiment.training={epochs: 9, lr: 0.05, milestones: [6]}",
            "experiment.review.k=2",
            "experiment.review.delta=1",
            "resources.cpu=1",
        ],
        "seeds": [1, 2, 3],
    }

    def __init__(
        self,
        *,
        space: str = SPACE,
        settings: list[str] = [],  # noqa: B006 - is only read
        seeds: Annotated[list[NonNegativeInt], DISTINCT] | None = None,
    ) -> None:
        """Set what is trained.

        Args:
            space: the search space, by name or as a YAML file; its arms are told apart by their targets and sequences.
            settings: settings of the sweep, ``key.key=value``, as `tskd-tune sweep --set` takes them.
            seeds: the seeds of every arm; null: those of the search space.
        """
        self._space = space
        self._settings = [*settings, *([] if seeds is None else [f"seeds={json.dumps(seeds)}"])]

    def run(self, place: Place) -> Found:
        """Train the sweep, or what is left of it, and read it as its report does."""
        from tskd_tune.reports.findings.summary import summary
        from tskd_tune.studies.target import found as target_found

        run = place.sweep(self._space, self._settings)
        results = summary(run)
        return target_found.found(results, {arm.arm: target_found.reviews_of(run, arm) for arm in results.arms})
