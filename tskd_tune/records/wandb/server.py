"""The Weights & Biases server: the account, whether the server answers, and the project of a sweep's runs."""

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
    """The values of W&B's settings that this package uses, from W&B's files and variables."""

    mode: str | None
    project: str | None
    entity: str | None
    base_url: str
    api_key: str | None
    identity_token_file: str | None


@dataclass(frozen=True)
class Place:
    """Project and entity of W&B runs in a sweep's YAML; W&B's own variables and files take precedence."""

    project: str | None = None
    entity: str | None = None

    @classmethod
    def of(cls, document: Mapping[str, Json]) -> Place:
        """Read the place from a resolved sweep; a single training has none."""
        given = document.get("wandb")
        named = given if isinstance(given, Mapping) else {}
        return cls(**{name: None if value is None else str(value) for name, value in named.items()})

    def project_in(self, known: Account) -> str:
        """Return the project, given W&B's settings."""
        return str(known.project or self.project or PROJECT)

    def entity_in(self, known: Account) -> str | None:
        """Return the user or team, given W&B's settings; None for the owner of the API key."""
        return known.entity or self.entity


@dataclass(frozen=True)
class Connection:
    """Whether W&B's server can be reached, checked once for all runs of a sweep.

    Attributes:
        offline: None if runs go to the server; otherwise why they stay offline, empty if the user did not ask for a
            server.
    """

    offline: str | None

    @classmethod
    def probe(cls, patience: float = 5.0) -> Connection:
        """Check the server once, for at most ``patience`` seconds."""
        if os.environ.get("WANDB_MODE") in ("offline", "dryrun", "disabled"):
            return cls("")  # W&B takes seconds to import
        return cls(_why_offline(account(), patience))

    @property
    def warning(self) -> str | None:
        """The warning for a user who asked for a server; None without a problem."""
        return kept_offline(self.offline) if self.offline else None


def account() -> Account:
    """Return W&B's settings: the server, key, entity and project that its files and variables name."""
    import wandb  # here, because the import takes seconds

    return cast("Account", wandb.setup(settings=wandb.Settings(silent=True)).settings)


def run_id(key: str, name: str, seed: int) -> str:
    """Return the id of a W&B run, from the sweep's key, the training's name and the seed."""
    # W&B allows these characters only.
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", f"{key}-{name}-seed{seed}")[-ID_LENGTH:].lstrip("-")


def run_key(folder: Path, sweep: str) -> str:
    """Return the key that distinguishes a sweep's W&B runs from the W&B runs of any other sweep, even of the same name.

    The key is written when the run's folder is made, so moving the folder does not change the key. Folders of earlier
    versions have no key, and their runs keep the old ids. If the folder does not exist, its path is the key.
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
    """Return None for a server that answers within ``patience`` seconds, otherwise a sentence without a full stop."""
    try:
        urllib.request.urlopen(url, timeout=patience).close()
    except urllib.error.HTTPError:
        return None  # the server answers, if only that the root address has no page
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
    """Return None for online, otherwise the reason for offline, which is empty if the user did not ask for a server."""
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
