"""What is wrong with a cluster file: Ray's own validator, and rules that keep a cluster closed and of one version."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final

from tskd_tune import documents
from tskd_tune.clusters.templates import placeholders
from tskd_tune.clusters.token import token_problem
from tskd_tune.clusters.versions import versions
from tskd_tune.sweeps.on_ray import ray_private

WORLD: Final = ("0.0.0.0/0", "::/0")
# The forms of secrets: keys of AWS, private keys, tokens of W&B, GitHub and Hugging Face, and passwords in commands.
SECRETS: Final = {
    "an access key of AWS": re.compile(r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b"),
    "a secret key of AWS": re.compile(r"(?i)aws_(?:secret_access_key|session_token)\s*[=:]\s*['\"]?[A-Za-z0-9/+=]{8,}"),
    "a private key": re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----"),
    "a key of Weights & Biases": re.compile(r"(?i)wandb_api_key\s*[=:]\s*['\"]?\w{8,}"),
    "a token": re.compile(r"(?i)(?:ray_auth_token|hf_token|github_token)\s*[=:]\s*['\"]?[\w-]{8,}|\bgh[ps]_\w{20,}"),
}
_RAY_PIN = re.compile(r"\bray(?:\[[\w,]+\])?==(\d[\w.]*)")
_OUR_PIN = re.compile(r"\btskd-tune(?:\[[\w,]+\])?==(\d[\w.]*)")
_DASHBOARD = re.compile(r"--dashboard-host[= ](\S+)")
_CPUS = re.compile(r"--num-cpus[= ](\d+)")
LOOPBACK: Final = ("127.0.0.1", "localhost", "::1")


@dataclass(frozen=True)
class ClusterFile:
    """A cluster file: its text, and its content as plain data."""

    text: str
    data: Mapping[str, object]

    @staticmethod
    def read(path: Path) -> ClusterFile:
        """Read a cluster file.

        Raises:
            InputError: the file cannot be read, or is no YAML.
        """
        return ClusterFile(path.read_text(encoding="utf-8"), documents.read(path))

    @cached_property
    def provider(self) -> Mapping[str, object]:
        """The options of the provider."""
        return _mapping(self.data.get("provider"))

    @cached_property
    def node_types(self) -> Mapping[str, Mapping[str, object]]:
        """The types of machines by their names; none for a cluster of existing machines."""
        return {name: _mapping(kind) for name, kind in _mapping(self.data.get("available_node_types")).items()}

    @cached_property
    def uncommented(self) -> str:
        """The text without comments."""
        return "\n".join(re.sub(r"(?:^|\s)#.*$", "", line) for line in self.text.splitlines())

    def commands(self, key: str) -> str:
        """Return the commands of a list as one text."""
        found = self.data.get(key)
        return "\n".join(str(line) for line in found) if isinstance(found, list) else ""

    @property
    def workers(self) -> int:
        """The largest number of workers."""
        given = self.data.get("max_workers", len(_items(self.provider.get("worker_ips"))))
        return given if isinstance(given, int) else 0


def mistakes(file: ClusterFile) -> list[str]:
    """Return a sentence for every mistake of a cluster file; none if `ray up` may use it."""
    left = placeholders(file.uncommented)
    found = [*_left(left), *_keys(file), *_open(file), *_token(file), *_head(file), *_versions(file), *_storage(file)]
    # Ray's validator knows no placeholders: where text stands for a number, its message would lead astray.
    return found if left else [*found, *_of_ray(file)]


def _left(left: Sequence[str]) -> Iterator[str]:
    if left:
        yield f"{', '.join(left)} must be filled in; write them, or make the file by `tskd-tune cluster init`"


def _of_ray(file: ClusterFile) -> Iterator[str]:
    try:
        ray_private.validate_cluster(file.data)
    except ModuleNotFoundError as error:
        yield f"Ray's validator needs {error.name}; install `ray[default]`"
    except Exception as error:  # jsonschema and Ray raise several kinds
        path = ".".join(str(part) for part in getattr(error, "absolute_path", ()))
        said = str(getattr(error, "message", error)).strip().partition("\n")[0][:300]
        yield f"{path}: Ray refuses it: {said}; correct it" if path else f"Ray refuses the file: {said}; correct it"


def _open(file: ClusterFile) -> Iterator[str]:
    for world in WORLD:
        if world in file.uncommented:
            yield f"{world} opens a port to the whole Internet; write your own address, such as 203.0.113.7/32"
    if file.provider.get("type") == "aws":
        if "security_group" in file.provider:
            yield (
                "provider.security_group adds rules to a group of Ray's that opens SSH to the whole Internet; remove"
                " it, and name a group of your own at SecurityGroupIds of each type of machine"
            )
        for name, kind in file.node_types.items():
            config = _mapping(kind.get("node_config"))
            if not config.get("SecurityGroupIds") and not config.get("NetworkInterfaces"):
                yield (
                    f"available_node_types.{name} has no SecurityGroupIds, so Ray makes a group that opens SSH to the"
                    " whole Internet; name a group of your own"
                )
    hosts = _DASHBOARD.findall(file.commands("head_start_ray_commands"))
    for host in hosts:
        if host not in LOOPBACK:
            yield (
                f"head_start_ray_commands: --dashboard-host={host} opens the dashboard, which runs any code that it is"
                " sent; write --dashboard-host=127.0.0.1"
            )
    if not hosts:
        yield "head_start_ray_commands: --dashboard-host is missing; write --dashboard-host=127.0.0.1"


def _token(file: ClusterFile) -> Iterator[str]:
    for key in ("head_start_ray_commands", "worker_start_ray_commands"):
        starts = [line for line in file.commands(key).splitlines() if "ray start" in line]
        if not all("RAY_AUTH_MODE=token" in line for line in starts) or not starts:
            yield f"{key}: `ray start` asks for no token, so anyone on its network runs code; add RAY_AUTH_MODE=token"
    mounts = _mapping(file.data.get("file_mounts"))
    if not any(remote.endswith(".ray/auth_token") for remote in mounts):
        yield "file_mounts: the token reaches no machine; write `~/.ray/auth_token: ~/.ray/auth_token`"
    if "RAY_AUTH_MODE=token" in file.text and (problem := token_problem()):
        yield problem


def _head(file: ClusterFile) -> Iterator[str]:
    starts = file.commands("head_start_ray_commands")
    cpus = _CPUS.findall(starts)
    if cpus != ["0"]:
        given = f"--num-cpus={cpus[0]}" if cpus else "no --num-cpus"
        yield (
            f"head_start_ray_commands has {given}, so the head runs trials, and a trial that exhausts its memory ends"
            " the sweep; write --num-cpus=0 --num-gpus=0"
        )
    head = str(file.data.get("head_node_type", ""))
    resources = _mapping(file.node_types.get(head, {}).get("resources"))
    if head in file.node_types and (resources.get("CPU"), resources.get("GPU", 0)) != (0, 0):
        yield f"available_node_types.{head}.resources lets the head run trials; write `resources: {{CPU: 0, GPU: 0}}`"


def _versions(file: ClusterFile) -> Iterator[str]:
    here = versions()
    written = _mapping(file.data.get("metadata"))
    for name, pin, key, own in (
        ("Ray", _RAY_PIN, "ray", here["RAY-VERSION"]),
        ("tskd-tune", _OUR_PIN, "tskd_tune", here["VERSION"]),
    ):
        found = {*pin.findall(file.uncommented), *([str(written[key])] if key in written else [])}
        other = sorted(one for one in found if one != own and not placeholders(one))
        if other:
            yield (
                f"the cluster would install {name} {', '.join(other)}, but this machine has {name} {own}; make the file"
                f" anew by `tskd-tune cluster init`, or install {name} {other[0]} here"
            )
        if name == "Ray" and not found:
            yield f"setup_commands: no version of Ray is pinned; write `ray[default,tune]=={own}`, as on this machine"


def _keys(file: ClusterFile) -> Iterator[str]:
    for number, line in enumerate(file.text.splitlines(), 1):
        for what, pattern in SECRETS.items():
            if pattern.search(line):
                yield f"line {number} holds {what}, and the file goes to every machine; remove it, and make a new one"


def _storage(file: ClusterFile) -> Iterator[str]:
    storage = str(_mapping(file.data.get("metadata")).get("storage", ""))
    shared = storage or "s3://" in file.uncommented or re.search(r"\bmount\b", file.commands("setup_commands"))
    if file.workers > 0 and not shared:
        yield (
            "the machines share no storage, so a trial could not continue on another machine; write"
            " `metadata: {storage: s3://BUCKET/runs}`, or the folder that all machines share"
        )


def _mapping(value: object) -> Mapping[str, object]:
    return {str(key): inner for key, inner in value.items()} if isinstance(value, Mapping) else {}


def _items(value: object) -> Sequence[object]:
    return value if isinstance(value, list) else []
