"""Weights & Biases' server: which account is used, whether the server answers, and where a sweep's runs go."""

from __future__ import annotations

import hashlib
import json
import netrc
import os
import re
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol, cast
from urllib.parse import urlparse

from tskd_tune.plain import Json

PROJECT: Final = "tskd-tune"
ID_LENGTH: Final = 128


class Account(Protocol):
    """W&B's settings, as far as they are read: what its files and variables say."""

    mode: str | None
    project: str | None
    entity: str | None
    base_url: str
    api_key: str | None
    identity_token_file: str | None


@dataclass(frozen=True)
class Place:
    """Where a sweep's YAML sends W&B runs; W&B's own variables and files stand above it."""

    project: str | None = None
    entity: str | None = None

    @classmethod
    def of(cls, document: Mapping[str, Json]) -> Place:
        """Read the place that a resolved sweep names; a single training names none."""
        given = document.get("wandb")
        named = given if isinstance(given, Mapping) else {}
        return cls(**{name: None if value is None else str(value) for name, value in named.items()})

    def project_in(self, known: Account) -> str:
        """Return the project, given W&B's settings."""
        return str(known.project or self.project or PROJECT)

    def entity_in(self, known: Account) -> str | None:
        """Return the user or team, given W&B's settings; None for that of the key."""
        return known.entity or self.entity


@dataclass(frozen=True)
class Connection:
    """Whether W&B's server can be reached, looked up once for all runs of a sweep.

    Attributes:
        offline: None where runs go to the server; otherwise why they stay offline, empty where nobody asked for a
            server.
    """

    offline: str | None

    @classmethod
    def probe(cls, patience: float = 5.0) -> Connection:
        """Look up the server once, for at most so many seconds."""
        if os.environ.get("WANDB_MODE") in ("offline", "dryrun", "disabled"):
            return cls("")  # W&B takes seconds to import
        return cls(_why_offline(account(), patience))

    @property
    def warning(self) -> str | None:
        """The sentence for a user who asked for a server; None where there is nothing to say."""
        return kept_offline(self.offline) if self.offline else None


def account() -> Account:
    """Return W&B's settings: the server, key, entity and project that its files and variables name."""
    import wandb  # here, because it takes seconds

    return cast("Account", wandb.setup(settings=wandb.Settings(silent=True)).settings)


def run_id(key: str, name: str, seed: int) -> str:
    """Return the id of a W&B run: a function of the sweep's key, the training's name and its seed."""
    # W&B allows these characters only.
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", f"{key}-{name}-seed{seed}")[-ID_LENGTH:].lstrip("-")


def run_key(folder: Path, sweep: str) -> str:
    """Return the key that tells a sweep's W&B runs from those of any other sweep, even of the same name.

    The key is written when the run's folder is made, so it stays when the folder is moved. Folders of earlier versions
    have no key, and their runs keep the ids that they had. Where there is no folder, its path is the key.
    """
    try:
        state = json.loads((folder / "state.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return f"{sweep}-{hashlib.sha256(str(folder).encode()).hexdigest()[:8]}"
    return str(state.get("id") or sweep)


def kept_offline(reason: str) -> str:
    """Return the sentence for a run that stays offline."""
    return f"{reason} is kept offline; send it later with `tskd-tune sync`"


def why_away(url: str, patience: float) -> str | None:
    """Return None for a server that answers within so many seconds, otherwise a sentence without its full stop."""
    try:
        urllib.request.urlopen(url, timeout=patience).close()
    except urllib.error.HTTPError:
        return None  # it answers, if only to say that there is nothing at its root
    except OSError as error:
        return f"the server {url} is away ({first_line(error)})"
    return None


def has_key(settings: Account) -> bool:
    """Return whether W&B's settings, the environment or a netrc file hold a key for the server."""
    if settings.api_key or settings.identity_token_file:
        return True
    places = [os.environ.get("NETRC"), "~/.netrc", "~/_netrc"]
    return any(_netrc_knows(Path(place).expanduser(), settings.base_url) for place in places if place)


def first_line(error: BaseException) -> str:
    """Return the first line of an error's text."""
    return str(error).partition("\n")[0]


def _why_offline(known: Account, patience: float) -> str | None:
    """Return None for online, otherwise the reason for offline, which is empty where nobody asked for a server."""
    if known.mode in ("offline", "dryrun"):
        return ""
    if not has_key(known):
        return (
            "WANDB_MODE asks for a server but there is no key (`wandb login`); the run" if _asked_for_server() else ""
        )
    away = why_away(known.base_url, patience)
    return f"{away}; the run" if away else None


def _asked_for_server() -> bool:
    return os.environ.get("WANDB_MODE") in ("online", "run", "shared")


def _netrc_knows(path: Path, url: str) -> bool:
    try:
        return netrc.netrc(path).authenticators(urlparse(url).hostname or "") is not None
    except (OSError, netrc.NetrcParseError):
        return False
