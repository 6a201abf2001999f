"""Removes secrets from texts that are written, printed or sent, such as the errors of other packages."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Final

SECRET_NAME: Final = re.compile(r"(?i)(?:^|_)(?:key|keys|token|secret|password|passwd|credentials?)(?:_|$)|api_?key")
"""The names of variables that hold secrets, such as WANDB_API_KEY and AWS_SECRET_ACCESS_KEY."""
SHORTEST: Final = 8
"""A shorter value is no secret, and would be found in other words."""

# Forms of secrets that are recognized wherever they come from -> what stands in their place.
_FORMS: Final = (
    (re.compile(r"(?<=://)[^\s/@:]+:[^\s/@]+(?=@)"), "[user and password]"),
    (re.compile(r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b"), "[access key of AWS]"),
    (re.compile(r"(?i)(?<=X-Amz-Signature=)[0-9a-f]{16,}|(?<=X-Amz-Security-Token=)[^&\s]+"), "[signature of AWS]"),
    (re.compile(r"(?i)\b(?<=Bearer )[\w.~+/-]{16,}=*|(?<=Basic )[\w+/]{16,}=*"), "[authorization]"),
)


def redacted(text: str, environment: Mapping[str, str] | None = None) -> str:
    """Return a text without the secrets of the environment, and without what has the form of a secret.

    Args:
        text: any text, such as a traceback.
        environment: the variables whose secrets are replaced by ``[NAME]``; None for those of this process.

    Example:
        >>> redacted("refused: key 0123456789abcdef", {"WANDB_API_KEY": "0123456789abcdef"})
        'refused: key [WANDB_API_KEY]'
    """
    for name, value in (os.environ if environment is None else environment).items():
        if len(value) >= SHORTEST and value in text and _is_secret(name, value):
            text = text.replace(value, f"[{name}]")
    for form, word in _FORMS:
        text = form.sub(word, text)
    return text


def _is_secret(name: str, value: str) -> bool:
    """Tell whether a variable holds a secret: its name says so, and its value is neither a path nor a number."""
    return bool(SECRET_NAME.search(name)) and not value.startswith(("/", "~", ".")) and not value.isdecimal()
