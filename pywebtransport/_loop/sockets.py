"""Bound, non-blocking sockets, with errors that say which address and what to do."""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import socket
from collections.abc import Sequence
from typing import Any, NamedTuple

from ..exceptions import ServerError, UnreachableError
from ..utils._system import explain_os_error

__all__ = [
    "BindAddress",
    "bind_addresses",
    "bind_shared",
    "bind_tcp_beside",
    "bind_udp_sockets",
    "open_udp_socket",
    "unmapped",
]

# How often another random port is tried if the port that the kernel chose for the
# first address is in use on the second.
_SAME_PORT_ATTEMPTS = 64


class BindAddress(NamedTuple):
    """One address to bind.

    Attributes:
        family: ``socket.AF_INET`` or ``socket.AF_INET6``.
        sockaddr: The address for ``socket.bind``.
        dual_stack: An IPv6 wildcard that also accepts IPv4.
        optional: The machine may lack it; that is not an error if another
            address of the same call could be bound.
    """

    family: int
    sockaddr: tuple[Any, ...]
    dual_stack: bool = False
    optional: bool = False


def bind_addresses(
    host: str | None, port: int, *, family: int = socket.AF_UNSPEC
) -> list[BindAddress] | None:
    """Return the addresses to bind for a host that needs no name resolution.

    ``localhost`` means both loopback addresses, because a client may try either.
    An empty host or ``::`` means every address of both families on one socket.

    Args:
        host: IP literal, ``localhost``, ``::``, ``""`` or None.
        port: UDP port, 0 to 65535; 0 lets the kernel choose.
        family: ``socket.AF_INET`` or ``socket.AF_INET6``: only addresses of it.

    Returns:
        The addresses, or None when ``host`` is a name to be resolved.

    Raises:
        ServerError: The port is out of range, or ``host`` is of the other family.
    """
    found = _bind_addresses(host, port)
    if found is None or family == socket.AF_UNSPEC:
        return found
    kept = [
        item._replace(dual_stack=False, optional=False) for item in found if item.family == family
    ]
    if not kept:
        raise ServerError(
            f"{host} is not an {'IPv4' if family == socket.AF_INET else 'IPv6'} address; "
            "see ip_family in the configuration",
            bind_address=(host or "", port),
        )
    return kept


def _bind_addresses(host: str | None, port: int) -> list[BindAddress] | None:
    if not 0 <= port <= 65535:
        raise ServerError(
            f"port {port} is out of range: use 0 (any free port) to 65535",
            bind_address=(host or "", port),
        )
    if host in (None, "", "::"):
        return [
            BindAddress(socket.AF_INET6, ("::", port), dual_stack=True, optional=True),
            BindAddress(socket.AF_INET, ("0.0.0.0", port), optional=True),
        ]
    assert host is not None
    if host == "localhost":
        return [
            BindAddress(socket.AF_INET, ("127.0.0.1", port)),
            BindAddress(socket.AF_INET6, ("::1", port), optional=True),
        ]
    literal = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    try:
        found = socket.getaddrinfo(
            literal, port, type=socket.SOCK_DGRAM, flags=socket.AI_NUMERICHOST | socket.AI_PASSIVE
        )
    except socket.gaierror:
        return None
    return [BindAddress(*unmapped(family, sockaddr)) for family, _, _, _, sockaddr in found]


def unmapped(family: int, sockaddr: tuple[Any, ...]) -> tuple[int, tuple[Any, ...]]:
    """Return family and address for a socket; an IPv4-mapped IPv6 address becomes IPv4.

    ``::ffff:192.0.2.1`` needs a dual-stack socket, and our sockets have one family each.
    """
    if family == socket.AF_INET6:
        mapped = ipaddress.IPv6Address(sockaddr[0]).ipv4_mapped
        if mapped is not None:
            return socket.AF_INET, (str(mapped), sockaddr[1])
    return family, sockaddr


def bind_udp_sockets(
    addresses: list[BindAddress], tcp: list[socket.socket] | None = None
) -> list[socket.socket]:
    """Bind every address, all on the same port when the port is 0.

    A dual-stack wildcard makes the IPv4 wildcard after it unnecessary.

    Args:
        addresses: What to bind; never empty.
        tcp: A list that gets a TCP socket for each UDP socket, on the same address and port. None:
            no TCP sockets.

    Returns:
        Non-blocking sockets in the order of ``addresses``, without those that
        were optional and that the machine lacks.

    Raises:
        ServerError: An address could not be bound; nothing stays open.
    """
    last: ServerError | None = None
    for _ in range(_SAME_PORT_ATTEMPTS):
        bound: list[socket.socket] = []
        try:
            _bind_all(addresses, bound)
            if tcp is not None:
                tcp[:] = _bind_tcp(bound, chosen=all(item.sockaddr[1] == 0 for item in addresses))
        except _PortTakenError as taken:
            _close_all(bound)
            last = taken.error
        except BaseException:
            _close_all(bound)
            raise
        else:
            return bound
    assert last is not None
    raise last


def bind_tcp_beside(udp: Sequence[socket.socket]) -> list[socket.socket]:
    """Bind a TCP socket to the address and port of each UDP socket; none of them listens yet.

    Raises:
        ServerError: A port is in use, for instance; nothing stays open.
    """
    return _bind_tcp(udp, chosen=False)


def bind_shared(first: socket.socket) -> socket.socket:
    """Bind one more socket to the address of ``first``, which has ``SO_REUSEPORT``.

    Raises:
        ServerError: The kernel does not allow it; nothing stays open.
    """
    address = _address_of(first)
    try:
        return _bind_one(address, first.type, reuse_port=True)
    except OSError as exc:
        raise _server_error(address, exc, first.type) from exc


def open_udp_socket(family: int, local: tuple[Any, ...] | None = None) -> socket.socket:
    """Open the socket of a client endpoint.

    Args:
        family: ``socket.AF_INET`` or ``socket.AF_INET6``.
        local: Address to bind, as ``socket.bind`` takes it; None is any
            address and a port that the kernel chooses.

    Raises:
        UnreachableError: The family or the local address is not available.
    """
    if local is None:
        local = ("::", 0) if family == socket.AF_INET6 else ("0.0.0.0", 0)
    try:
        return _bind_one(BindAddress(family, local))
    except OSError as exc:
        raise UnreachableError(
            f"cannot open a UDP socket on {_show(local)}: {_explain(exc)}",
            details={"local_address": tuple(local[:2]), "errno": exc.errno},
        ) from exc


class _PortTakenError(Exception):
    """The port that the kernel chose for the first address is in use on a later one."""

    def __init__(self, error: ServerError) -> None:
        super().__init__(str(error))
        self.error = error


def _bind_all(addresses: list[BindAddress], bound: list[socket.socket]) -> None:
    chosen_port = 0
    have_dual_stack = False
    absent: tuple[BindAddress, OSError] | None = None
    for address in addresses:
        if have_dual_stack and address.family == socket.AF_INET:
            continue
        if chosen_port:
            host, _, *rest = address.sockaddr
            address = address._replace(sockaddr=(host, chosen_port, *rest))
        try:
            sock = _bind_one(address)
        except OSError as exc:
            if address.optional and exc.errno in _ABSENT:
                absent = (address, exc)
                continue
            error = _server_error(address, exc)
            if chosen_port and exc.errno == errno.EADDRINUSE:
                raise _PortTakenError(error) from exc
            raise error from exc
        bound.append(sock)
        have_dual_stack = have_dual_stack or address.dual_stack
        if address.sockaddr[1] == 0:
            chosen_port = sock.getsockname()[1]
    if not bound and absent is not None:
        raise _server_error(*absent) from absent[1]


def _bind_tcp(udp: Sequence[socket.socket], *, chosen: bool) -> list[socket.socket]:
    """Bind TCP sockets beside UDP sockets.

    Args:
        udp: Bound UDP sockets.
        chosen: The kernel chose their port, so another one may be tried.
    """
    bound: list[socket.socket] = []
    try:
        # Several UDP sockets may share one address; one TCP socket is enough for them.
        for address in dict.fromkeys(map(_address_of, udp)):
            try:
                bound.append(_bind_one(address, socket.SOCK_STREAM))
            except OSError as exc:
                error = _server_error(address, exc, socket.SOCK_STREAM)
                if chosen and exc.errno == errno.EADDRINUSE:
                    raise _PortTakenError(error) from exc
                raise error from exc
    except BaseException:
        _close_all(bound)
        raise
    return bound


def _address_of(sock: socket.socket) -> BindAddress:
    """The address to bind for another socket beside this one."""
    dual_stack = sock.family == socket.AF_INET6 and not sock.getsockopt(
        socket.IPPROTO_IPV6, socket.IPV6_V6ONLY
    )
    return BindAddress(sock.family, sock.getsockname(), dual_stack)


def _bind_one(
    address: BindAddress, kind: int = socket.SOCK_DGRAM, *, reuse_port: bool = False
) -> socket.socket:
    sock = socket.socket(address.family, kind)
    try:
        sock.setblocking(False)
        if kind == socket.SOCK_STREAM:
            # Connections of a server that ended a minute ago do not keep the port.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if address.family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, not address.dual_stack)
        if reuse_port:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind(address.sockaddr)
    except BaseException:
        sock.close()
        raise
    return sock


def _close_all(bound: list[socket.socket]) -> None:
    for sock in bound:
        with contextlib.suppress(OSError):
            sock.close()


# Errors of a machine that lacks the address family or the address.
_ABSENT = frozenset({errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL, errno.EPROTONOSUPPORT})


def _explain(exc: OSError) -> str:
    text = explain_os_error(exc)
    match exc.errno:
        case errno.EADDRINUSE:
            return f"{text}; stop the program that uses the port, or choose another port (0: any)"
        case errno.EACCES | errno.EPERM:
            return f"{text}; ports below 1024 need privileges, choose a port from 1024 on"
        case errno.EADDRNOTAVAIL:
            return f"{text}; this machine has no such address, use one of its own or a wildcard"
        case errno.EAFNOSUPPORT | errno.EPROTONOSUPPORT:
            return f"{text}; this machine lacks the address family, use the other one"
        case _:
            return text


def _show(sockaddr: tuple[Any, ...]) -> str:
    host, port = sockaddr[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _server_error(address: BindAddress, exc: OSError, kind: int = socket.SOCK_DGRAM) -> ServerError:
    protocol = "TCP" if kind == socket.SOCK_STREAM else "UDP"
    return ServerError(
        f"cannot bind {protocol} {_show(address.sockaddr)}: {_explain(exc)}",
        bind_address=(address.sockaddr[0], address.sockaddr[1]),
        details={"errno": exc.errno},
    )
