"""Networks of this process's own: two hosts with two routers between them, or one without UDP.

Each host is a network namespace that lives as long as one process that holds it, and that process
ends with its standard input. So nothing has a name that others could have too, and nothing stays,
however the tests end.
"""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
from types import TracebackType
from typing import Self

__all__ = [
    "CLIENT",
    "HAS_UDP",
    "SERVER",
    "Network",
    "NoUdp",
    "why_no_mounts",
    "why_no_rules",
    "why_not",
]

HAS_UDP = "PYWEBTRANSPORT_TEST_WITHOUT_UDP" not in os.environ
"""UDP packets arrive where this process is; see ``tests/without_udp``."""

CLIENT, SERVER = "10.71.0.1", "10.71.2.2"
_LINKS = (
    ("client", f"{CLIENT}/24", "near", "10.71.0.2/24"),
    ("near", "10.71.1.1/24", "far", "10.71.1.2/24"),
    ("far", "10.71.2.1/24", "server", f"{SERVER}/24"),
)
_ROUTES = (
    ("client", "10.71.0.2"),
    ("near", "10.71.1.2"),
    ("far", "10.71.1.1"),
    ("server", "10.71.2.1"),
)
_HOLD = "echo ready; exec cat"
_ETHERNET = 1500


@functools.cache
def why_not() -> str:
    """Why this machine gives us no network namespaces; "" if it does."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    for program in ("unshare", "nsenter", "ip"):
        if shutil.which(program) is None:
            return f"network namespaces need the program {program}"
    script = "ip link set lo up && ip link add a0 type veth peer name b0 && ip rule"
    done = subprocess.run(
        ["unshare", "--net", "sh", "-c", script], capture_output=True, text=True, check=False
    )
    return f"no network namespaces here: {done.stderr.strip()}" if done.returncode else ""


@functools.cache
def why_no_rules() -> str:
    """Why this machine does not let us drop packets in a network namespace; "" if it does."""
    if why_not():
        return why_not()
    if shutil.which("nft") is None:
        return "rules for packets need the program nft (Debian package `nftables`)"
    done = subprocess.run(
        ["unshare", "--net", "nft", "-f", "-"],
        input=_drop_udp("127.0.0.1"),
        capture_output=True,
        text=True,
        check=False,
    )
    return f"no rules for packets here: {done.stderr.strip()}" if done.returncode else ""


@functools.cache
def why_no_mounts() -> str:
    """Why this machine gives us no file system of our own; "" if it does."""
    if os.geteuid() != 0:
        return "mount namespaces need root"
    if shutil.which("unshare") is None:
        return "mount namespaces need the program unshare"
    # It fails in a chroot: its root is no mount whose propagation could change.
    command = ["unshare", "--mount", "--propagation", "private", "true"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return f"no mount namespaces here: {done.stderr.strip()}" if done.returncode else ""


class Network:
    """Hosts ``client`` and ``server``, routers ``near`` and ``far``, in one line."""

    def __init__(self) -> None:
        self._holders: dict[str, subprocess.Popen[str]] = {}

    def __enter__(self) -> Self:
        try:
            for name in ("client", "near", "far", "server"):
                self._hold(name)
            for left, left_address, right, right_address in _LINKS:
                self._link(left, left_address, right, right_address)
            for name, router in _ROUTES:
                self._ip(name, "route", "add", "default", "via", router)
                self.run(name, "sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward")
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        self._end()

    def inside(self, name: str) -> list[str]:
        """What stands before a command that is to run there."""
        return _inside(self._holders[name])

    def run(self, name: str, *command: str) -> None:
        """Run a command there.

        Raises:
            AssertionError: It failed; the message is what it said.
        """
        done = subprocess.run(
            [*self.inside(name), *command], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{command}: {done.stderr.strip()}"

    def narrow(self, where: str, mtu: int = _ETHERNET) -> None:
        """Give a link another MTU.

        Args:
            where: ``client`` or ``server``: that host's own interface. ``middle``: the link
                between the routers, at both ends.
            mtu: In bytes; by default that of Ethernet.
        """
        ends = [("near", "far"), ("far", "near")] if where == "middle" else [(where, "")]
        for name, other in ends:
            interface = f"to-{other}" if other else {"client": "to-near", "server": "to-far"}[name]
            self._ip(name, "link", "set", interface, "mtu", str(mtu))

    def silence_routers(self) -> None:
        """From now on they drop without a word what is too large."""
        for name in ("near", "far"):
            self._ip(name, "rule", "add", "ipproto", "icmp", "blackhole")

    def _hold(self, name: str) -> None:
        self._holders[name] = _hold()
        self._ip(name, "link", "set", "lo", "up")

    def _link(self, left: str, left_address: str, right: str, right_address: str) -> None:
        pid = str(self._holders[right].pid)
        names = {left: f"to-{right}", right: f"to-{left}"}
        peer = ["peer", "name", names[right], "netns", pid]
        self._ip(left, "link", "add", names[left], "type", "veth", *peer)
        for name, address in ((left, left_address), (right, right_address)):
            self._ip(name, "address", "add", address, "dev", names[name])
            self._ip(name, "link", "set", names[name], "up")

    def _ip(self, name: str, *arguments: str) -> None:
        self.run(name, "ip", *arguments)

    def _end(self) -> None:
        for holder in self._holders.values():
            _release(holder)
        self._holders.clear()


class NoUdp:
    """A host without neighbours, where UDP packets to some of its own addresses vanish.

    Args:
        *addresses: Of the loopback interface, IPv4 or IPv6; all of them by default.
    """

    def __init__(self, *addresses: str) -> None:
        self._addresses = addresses
        self._holder: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        self._holder = _hold()
        try:
            self._run("ip", "link", "set", "lo", "up")
            self._run("nft", "-f", "-", said=_drop_udp(*self._addresses))
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        self._end()

    @property
    def inside(self) -> list[str]:
        """What stands before a command that is to run there."""
        assert self._holder is not None
        return _inside(self._holder)

    def _run(self, *command: str, said: str | None = None) -> None:
        done = subprocess.run(
            [*self.inside, *command], input=said, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{command}: {done.stderr.strip()}"

    def _end(self) -> None:
        assert self._holder is not None
        _release(self._holder)


def _drop_udp(*addresses: str) -> str:
    """Rules for nft: UDP packets to these addresses, or all of them, are dropped on arrival."""
    kinds = {address: "ip6" if ":" in address else "ip" for address in addresses}
    matches = [f"{kind} daddr {address} meta l4proto udp" for address, kind in kinds.items()] or [
        "meta l4proto udp"
    ]
    rules = [f"add rule inet blocked arriving {match} drop" for match in matches]
    return "\n".join(
        (
            "add table inet blocked",
            "add chain inet blocked arriving { type filter hook input priority 0; }",
            *rules,
            "",
        )
    )


def _hold() -> subprocess.Popen[str]:
    """A process that holds a network namespace until its standard input ends."""
    holder = subprocess.Popen(
        ["unshare", "--net", "sh", "-c", _HOLD],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "ready\n"
    return holder


def _release(holder: subprocess.Popen[str]) -> None:
    assert holder.stdin is not None
    assert holder.stdout is not None
    holder.stdin.close()
    holder.wait()
    holder.stdout.close()


def _inside(holder: subprocess.Popen[str]) -> list[str]:
    return ["nsenter", f"--net=/proc/{holder.pid}/ns/net", "--"]
