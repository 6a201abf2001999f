"""Sentences for what an object storage refuses or fails to do.

fsspec's file systems raise many kinds of errors. They are told apart by their standard kinds, by their numbers, and by
the names of the classes and codes of boto, without importing it.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from typing import Final, Literal

from tskd_tune.errors import UnwritableError
from tskd_tune.files import FULL

Kind = Literal["denied", "missing", "busy", "away", "full", "other"]

_DENIED: Final = {
    "NoCredentialsError", "PartialCredentialsError", "CredentialRetrievalError", "TokenRetrievalError",
    "UnauthorizedSSOTokenError", "SSOTokenLoadError", "ProfileNotFound", "InvalidAccessKeyId", "SignatureDoesNotMatch",
    "AccessDenied", "ExpiredToken", "DefaultCredentialsError", "RefreshError", "ClientAuthenticationError",
}  # fmt: skip
_MISSING: Final = {"NoSuchBucket", "BucketNotFound", "ContainerNotFound"}
_BUSY: Final = {"SlowDown", "ServiceUnavailable", "Throttling", "ThrottlingException", "RequestLimitExceeded", "503"}
_AWAY: Final = {
    "EndpointConnectionError", "ConnectTimeoutError", "ReadTimeoutError", "ConnectionClosedError", "HTTPClientError",
    "ClientError", "ClientConnectorError", "ServerDisconnectedError", "FSTimeoutError", "ResponseStreamingError",
    "InternalError", "RequestTimeout", "500", "IncompleteReadError", "ProxyConnectionError", "SSLError",
}  # fmt: skip
_SENTENCES: Final[dict[Kind, tuple[str, str]]] = {
    "denied": (
        "the storage refuses this user",
        "give the right credentials (for S3: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, AWS_PROFILE, or a role of the"
        " machine) that may list, read, write and delete there",
    ),
    "missing": ("there is no such bucket", "make the bucket, or correct the address"),
    "busy": ("the storage is busy and refuses requests for now", "wait a little"),
    "away": (
        "the storage does not answer",
        "check the network and the address (for S3-like storage AWS_ENDPOINT_URL)",
    ),
    "full": ("the storage is full", "free some space there"),
    "other": ("the storage reports an error", "check the storage"),
}


class StorageError(UnwritableError):
    """An object storage refused or failed.

    Attributes:
        kind: what went wrong.
        problem: what went wrong in words, without the place and without the remedy.
        remedy: what to do about it.
    """

    def __init__(self, place: str, action: str, kind: Kind, said: str) -> None:
        """Make the sentence for a failed ``action`` (``read``, ``written``) on ``place``; ``said`` is the cause."""
        what, self.remedy = _SENTENCES[kind]
        self.kind: Kind = kind
        self.problem = f"{what} ({said})"
        again = "try again" if action == "read" else "run `tskd-tune resume`"
        super().__init__(f"{place}: could not be {action}: {self.problem}; {self.remedy}, then {again}")

    def __reduce__(self) -> tuple[object, ...]:
        """Pickle the sentence as it is."""
        return _again, (str(self), self.kind, self.problem)


def _again(sentence: str, kind: Kind, problem: str) -> StorageError:
    error = StorageError.__new__(StorageError)
    UnwritableError.__init__(error, sentence)
    error.kind, error.problem, error.remedy = kind, problem, _SENTENCES[kind][1]
    return error


def understood(error: BaseException, place: str, action: str) -> StorageError:
    """Return the error for what a file system of fsspec raised."""
    said = " ".join(str(error).split())[:200] or type(error).__name__
    return StorageError(place, action, kind_of(error), said)


def kind_of(error: BaseException) -> Kind:
    """Tell what went wrong, from an error and its causes."""
    chain = list(_causes(error))
    names = {name for one in chain for name in _names(one)}
    numbers = {one.errno for one in chain if isinstance(one, OSError)}
    tests: list[tuple[Kind, bool]] = [
        ("missing", bool(names & _MISSING)),
        ("denied", bool(names & _DENIED) or any(isinstance(one, PermissionError) for one in chain)),
        ("full", bool(numbers & {*FULL})),
        ("busy", bool(names & _BUSY) or errno.EBUSY in numbers),
        ("away", bool(names & _AWAY) or any(isinstance(one, ConnectionError | TimeoutError) for one in chain)),
        ("away", bool(numbers & {errno.EREMOTEIO, errno.ETIMEDOUT, errno.EHOSTUNREACH, errno.ENETUNREACH})),
        ("missing", any(isinstance(one, FileNotFoundError) for one in chain)),
    ]
    return next((kind for kind, holds in tests if holds), "other")


def lacks_bucket(error: BaseException) -> bool:
    """Tell whether the storage says that not an object but the bucket is missing."""
    return any(name in _MISSING for one in _causes(error) for name in _names(one))


def _causes(error: BaseException) -> Iterator[BaseException]:
    seen: list[BaseException] = []
    now: BaseException | None = error
    while now is not None and now not in seen:
        seen.append(now)
        yield now
        now = now.__cause__ or now.__context__


def _names(error: BaseException) -> Iterator[str]:
    """Return the names that tell an error apart: of its class, and of the code that a server gave."""
    answer = getattr(error, "response", None)
    if isinstance(answer, dict):  # boto: every code is a ClientError, which says nothing
        yield str(answer.get("Error", {}).get("Code", ""))
    else:
        yield type(error).__name__
