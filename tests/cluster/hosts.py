"""Hosts of the tests' own on this machine: each has a network address, processes, files in /root and /tmp, and SSH.

A host is a process in namespaces of its own (network, processes, mounts, name). The hosts are joined by a bridge in one
more namespace, which leads nowhere else. The rest of the file system is this machine's, so what is installed here is
installed on every host. All hosts end with the process that started them; nothing of them is left.
"""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
SHARED = "/mnt/shared"
PROGRAMS = ("ip", "unshare", "nsenter", "setpriv", "mount", "ssh", "ssh-keygen", "sshd", "rsync", "pgrep")
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
SUBNET = "10.77.0"
# Seconds; more than anything takes on a machine that has ten times as much to do as it can.
PATIENCE = 900.0
# So that no host outlives the tests, however these end.
WITH_US = ["setpriv", "--pdeathsig", "KILL"]


def why_not() -> str:
    """Say why this machine cannot have such hosts; an empty text if it can."""
    if sys.platform != "linux":
        return "hosts are namespaces of Linux"
    if os.geteuid() != 0:
        return "only root may make namespaces with a network"
    missing = [name for name in PROGRAMS if shutil.which(name, path=PATH) is None]
    if missing:
        return f"not installed: {', '.join(missing)} (tests/cluster/prepare installs them)"
    tried = subprocess.run(["unshare", "-n", "-p", "-f", "-m", "--mount-proc", "ip", "link", "add", "type", "bridge"],
                           capture_output=True, text=True)  # fmt: skip
    return "" if tried.returncode == 0 else f"no namespaces or no bridge here: {tried.stderr.strip()}"


class HostError(Exception):
    """A command on a host failed."""


class Network:
    """Hosts on one bridge."""

    def __init__(self, folder: Path) -> None:
        """Make a network without hosts; the files of its hosts lie in ``folder``."""
        self.folder = folder
        self.hosts: list[Host] = []
        self.share = folder / "shared"
        self.share.mkdir()
        self._key = folder / "key"
        _do("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", self._key)
        self._process = subprocess.Popen([*WITH_US, "unshare", "-n", "--kill-child", "-f", "sleep", "infinity"])
        until(lambda: _has_own_network(self._process.pid), "the namespace of the bridge")
        self.ip("link", "add", "bridge", "type", "bridge")
        self.ip("link", "set", "bridge", "up")

    def host(self, name: str) -> Host:
        """Start one more host."""
        host = Host(self, name, len(self.hosts) + 1)
        _furnish(host.home, self._key)
        self.hosts.append(host)
        host.start()
        return host

    def ip(self, *words: object) -> None:
        """Run ``ip`` in the namespace of the bridge."""
        _do("nsenter", "-n", "-t", self._process.pid, "ip", *words)

    @property
    def pid(self) -> int:
        """A process in the namespace of the bridge."""
        return self._process.pid

    def close(self) -> None:
        """End every host, with all of its processes."""
        for host in self.hosts:
            host.kill()
        self._process.kill()
        self._process.wait()


class Host:
    """One host.

    Attributes:
        name: its name.
        address: its IP address.
        home: its /root, as this machine sees it; it outlives a killed host.
    """

    def __init__(self, network: Network, name: str, number: int) -> None:
        """Describe a host; `start` starts it."""
        self.name = name
        self.address = f"{SUBNET}.{number}"
        self.home = network.folder / name
        self._network = network
        self._port = f"port{number}"
        # A host that was started again has its old card, so that the others still know its address.
        self._card = f"02:00:00:00:00:{number:02x}"
        self._process: subprocess.Popen[bytes] | None = None
        self._first = 0

    def start(self) -> None:
        """Start the host, or start it again after `kill`; it is ready when its SSH server answers."""
        spaces = ["unshare", "-n", "-p", "-f", "-m", "-u", "-i", "--mount-proc", "--kill-child"]
        enter = [Path(__file__).parent / "enter", self.name, self.home, self._network.share, *_kept()]
        log = (self.home.parent / f"{self.name}.log").open("ab")
        self._process = subprocess.Popen([*WITH_US, *spaces, *map(str, enter)], stdout=log, stderr=log)
        log.close()
        pid = self._process.pid
        until(lambda: bool(_children(pid)), f"the first process of {self.name}")
        [self._first] = _children(pid)
        peer = ["peer", "name", "eth0", "address", self._card, "netns", self._first]
        self._network.ip("link", "add", self._port, "type", "veth", *peer)
        self._network.ip("link", "set", self._port, "master", "bridge", "up")
        for words in (["link", "set", "lo", "up"], ["addr", "add", f"{self.address}/24", "dev", "eth0"]):
            _do("nsenter", "-n", "-t", self._first, "ip", *words)
        _do("nsenter", "-n", "-t", self._first, "ip", "link", "set", "eth0", "up")
        until(lambda: self.run("ssh-keyscan -T 1 127.0.0.1", check=False).returncode == 0, f"SSH of {self.name}")

    def kill(self) -> None:
        """Take the power away: the first process of the host is killed, and with it all others."""
        if self._process is None:
            return
        os.kill(self._first, signal.SIGKILL)
        self._process.wait()
        self._process = None

    def cut(self) -> None:
        """Pull the network cable: nobody is told, and the host goes on."""
        self._network.ip("link", "set", self._port, "down")

    def mend(self) -> None:
        """Put the network cable back."""
        self._network.ip("link", "set", self._port, "up")

    def begin(self, command: str, *, seconds: float = 600) -> subprocess.Popen[str]:
        """Begin a command as the user of this host would, in a login shell in the home folder."""
        env = {"HOME": "/root", "USER": "root", "LOGNAME": "root", "PATH": PATH, "TERM": "dumb", "LANG": "C.UTF-8"}
        inside = ["nsenter", "-t", str(self._first), "-m", "-u", "-i", "-n", "-p"]
        limited = ["timeout", "--kill-after=2", f"{seconds:g}", "bash", "-l", "-c", f"cd; {command}"]
        streams: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        return subprocess.Popen([*WITH_US, *inside, *limited], env=env, text=True, **streams)

    def run(self, command: str, *, seconds: float = PATIENCE, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a command and return its end; what it wrote to both streams is in ``stdout``.

        Raises:
            HostError: the command failed, or took longer than ``seconds``.
        """
        process = self.begin(command, seconds=seconds)
        said, _ = process.communicate()
        if process.returncode in (124, 137):
            raise HostError(f"{self.name}: {command}: not within {seconds:g} s:\n{said}")
        if check and process.returncode:
            raise HostError(f"{self.name}: {command}: exit status {process.returncode}:\n{said}")
        return subprocess.CompletedProcess(command, process.returncode, said)

    def processes(self, *names: str) -> list[int]:
        """Return the processes of this host with one of these names; without names, all processes of Ray's."""
        pattern = "|".join(names or ("gcs_server", "raylet", "ray::.*", "tskd-tune"))
        found = self.run(f"pgrep -f {shlex.quote(f'^(.*/)?({pattern})')}", check=False).stdout
        return [int(word) for word in found.split()]


def until(holds: Callable[[], object], what: str, every: float = 0.1) -> float:
    """Wait until ``holds`` returns something true; return how long that took, in seconds.

    Raises:
        AssertionError: it took longer than `PATIENCE`.
    """
    began = time.monotonic()
    while not holds():
        assert time.monotonic() < began + PATIENCE, f"{what}: not within {PATIENCE:g} s"
        time.sleep(every)
    return time.monotonic() - began


def _do(*words: object) -> None:
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True)
    if done.returncode:
        raise HostError(f"{shlex.join(map(str, words))}: {done.stderr.strip()}")


def _furnish(home: Path, key: Path) -> None:
    """Give a host its /root: the keys of SSH, and a shell that finds this Python and this package."""
    ssh = home / ".ssh"
    ssh.mkdir(parents=True, mode=0o700)
    shutil.copy(key, ssh / "id_ed25519")
    shutil.copy(key.with_suffix(".pub"), ssh / "authorized_keys")
    _do("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", ssh / "host_key")
    (ssh / "config").write_text("StrictHostKeyChecking no\nUserKnownHostsFile /dev/null\nLogLevel ERROR\n")
    lines = [f"export PATH={Path(sys.executable).parent}:$PATH PYTHONPATH={ROOT}", "export OMP_NUM_THREADS=1"]
    (home / ".bashrc").write_text("\n".join(lines) + "\n")
    (home / ".bash_profile").write_text(". ~/.bashrc\n")


def _kept() -> list[str]:
    """Return the folders of this machine that a host needs, and that its own /root or /tmp would hide."""
    folders = {str(ROOT), sys.prefix, sys.base_prefix, os.path.realpath(sys.base_prefix)}
    return sorted(path for path in folders if path.startswith(("/tmp/", "/root/", "/run/", "/mnt/", "/dev/shm/")))


def _children(pid: int) -> list[int]:
    try:
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def _has_own_network(pid: int) -> bool:
    return bool(_children(pid)) and Path(f"/proc/{pid}/ns/net").readlink() != Path("/proc/self/ns/net").readlink()
