"""What a trial trains, as a record; only Ray Tune gets it as plain data."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace

from tskd_tune.plain import Document

UNNUMBERED = -1


@dataclass(frozen=True)
class TrialConfig:
    """What one trial trains.

    Attributes:
        arm: the label of the point.
        point: search parameter -> sampled value.
        experiment: the resolved experiment, without its seed.
        seeds: the seeds that train in lockstep.
        teacher: the key of the trial's teacher among the teachers that the sweep sends; None if it needs none of these.
        identity: the digest of the experiment, which names the trial's trainings.
        number: the number of the trial in the sweep, which names the trial's folder; `UNNUMBERED` until a searcher
            suggests the trial.
        others: the configs of the trials that train in the same process, a bundle, as plain data.
    """

    arm: str
    point: Document
    experiment: Document
    seeds: list[int] = field(default_factory=list)
    teacher: str | None = None
    identity: str = ""
    number: int = UNNUMBERED
    others: list[Document] = field(default_factory=list)

    @property
    def run(self) -> str:
        """The id of the trial, which names its folder."""
        return f"{self.number:05d}"

    def members(self) -> list[TrialConfig]:
        """Return the config of every trial of the bundle, this one first and each without the others."""
        return [replace(self, others=[]), *(TrialConfig(**other) for other in self.others)]

    def plain(self) -> Document:
        """Return the config as plain data for Ray Tune."""
        return {"number": self.number, **asdict(self)}
