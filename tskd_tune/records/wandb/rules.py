"""Finds, before any training, what Weights & Biases would refuse in a sweep's file and in the environment.

W&B ignores mistakes in its own files of settings, so this module does not check those files.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from typing import Any, Final

from pydantic import ValidationError

from tskd_tune.errors import InputError
from tskd_tune.records.wandb.server import ID_LENGTH, Place
from tskd_tune.records.wandb.tracking import OWN_NAMES

PREFIX: Final = "WANDB_"
SECRET: Final = "WANDB_API_KEY"
# Names of users and teams: W&B's server allows no others.
ENTITY: Final = re.compile(r"[A-Za-z0-9_.-]{1,128}")
MODES_WITHOUT_W_AND_B: Final = ("disabled",)
# With only these values there is nothing to check; importing W&B would take seconds.
HARMLESS: Final = {"WANDB_MODE": ("online", "offline", "run", "dryrun"), "WANDB_SILENT": ("true", "false")}


def refuse(place: Place, *, track: bool = True, environment: Mapping[str, str] = os.environ) -> None:
    """Refuse what W&B would refuse later, in a trial, where the user would not notice.

    Args:
        place: the project and entity of the sweep's file.
        track: whether trials use W&B.
        environment: the environment variables.

    Raises:
        InputError: with one sentence per mistake.
    """
    found = problems(place, environment) if track else []
    if found:
        raise InputError("\n".join(found))


def problems(place: Place, environment: Mapping[str, str] = os.environ) -> list[str]:
    """Return one sentence per setting that W&B would refuse; none if W&B is disabled."""
    given = {name: value for name, value in environment.items() if name.startswith(PREFIX)}
    if given.get("WANDB_MODE") in MODES_WITHOUT_W_AND_B:
        return []
    found = [*_of_entity("wandb.entity", place.entity), *_of_entity("WANDB_ENTITY", given.get("WANDB_ENTITY"))]
    if place.project is not None:
        found += _told("wandb.project", place.project, lambda rules: setattr(rules, "project", place.project))
    for name, value in given.items():
        if value not in HARMLESS.get(name, ()):
            found += _of_variable(name, value)
    return found


def _of_entity(where: str, value: str | None) -> list[str]:
    if not value or ENTITY.fullmatch(value):
        return []
    return [
        f"{where}: W&B's users and teams have 1 to 128 letters, digits, '-', '_' or '.' as names, got {_short(value)};"
        f" give the name of a user or a team in {where}, or leave it out"
    ]


def _of_variable(name: str, value: str) -> list[str]:
    if name in OWN_NAMES and len(value) > ID_LENGTH:
        return [f"{name}: has {len(value)} characters, but W&B allows {ID_LENGTH}; shorten or unset {name}"]
    found = _told(name, value, lambda rules: rules.update_from_env_vars({name: value}))
    return found or (_of_key(value) if name == SECRET else [])


def _of_key(value: str) -> list[str]:
    try:
        from wandb.sdk.lib.wbauth.validation import check_api_key
    except ImportError:  # another version of W&B; its login reports a wrong key
        return []
    problem = check_api_key(value)
    return [f"{SECRET}: {problem} Set {SECRET} to a key of https://wandb.ai/authorize, or unset it"] if problem else []


def _told(where: str, value: str, attempt: Callable[[Any], None]) -> list[str]:
    """Try a value with W&B's own checks; return W&B's error as one sentence, or nothing."""
    from wandb.sdk.wandb_settings import Settings

    try:
        attempt(Settings())
    except ValidationError as error:
        said = error.errors(include_url=False)[0]["msg"].removeprefix("Value error, ")
    except Exception as error:  # W&B has its own errors, which are no ValueError
        said = str(error).partition("\n")[0]
    else:
        return []
    got = "" if where == SECRET else f", got {_short(value)}"
    return [f"{where}: W&B refuses it ({said}){got}; change or remove {where}"]


def _short(value: str) -> str:
    return repr(value if len(value) <= 60 else f"{value[:57]}...")
