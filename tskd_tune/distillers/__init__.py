"""Distillation losses: one paper, one file."""

from typing import Any

from tskd_tune.contracts import Probe
from tskd_tune.distillers import (  # noqa: F401 (each import registers its distiller)
    at,
    combined,
    crd,
    detection_kd,
    dkd,
    dtd,
    ekd,
    fgfi,
    fitnet,
    ka,
    kd,
    logit_standardization,
    multi_level,
    none,
    ofd,
    pkt,
    review_kd,
    rkd,
    sad,
    sp,
    vid,
)
from tskd_tune.distillers.base import DISTILLERS, Distiller, Need, needs_of

__all__ = ["DISTILLERS", "Distiller", "Need", "build", "needs_of"]


def build(name: str, probe: Probe | None = None, **options: Any) -> Distiller:
    """Build a distiller by name, ``build("kd", probe, temperature=4.0)``.

    Raises:
        InputError: no distiller has this name.
        pydantic.ValidationError: an option is unknown or out of its bounds.
    """
    return DISTILLERS.build(name, probe, **options)
