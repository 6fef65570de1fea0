"""One UDP port for several processes: a socket for each, steered by connection ID."""

from __future__ import annotations

import array
import asyncio
import contextlib
import secrets
import socket
import struct
from dataclasses import dataclass, field
from typing import Any

from ..exceptions import ServerError, WebTransportError
from ..utils.system import LOOP_DESCRIPTORS, explain_os_error, require_descriptors
from .resolve import resolve
from .sockets import BindAddress, bind_addresses, bind_shared, bind_udp_sockets

__all__ = ["SharedPort", "WorkerSeat", "steering_program"]

# <linux/socket.h>; the socket module does not have it.
_SO_ATTACH_REUSEPORT_CBPF = 51

# Packets on their way between workers, bytes per worker; more are dropped, as
# a full socket buffer would.
_MAILBOX_BYTES = 1 << 20
_MAILBOX_READS = 64
# Longest message: a UDP payload, both addresses and a head.
_MESSAGE_BYTES = 1 << 16 | 1 << 10

_SECRET_BYTES = 32
_TICKET_KEY_BYTES = 64


@dataclass
class WorkerSeat:
    """What one worker process needs for its part of a shared port.

    The descriptors stay open in the process that made the ``SharedPort``: a
    worker that takes the place of a dead one gets the same, so the kernel's
    numbering of the sockets never changes and no packet is lost in between.

    Attributes:
        index: Number of the worker, from 0; first byte of its connection IDs.
        count: How many workers there are.
        secret: Key of tokens and stateless resets, the same for all.
        ticket_key: Key of session tickets, the same for all.
        sockets: Bound UDP sockets, one for each address.
        mailbox: Packets that other workers received for this one.
        mailboxes: Where to send packets, by worker.
    """

    index: int
    count: int
    secret: bytes = field(repr=False)
    ticket_key: bytes = field(repr=False)
    sockets: list[socket.socket]
    mailbox: socket.socket
    mailboxes: list[socket.socket]

    @property
    def settings(self) -> dict[str, Any]:
        """The part of the engine's settings that workers have in common, and the index."""
        return {"worker_index": self.index, "worker_count": self.count, "secrets": [self.secret]}

    def forward(self, worker: int, packet: bytes) -> None:
        """Hand a packet of another worker over; a full mailbox drops it."""
        with contextlib.suppress(OSError):
            self.mailboxes[worker].send(packet)

    def take(self) -> list[bytes]:
        """Packets that others received for this worker; a bounded number at a time."""
        packets: list[bytes] = []
        with contextlib.suppress(BlockingIOError):
            while len(packets) < _MAILBOX_READS:
                packets.append(self.mailbox.recv(_MESSAGE_BYTES))
        return packets


class SharedPort:
    """The sockets of all workers on one host and port, held by their parent.

    Packets with a connection ID of a worker go to that worker's socket, also
    after the client changed its address. A client's first packets, whose
    connection ID is its own choice, go to a worker that depends on nothing
    but that ID, so all of a handshake stays together.

    Args:
        host: As for ``Endpoint.bind``.
        port: UDP port; 0 lets the kernel choose one for all.
        count: Workers, 1 to 256.
        family: ``socket.AF_INET`` or ``socket.AF_INET6``: only addresses of it.

    Raises:
        ServerError: An address cannot be bound, for instance because it is in use.
        UnreachableError: The name does not resolve.
    """

    def __init__(
        self, host: str | None, port: int, count: int, *, family: int = socket.AF_UNSPEC
    ) -> None:
        self._count = count
        self._secret = secrets.token_bytes(_SECRET_BYTES)
        self._ticket_key = secrets.token_bytes(_TICKET_KEY_BYTES)
        self._sockets: list[list[socket.socket]] = [[] for _ in range(count)]
        self._mailboxes: list[tuple[socket.socket, socket.socket]] = []
        addresses = bind_addresses(host, port, family=family)
        try:
            if addresses is None:
                assert host is not None
                require_descriptors(LOOP_DESCRIPTORS)
                found = asyncio.run(resolve(host, port, family=family))
                addresses = [BindAddress(kind, sockaddr) for kind, sockaddr in found]
            for first in bind_udp_sockets(addresses):
                self._sockets[0].append(first)
            for first in self._sockets[0]:
                self._join(first)
            for _ in range(count):
                self._mailboxes.append(_open_mailbox())
        except BaseException as error:
            self.close()
            if isinstance(error, OSError) and not isinstance(error, WebTransportError):
                raise ServerError(
                    f"Cannot share a port among {count} workers: {explain_os_error(error)}",
                    bind_address=(host or "", port),
                    details={"errno": error.errno},
                ) from error
            raise

    @property
    def addresses(self) -> list[tuple[str, int]]:
        """The addresses bound, as (host, port)."""
        return [sock.getsockname()[:2] for sock in self._sockets[0]]

    def seat(self, index: int) -> WorkerSeat:
        """The part of worker ``index``."""
        return WorkerSeat(
            index=index,
            count=self._count,
            secret=self._secret,
            ticket_key=self._ticket_key,
            sockets=list(self._sockets[index]),
            mailbox=self._mailboxes[index][0],
            mailboxes=[sender for _, sender in self._mailboxes],
        )

    def keep_only(self, index: int) -> None:
        """In a worker: close the sockets and the mailboxes that only others read."""
        for other in range(self._count):
            if other != index:
                _close(self._sockets[other])
                self._mailboxes[other][0].close()

    def close(self) -> None:
        """Give the port back. Idempotent."""
        for sockets in self._sockets:
            _close(sockets)
        for pair in self._mailboxes:
            _close(pair)

    def _join(self, first: socket.socket) -> None:
        """Bind the sockets of the other workers beside that of worker 0.

        The first was bound alone, so a port that another program uses is
        found out. The order of binding is the kernel's numbering.
        """
        if self._count == 1:
            return
        first.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        for sockets in self._sockets[1:]:
            sockets.append(bind_shared(first))
        program = array.array("B", steering_program(self._count))
        address, size = program.buffer_info()
        first.setsockopt(
            socket.SOL_SOCKET,
            _SO_ATTACH_REUSEPORT_CBPF,
            struct.pack("HP", size // struct.calcsize("HBBI"), address),
        )


def steering_program(count: int) -> bytes:
    """Classic BPF that gives the number of the worker for a UDP payload.

    The connection ID begins at byte 1 of a packet with a short header and at
    byte 6 of one with a long header (RFC 8999 section 5). An ID of ours begins
    with the worker's index. Others are a client's choice, random and at least
    8 bytes long (RFC 9000 section 7.2): what follows the first byte chooses.
    A number that is no worker's makes the kernel choose by address.

    Args:
        count: Workers, 1 to 256.
    """
    load_byte, load_word, jump_if_set, jump_if_at_least, modulo, give = (
        *(0x30, 0x20, 0x45, 0x35, 0x94, 0x16),
    )
    instructions = [
        (load_byte, 0, 0, 0),
        (jump_if_set, 2, 0, 0x80),
        (load_byte, 0, 0, 1),
        (give, 0, 0, 0),
        (load_byte, 0, 0, 6),
        (jump_if_at_least, 1, 0, count),
        (give, 0, 0, 0),
        (load_word, 0, 0, 7),
        (modulo, 0, 0, count),
        (give, 0, 0, 0),
    ]
    return b"".join(struct.pack("HBBI", *instruction) for instruction in instructions)


def _open_mailbox() -> tuple[socket.socket, socket.socket]:
    """Reader and writer of whole messages that nothing waits for."""
    reader, writer = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    for sock in (reader, writer):
        sock.setblocking(False)
    writer.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _MAILBOX_BYTES)
    return reader, writer


def _close(sockets: list[socket.socket] | tuple[socket.socket, ...]) -> None:
    for sock in sockets:
        sock.close()
