"""Sockets that another process has bound, such as systemd (socket activation)."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Sequence
from typing import Any

from ..exceptions import ConfigurationError, ServerError, invalid_config
from ..utils._checks import check_bind_address
from ..utils._system import explain_os_error

__all__ = ["check_sockets", "check_where", "duplicates", "inherited_sockets", "split_sockets"]

# sd_listen_fds(3): this many descriptors, from 3 on, for the process with this ID.
_FIRST = 3
_PID, _COUNT, _NAMES = "LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"
# Far more than a process may have open: this only catches mistakes.
_MOST = 1 << 16


def inherited_sockets() -> list[socket.socket]:
    """Return the sockets that systemd, or a compatible program, passed to this process.

    You get them only once: the environment variables ``LISTEN_PID``, ``LISTEN_FDS`` and
    ``LISTEN_FDNAMES`` are removed, and programs that this process starts do not inherit the sockets
    (``FD_CLOEXEC``). ``ServerApp.run`` and ``run_workers`` call this themselves. Otherwise, call::

        await server.listen(sockets=inherited_sockets())

    Returns:
        The sockets in order, UDP and TCP; an empty list if the variables are not set, or are for
        another process.

    Raises:
        ConfigurationError: A variable is not a number, or a descriptor is not a bound UDP or TCP
            socket.
    """
    if _PID not in os.environ or _COUNT not in os.environ:
        return []
    if _number(_PID, 1, 1 << 31) != os.getpid():
        return []
    count = _number(_COUNT, 0, _MOST)
    for name in (_PID, _COUNT, _NAMES):
        os.environ.pop(name, None)
    found = []
    try:
        for fd in range(_FIRST, _FIRST + count):
            found.append(_socket(fd))
        check_sockets(found)
    except BaseException:
        for sock in found:
            sock.close()
        raise
    return found


def check_where(host: object, port: object, sockets: Sequence[socket.socket] | None) -> None:
    """Check where a server should listen: on a host and port, or on bound sockets.

    Raises:
        ConfigurationError: One of them cannot be used, or both are given.
    """
    check_bind_address(host, port)
    if sockets is None:
        return
    check_sockets(sockets)
    if not sockets:
        raise invalid_config(key="sockets", value=sockets, reason="expected at least one socket")
    if host is not None or port is not None:
        raise invalid_config(
            key="sockets", value=sockets, reason="they are bound already; pass no host or port"
        )


def check_sockets(sockets: Any) -> None:
    """Check sockets for a server, without changing them.

    Raises:
        ConfigurationError: It is not a list of different bound UDP and TCP sockets.
    """
    if not isinstance(sockets, Sequence) or isinstance(sockets, str | bytes):
        raise invalid_config(key="sockets", value=sockets, reason="expected a list of sockets")
    seen: set[int] = set()
    for sock in sockets:
        reason = _objection(sock)
        if reason is None and sock.fileno() in seen:
            reason = "each socket may occur only once"
        if reason is not None:
            raise invalid_config(key="sockets", value=sock, reason=reason)
        seen.add(sock.fileno())


def split_sockets(
    sockets: Sequence[socket.socket], *, tcp: bool
) -> tuple[list[socket.socket], list[socket.socket]]:
    """Split checked sockets into UDP and TCP ones, which belong together.

    Args:
        sockets: The sockets.
        tcp: Whether the server speaks over TCP.

    Raises:
        ConfigurationError: There is no UDP socket, or TCP sockets are of no use: the server does
            not speak over TCP, or their ports are not those of the UDP sockets.
    """
    udp = [sock for sock in sockets if sock.type == socket.SOCK_DGRAM]
    stream = [sock for sock in sockets if sock.type != socket.SOCK_DGRAM]
    reason = None
    if not udp:
        reason = "a server needs a UDP socket (SOCK_DGRAM; ListenDatagram= in a unit of systemd)"
    elif stream and not tcp:
        reason = (
            "nothing is served over TCP: pass UDP sockets (SOCK_DGRAM) alone, set websocket=True, "
            "or mount an ASGI application"
        )
    elif stream and {_port(sock) for sock in udp} != {_port(sock) for sock in stream}:
        reason = "the TCP sockets need the ports of the UDP sockets"
    if reason is not None:
        raise invalid_config(key="sockets", value=sockets, reason=reason)
    return udp, stream


def duplicates(sockets: Sequence[socket.socket]) -> list[socket.socket]:
    """Duplicate the sockets: the originals belong to the caller until nothing can fail.

    Raises:
        ServerError: No more descriptors can be opened.
    """
    made: list[socket.socket] = []
    try:
        for sock in sockets:
            made.append(sock.dup())
    except OSError as error:
        for sock in made:
            sock.close()
        text = f"the sockets cannot be taken over: {explain_os_error(error)}"
        raise ServerError(text, details={"errno": error.errno}) from error
    return made


def _objection(sock: Any) -> str | None:
    """What is wrong with a socket."""
    if not isinstance(sock, socket.socket):
        return "expected sockets (socket.socket(fileno=N) makes one from a descriptor)"
    if sock.fileno() < 0:
        return "it is closed"
    if sock.family not in (socket.AF_INET, socket.AF_INET6):
        return "expected the family AF_INET or AF_INET6"
    if sock.type not in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
        return "expected a UDP socket (SOCK_DGRAM), or a TCP socket (SOCK_STREAM)"
    if _port(sock) == 0:
        return "it is not bound to a port"
    try:
        sock.getpeername()
    except OSError as error:
        return None if error.errno == errno.ENOTCONN else str(error.strerror)
    return "it is connected; a server needs sockets that receive from every address"


def _port(sock: socket.socket) -> int:
    return int(sock.getsockname()[1])


def _socket(fd: int) -> socket.socket:
    try:
        os.set_inheritable(fd, False)
        return socket.socket(fileno=fd)
    except OSError as error:
        raise ConfigurationError(
            f"{_COUNT}: descriptor {fd} is not a socket: {error.strerror}",
            config_key=_COUNT,
            config_value=fd,
        ) from error


def _number(name: str, low: int, high: int) -> int:
    text = os.environ[name]
    if not (text.isascii() and text.isdigit() and len(text) < 12 and low <= int(text) <= high):
        raise ConfigurationError(
            f"environment variable {name}={text[:40]!r}: expected a number from {low} to {high}",
            config_key=name,
            config_value=text[:40],
        )
    return int(text)
