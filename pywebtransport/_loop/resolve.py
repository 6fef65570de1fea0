"""Names to addresses, and staggered attempts over them (RFC 8305)."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple, TypeVar

from ..exceptions import UnreachableError, invalid_config
from ..utils._attempts import combine_errors
from ..utils._hosts import ascii_host
from ..utils._system import explain_os_error
from ..utils._text import printable
from .sockets import unmapped

__all__ = ["FALLBACK_DELAY", "Failures", "RemoteAddress", "connect_staggered", "resolve"]

# RFC 8305 section 5 "Connection Attempt Delay"; seconds.
FALLBACK_DELAY = 0.25

_KNOWN_LITERALS = 64

_T = TypeVar("_T")


class RemoteAddress(NamedTuple):
    """One address of a host: its family and an address for ``socket.connect``."""

    family: int
    sockaddr: tuple[Any, ...]

    @property
    def name(self) -> str:
        """Address and port for messages."""
        return f"{self.sockaddr[0]} port {self.sockaddr[1]}"


# The attempts that failed, by the name of their address.
Failures = list[tuple[str, BaseException]]


async def resolve(host: str, port: int, *, family: int = socket.AF_UNSPEC) -> list[RemoteAddress]:
    """Resolve a host name or IP literal for UDP.

    Args:
        host: Name or literal; an IPv6 literal may be in brackets.
        port: UDP port.
        family: Restrict to ``socket.AF_INET`` or ``socket.AF_INET6``.

    Returns:
        At least one address, the families interleaved in the order in which
        the resolver prefers them (RFC 8305 section 4).

    Raises:
        UnreachableError: The name has no address.
        ConfigurationError: It is not a valid international name, or it is an address that only
            servers can use.

    Cancellation:
        Safe; the resolver's thread of the loop finishes on its own.
    """
    name = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    literal = _usable_literal(name, port, family)
    if literal:
        return list(literal)
    if not name.isascii():
        name = ascii_host(name)  # the resolver's own conversion is that of 2003
    if f".{name.lower().rstrip('.')}".endswith(".localhost"):
        # RFC 6761 section 6.3: both loopback addresses, whatever the hosts file lists; so
        # are the names under it, as in browsers.
        loopback = [(socket.AF_INET6, "::1"), (socket.AF_INET, "127.0.0.1")]
        return [
            RemoteAddress(own, (address, port, 0, 0) if own == socket.AF_INET6 else (address, port))
            for own, address in loopback
            if family in (socket.AF_UNSPEC, own)
        ]
    try:
        found = _parse_literal(name, port, family)
        is_literal = bool(found)
        if not found and ":" in name:
            # The zone does not exist: some loops would ignore it.
            raise socket.gaierror(socket.EAI_NONAME, "there is no such address")
        if not found:
            loop = asyncio.get_running_loop()
            found = await loop.getaddrinfo(name, port, family=family, type=socket.SOCK_DGRAM)
    except (OSError, UnicodeError, RuntimeError) as exc:  # the last: there can be no thread
        code = exc.errno if isinstance(exc, OSError) else None
        text, known = explain_os_error(exc), isinstance(exc, socket.gaierror | UnicodeError)
        hint = f"; {_resolve_hint(name)}" if known and "ulimit" not in text else ""
        raise UnreachableError(
            f"cannot resolve host '{printable(host)}': {text}{hint}",
            details={"host": host, "port": port, "errno": code},
        ) from exc
    addresses = [
        RemoteAddress(*unmapped(found_family, sockaddr))
        for found_family, _, _, _, sockaddr in found
        if found_family in (socket.AF_INET, socket.AF_INET6)
    ]
    if not addresses:
        raise UnreachableError(
            f"host '{printable(host)}' has no IPv4 or IPv6 address; check the name",
            details={"host": host, "port": port},
        )
    possible = [address for address in addresses if not _is_unspecified(address)]
    if not possible:
        # Packets would go to this machine, and the answers come from another address.
        if is_literal:
            raise invalid_config(key="host", value=host, reason=f"it is no address of {_NO_HOST}")
        raise UnreachableError(
            f"host '{printable(host)}' has only the address {addresses[0].sockaddr[0]}, which is "
            f"none of {_NO_HOST}; a filtering name server may have answered",
            details={"host": host, "port": port},
        )
    return _interleave(list(dict.fromkeys(possible)))


_NO_HOST = (
    "one host but stands for all of a server's own (bind_host); connect to the server's name or to "
    "one of its addresses, on this machine localhost"
)


def _is_unspecified(address: RemoteAddress) -> bool:
    return address.sockaddr[0] in ("0.0.0.0", "::")


def _resolve_hint(name: str) -> str:
    if "%" in name:
        return "check that this machine has the network interface after the '%'"
    return "check the name and the network"


def _usable_literal(name: str, port: int, family: int) -> tuple[RemoteAddress, ...]:
    """Return the address of an IP literal; empty for anything that takes more than that."""
    if "%" in name or not (name.isascii() and _may_be_literal(name)):  # interfaces come and go
        return ()
    return _known_literal(name, port, family)


@lru_cache(_KNOWN_LITERALS)
def _known_literal(name: str, port: int, family: int) -> tuple[RemoteAddress, ...]:
    addresses = [
        RemoteAddress(*unmapped(found_family, sockaddr))
        for found_family, _, _, _, sockaddr in _parse_literal(name, port, family)
        if found_family in (socket.AF_INET, socket.AF_INET6)
    ]
    return () if any(map(_is_unspecified, addresses)) else tuple(dict.fromkeys(addresses))


def _may_be_literal(name: str) -> bool:
    return ":" in name or name[-1:].isdigit()


def _parse_literal(name: str, port: int, family: int) -> list[Any]:
    """Return what ``getaddrinfo`` returns for an IP literal; empty for anything else.

    The loop's ``getaddrinfo`` runs in a thread, which costs more than a tenth
    of a connection to a nearby server. A literal needs no thread.
    """
    if not _may_be_literal(name):
        return []
    try:
        return socket.getaddrinfo(
            name, port, family=family, type=socket.SOCK_DGRAM, flags=socket.AI_NUMERICHOST
        )
    except (socket.gaierror, UnicodeError):
        return []


def _interleave(addresses: list[RemoteAddress]) -> list[RemoteAddress]:
    """Alternate the families, beginning with the one that came first."""
    preferred = [a for a in addresses if a.family == addresses[0].family]
    others = [a for a in addresses if a.family != addresses[0].family]
    result: list[RemoteAddress] = []
    for index in range(max(len(preferred), len(others))):
        result += preferred[index : index + 1]
        result += others[index : index + 1]
    return result


async def connect_staggered(
    addresses: Sequence[RemoteAddress],
    attempt: Callable[[RemoteAddress], Awaitable[_T]],
    *,
    delay: float = FALLBACK_DELAY,
    failures: Failures | None = None,
) -> _T:
    """Try the addresses one after another without waiting for a slow one.

    The next attempt starts when the previous one failed, or ``delay`` seconds
    after it started. The first that succeeds wins; the others are cancelled
    and awaited, so an attempt must clean up after itself when cancelled. If two
    attempts finish in the same turn, the earlier address wins, and the result of
    the other is closed if it has a ``close()``.

    Args:
        addresses: In order of preference; never empty.
        attempt: Starts one attempt; its result must be usable at once.
        delay: Seconds between attempts.
        failures: Receives the address and error of each failed attempt, even if another
            attempt succeeds or the caller gives up.

    Returns:
        The result of the winning attempt.

    Raises:
        Exception: All attempts failed. This is the error of the one that got furthest; if there
            are several addresses, ``details["attempts"]`` lists all errors
            (``combine_errors``).

    Cancellation:
        Safe: running attempts are cancelled and awaited.
    """
    failed: Failures = [] if failures is None else failures

    async def run(address: RemoteAddress) -> _T:
        try:
            return await attempt(address)
        except Exception as error:
            failed.append((address.name, error))
            raise

    if len(addresses) == 1:
        return await run(addresses[0])

    tasks: list[asyncio.Task[_T]] = []
    winner: asyncio.Task[_T] | None = None
    try:
        for position, address in enumerate(addresses):
            tasks.append(asyncio.create_task(run(address)))
            last = position == len(addresses) - 1
            winner = await _first_success(tasks, newest=None if last else tasks[-1], delay=delay)
            if winner is not None:
                return winner.result()
    finally:
        await _cancel_losers(tasks, winner)
    raise combine_errors(
        [
            (address.name, asyncio.CancelledError() if task.cancelled() else _error_of(task))
            for address, task in zip(addresses, tasks, strict=True)
        ]
    )


async def _first_success(
    tasks: list[asyncio.Task[_T]], *, newest: asyncio.Task[_T] | None, delay: float
) -> asyncio.Task[_T] | None:
    """Wait for a success; give up when ``newest`` fails or ``delay`` seconds have passed.

    If ``newest`` is None (there are no more addresses), wait until all have ended.
    """
    loop = asyncio.get_running_loop()
    deadline = None if newest is None else loop.time() + delay
    while True:
        for task in tasks:
            if task.done() and not task.cancelled() and task.exception() is None:
                return task
        pending = [task for task in tasks if not task.done()]
        if not pending or (newest is not None and newest.done()):
            return None
        timeout = None if deadline is None else deadline - loop.time()
        if timeout is not None and timeout <= 0:
            return None
        await asyncio.wait(pending, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)


async def _cancel_losers(tasks: list[asyncio.Task[_T]], winner: asyncio.Task[_T] | None) -> None:
    """End all attempts except the winner's; that one too if no caller waits for it any more."""
    for task in tasks:
        if task is not winner:
            task.add_done_callback(_discard)
            task.cancel()
    try:
        await asyncio.wait(tasks)
    except asyncio.CancelledError:
        if winner is not None:
            _discard(winner)
        raise


def _discard(task: asyncio.Task[_T]) -> None:
    """Close the unused result of an attempt."""
    if task.cancelled() or task.exception() is not None:
        return
    close = getattr(task.result(), "close", None)
    if close is not None:
        close()


def _error_of(task: asyncio.Task[_T]) -> BaseException:
    error = task.exception()
    assert error is not None
    return error
