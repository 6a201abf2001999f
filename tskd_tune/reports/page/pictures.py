"""The small pictures of a run's samples, as the page embeds them."""

from __future__ import annotations

from typing import Final

from tskd_tune.reports.findings.examples import Gallery

PNG: Final = "iVBORw0KGgo"
"""How the base64 of a PNG file begins; all other pictures are JPEG files."""

NO_IMAGES: Final = (
    "The images are not in this run: evaluation.examples asked for none, or the task has no single images to show."
)


def source_of(gallery: Gallery, place: int) -> str:
    """Return the picture of a sample as an address that holds the picture itself; empty where there is none."""
    images = [] if gallery.pictures is None else gallery.pictures.images
    if place >= len(images):
        return ""
    return f"data:image/{'png' if images[place].startswith(PNG) else 'jpeg'};base64,{images[place]}"


def has_images(gallery: Gallery) -> bool:
    """Tell whether the run has the pictures of the samples."""
    return gallery.pictures is not None and bool(gallery.pictures.images)
