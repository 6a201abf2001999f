"""Words that several sections of the page use."""

from __future__ import annotations


def minute(time: str) -> str:
    """Return an ISO 8601 time to the minute, in a readable form."""
    return time[:16].replace("T", " ")
