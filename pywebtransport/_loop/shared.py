"""One port for several processes: a UDP socket for each, steered by connection ID, and TCP ones."""

from __future__ import annotations

import array
import asyncio
import contextlib
import os
import secrets
import socket
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..exceptions import ServerError, WebTransportError
from ..utils._system import (
    LOOP_DESCRIPTORS,
    explain_os_error,
    is_lack_of_descriptors,
    require_descriptors,
)
from .letters import letter, payload_of, receive_letters
from .resolve import resolve
from .sockets import (
    BindAddress,
    bind_addresses,
    bind_shared,
    bind_tcp_beside,
    bind_udp_sockets,
)
from .steering import MAX_SEATS, LbConfig, Steering, steering_program

__all__ = ["SharedPort", "WorkerSockets"]

# <linux/socket.h>; the socket module does not have it.
_SO_ATTACH_REUSEPORT_CBPF = 51

# Bytes of packets that may wait between workers, per worker; more are dropped, as by a full
# socket buffer.
_MAILBOX_BYTES = 1 << 20
_MAILBOX_READS = 64
# Longest message: a UDP payload, both addresses and a header.
_MESSAGE_BYTES = 1 << 16 | 1 << 10

_SECRET_BYTES = 32

# How many draining workers may have a successor at the same time.
_MOST_SPARE = 16


@dataclass
class WorkerSockets:
    """Everything that one worker process needs for its part of a shared port.

    The descriptors stay open in the process that created the ``SharedPort``, so that packets
    for a worker that has ended are not lost, and the kernel's numbering of the sockets never
    changes.

    Attributes:
        index: Number of the worker, from 0.
        count: How many workers there are.
        number: Number of the slot, the first byte of its connection IDs. The successor of a
            draining worker has another slot.
        secret: Random, the same for all workers, for a server without a configured secret.
        sockets: Bound UDP sockets, one for each address.
        mailbox: Packets that other workers received for this one.
        mailboxes: Where to send packets, by slot.
        steering: Which slot gets which packets, as far as this process knows.
        tcp: Bound TCP sockets on the same addresses, if the port was shared for TCP, too. The
            worker lets them listen. Its successor has the same ones, so that no connection is lost
            between them.
        tcp_is_passed: Whether another program made the TCP sockets, and keeps them open. Then all
            workers accept connections on the same ones.
    """

    index: int
    count: int
    number: int
    secret: bytes = field(repr=False)
    sockets: list[socket.socket]
    mailbox: socket.socket
    mailboxes: list[socket.socket]
    steering: Steering
    tcp: list[socket.socket] = field(default_factory=list)
    tcp_is_passed: bool = False
    _on_steering: Callable[[Steering], object] | None = field(default=None, repr=False)

    @property
    def settings(self) -> dict[str, Any]:
        """The engine settings that all workers share, and the slot number."""
        return {
            "worker_index": self.number,
            "worker_count": len(self.mailboxes),
            "secrets": [self.secret],
        }

    def follow(self, on_steering: Callable[[Steering], object]) -> None:
        """Call a function with the tables: now, and when they change."""
        self._on_steering = on_steering
        on_steering(self.steering)

    def unfollow(self) -> None:
        """Undo ``follow``."""
        self._on_steering = None

    def steer(self, steering: Steering) -> None:
        """The tables have changed."""
        self.steering = steering
        if self._on_steering is not None:
            self._on_steering(steering)

    def forward(self, seat: int, packet: bytes) -> None:
        """Pass a packet to the worker that it belongs to; a full mailbox drops it."""
        _post(self.mailboxes, seat, packet)

    def take(self) -> list[bytes]:
        """Return packets that others received for this worker; a limited number at a time."""
        return _take(self.mailbox, _MAILBOX_READS)


class SharedPort:
    """The sockets of all workers on one host and port, owned by their parent process.

    Packets with a connection ID of a worker go to that worker's socket, even after the client
    changed its address. A client chooses the connection ID of its first packets itself; the
    worker for these depends only on that ID, so all packets of a handshake reach the same
    worker. See ``Steering``.

    There are more slots than workers, so that the successor of a draining worker is bound before
    the old worker stops receiving new clients.

    If the kernel cannot steer packets, or more sockets cannot be bound next to those that were
    passed, all workers read the same sockets and forward packets to each other: nothing is
    lost, but most packets take one more step.

    Args:
        host: As for ``Endpoint.bind``.
        port: UDP port; 0 lets the kernel choose one for all.
        count: How many workers, 1 to 256.
        family: ``socket.AF_INET`` or ``socket.AF_INET6``: only addresses of this family.
        sockets: Bound sockets to serve instead of binding new ones; taken over.
        tcp: Bind TCP sockets to the same addresses, one for each worker. The kernel shares new TCP
            connections among those that listen.
        lb: What a balancer reads in the connection IDs of the workers.
        passed_tcp: TCP sockets to serve instead of binding new ones; taken over.

    Raises:
        ServerError: An address cannot be bound, for instance because it is in use.
        UnreachableError: The name does not resolve.
    """

    def __init__(
        self,
        host: str | None,
        port: int,
        count: int,
        *,
        family: int = socket.AF_UNSPEC,
        sockets: Sequence[socket.socket] = (),
        tcp: bool = False,
        lb: LbConfig | None = None,
        passed_tcp: Sequence[socket.socket] = (),
    ) -> None:
        self._lb = lb
        self._count = count
        self._seats = count + min(count, _MOST_SPARE, MAX_SEATS - count)
        self._secret = secrets.token_bytes(_SECRET_BYTES)
        self._steering = Steering.initial(count)
        self._first: list[socket.socket] = list(sockets)
        # By slot; the sockets of the first slot are ``_first``. Empty if all workers read those.
        self._others: list[list[socket.socket]] = []
        # By index of the worker; empty without TCP.
        self._tcp: list[list[socket.socket]] = []
        self._passed_tcp = list(passed_tcp)
        self._mailboxes: list[tuple[socket.socket, socket.socket]] = []
        self._unsteered: str | None = None
        try:
            beside: list[socket.socket] = []
            if not sockets:
                self._first = bind_udp_sockets(
                    _addresses(host, port, family), beside if tcp else None
                )
            elif tcp and not passed_tcp:
                beside = bind_tcp_beside(self._first)
            self._join()
            self._join_tcp(beside)
            for _ in range(self._seats):
                self._mailboxes.append(_open_mailbox())
        except BaseException as error:
            self.close()
            if isinstance(error, OSError) and not isinstance(error, WebTransportError):
                raise ServerError(
                    f"cannot share a port among {count} workers: {explain_os_error(error)}",
                    bind_address=(host or "", port),
                    details={"errno": error.errno},
                ) from error
            raise

    @property
    def addresses(self) -> list[tuple[str, int]]:
        """The bound addresses, as (host, port)."""
        return [sock.getsockname()[:2] for sock in self._first]

    @property
    def seats(self) -> int:
        """How many workers may exist at the same time, including draining ones."""
        return self._seats

    @property
    def unsteered(self) -> str | None:
        """Why all workers read the same sockets; None if each has its own."""
        return self._unsteered

    def seat(self, number: int, index: int | None = None) -> WorkerSockets:
        """Return a slot for worker ``index`` (default: the worker with the same number)."""
        index = number if index is None else index
        return WorkerSockets(
            index=index,
            count=self._count,
            number=number,
            secret=self._secret,
            sockets=list(self._sockets_of(number)),
            mailbox=self._mailboxes[number][0],
            mailboxes=[sender for _, sender in self._mailboxes],
            steering=self._steering,
            tcp=list(self._tcp[index]) if self._tcp else [],
            tcp_is_passed=bool(self._passed_tcp),
        )

    def steer(self, steering: Steering) -> None:
        """Steer packets by these tables from now on."""
        self._steering = steering
        if self._unsteered is None:
            for sock in self._first:
                _attach(sock, steering, self._lb)

    def rescue(self, number: int) -> None:
        """Forward the packets that wait for a worker that has ended."""
        for message in _take(self._mailboxes[number][0], _MAILBOX_BYTES):
            self._hand_on(message)
        if self._unsteered is None:
            for position, sock in enumerate(self._sockets_of(number)):
                for found in receive_letters(sock):
                    self._hand_on(letter(position, found))

    def stop_tcp(self, index: int) -> None:
        """Take no TCP connections for a worker that does not come back soon; the others do.

        Connections that wait for it are reset. Its successor can let the sockets listen again.
        Sockets that were passed are those of the others, too.
        """
        for sock in self._tcp[index] if self._tcp and not self._passed_tcp else ():
            with contextlib.suppress(OSError):  # it did not listen
                sock.shutdown(socket.SHUT_RDWR)

    def keep_only(self, number: int, index: int) -> None:
        """In a worker: close the sockets and the mailboxes that only others read.

        Args:
            number: Its slot.
            index: Its number among the workers.
        """
        for other in range(self._seats):
            if other != number:
                if self._unsteered is None:
                    _close(self._sockets_of(other))
                self._mailboxes[other][0].close()
        for other, sockets in enumerate(self._tcp):
            if other != index:
                _close(sockets)
        _close(self._passed_tcp)

    def close(self) -> None:
        """Release the port. Idempotent."""
        _close(self._first)
        for sockets in (*self._others, *self._tcp, self._passed_tcp):
            _close(sockets)
        for pair in self._mailboxes:
            _close(pair)

    def _sockets_of(self, number: int) -> list[socket.socket]:
        return self._first if number == 0 or self._unsteered else self._others[number - 1]

    def _hand_on(self, message: bytes) -> None:
        payload = payload_of(message)
        taker = self._steering.taker(payload) if payload else None
        if taker is not None:
            _post([sender for _, sender in self._mailboxes], taker, message)

    def _join(self) -> None:
        """Bind the sockets of the other slots next to those of the first.

        The first were bound exclusively, so that a port in use by another program is
        detected. The kernel numbers the sockets in the order of binding.
        """
        if len(set(self.addresses)) < len(self._first):
            self._unsteered = "several of the sockets have one address"
            return
        self._others = [[] for _ in range(1, self._seats)]
        try:
            for first in self._first:
                first.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
                for others in self._others:
                    others.append(bind_shared(first))
                # Only a socket that shares its address accepts the filter.
                if self._others:
                    _attach(first, self._steering, self._lb)
        except (ServerError, OSError) as error:
            cause = error.__cause__ if isinstance(error, ServerError) else error
            if isinstance(cause, OSError) and is_lack_of_descriptors(cause):
                raise  # one socket for all would need as many descriptors
            for others in self._others:
                _close(others)
            self._others = []
            self._unsteered = str(error) if isinstance(error, ServerError) else _no_filter(error)

    def _join_tcp(self, first: list[socket.socket]) -> None:
        """Bind the TCP sockets of the other workers next to the first, which were bound alone."""
        if self._passed_tcp:
            # One that listens already cannot share its address with others; its queue can be.
            for _ in range(self._count):
                self._tcp.append([])
                for sock in self._passed_tcp:
                    self._tcp[-1].append(sock.dup())
            return
        if not first:
            return
        self._tcp = [first, *([] for _ in range(1, self._count))]
        for sock in first:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            for others in self._tcp[1:]:
                others.append(bind_shared(sock))


def _no_filter(error: OSError) -> str:
    return f"the kernel does not steer packets: {os.strerror(error.errno or 0)}"


def _attach(sock: socket.socket, steering: Steering, lb: LbConfig | None) -> None:
    """Let the kernel choose among the sockets that share the address of this one."""
    program = array.array("B", steering_program(steering, lb))
    address, size = program.buffer_info()
    sock.setsockopt(
        socket.SOL_SOCKET,
        _SO_ATTACH_REUSEPORT_CBPF,
        struct.pack("HP", size // struct.calcsize("HBBI"), address),
    )


def _addresses(host: str | None, port: int, family: int) -> list[BindAddress]:
    addresses = bind_addresses(host, port, family=family)
    if addresses is None:
        assert host is not None
        require_descriptors(LOOP_DESCRIPTORS)
        found = asyncio.run(resolve(host, port, family=family))
        addresses = [BindAddress(kind, sockaddr) for kind, sockaddr in found]
    return addresses


def _post(mailboxes: list[socket.socket], seat: int, packet: bytes) -> None:
    with contextlib.suppress(OSError, IndexError):
        mailboxes[seat].send(packet)


def _take(mailbox: socket.socket, most: int) -> list[bytes]:
    packets: list[bytes] = []
    with contextlib.suppress(BlockingIOError):
        while len(packets) < most:
            packets.append(mailbox.recv(_MESSAGE_BYTES))
    return packets


def _open_mailbox() -> tuple[socket.socket, socket.socket]:
    """Return reader and writer of a non-blocking message socket."""
    reader, writer = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    for sock in (reader, writer):
        sock.setblocking(False)
    writer.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _MAILBOX_BYTES)
    return reader, writer


def _close(sockets: list[socket.socket] | tuple[socket.socket, ...]) -> None:
    for sock in sockets:
        sock.close()
