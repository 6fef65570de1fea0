"""The part of ``pywebtransport probe --fallback`` that goes by TCP."""

from __future__ import annotations

import asyncio
import builtins
from collections.abc import Callable
from typing import Any

from .._core.fallback import establish_over
from .._core.settings import request_fields
from .._loop import resolve
from .._states import URLParts
from ..client._connecting import Progress
from ..client._fallback import TCP_HINT, TcpDialer
from ..config import ClientConfig
from ..connection import WebTransportConnection
from ..exceptions import WebTransportError
from ..utils._hosts import host_and_port
from .status import Status, status_of, without_advice

__all__ = ["probe_tcp"]


async def probe_tcp(
    config: ClientConfig,
    target: URLParts,
    seconds: float,
    say: Callable[[str, str, str], None],
    facts: dict[str, Any],
) -> Status:
    """Open a session over a WebSocket, and report each step.

    Args:
        config: With ``fallback``.
        target: Host, port and path.
        seconds: Time for everything.
        say: Reports a step: its result, its name, and a text.
        facts: Gets what was found, for JSON.

    Returns:
        The exit status that this alone would give.
    """
    found: dict[str, Any] = {}
    facts["tcp"] = found
    progress = Progress()
    progress.advance("tcp", TCP_HINT)
    connection = WebTransportConnection(config=config)
    dialer = TcpDialer(config)
    scope = asyncio.timeout(seconds)
    step = "TCP"
    try:
        async with scope:
            await _connect(config, target, connection, dialer, progress, say, found)
            step = "WebSocket"
            progress.advance("session", "the server did not answer the request")
            await _open(config, target, connection, say, found)
    except (WebTransportError, builtins.TimeoutError) as raised:
        error: BaseException = raised
        if scope.expired():
            error = progress.timed_out(host_and_port(*target[:2]), seconds)
        found["failed"] = step
        found["error"] = {"type": type(error).__name__, "message": str(error)}
        say("FAILED", step, without_advice(str(error)))
        return status_of(error)
    finally:
        await connection.close()
        await dialer.finish(asyncio.get_running_loop().time() + config.close_timeout)
    return Status.OK


async def _connect(
    config: ClientConfig,
    target: URLParts,
    connection: WebTransportConnection,
    dialer: TcpDialer,
    progress: Progress,
    say: Callable[[str, str, str], None],
    found: dict[str, Any],
) -> None:
    host, port, _ = target
    proxy = config.http_proxy
    loop = asyncio.get_running_loop()
    addresses = None
    if proxy is None:
        addresses = await resolve(host, port, family=config.address_family)
    started = loop.time()
    link = await dialer.dial((host, port), addresses, progress)
    seconds = loop.time() - started
    try:
        await establish_over(connection, link, host, port)
    except BaseException:
        link.abort()
        raise
    remote = connection.remote_address
    found["address"] = remote
    found["proxy"] = None if proxy is None else proxy.name
    found["handshake_ms"] = round(seconds * 1000, 2)
    where = "" if remote is None else f"{remote[0]} port {remote[1]}, "
    if proxy is not None:
        where = f"through the proxy {proxy.name}, "
    say("ok", "TCP", f"{where}TLS after {seconds * 1000:.1f} ms")


async def _open(
    config: ClientConfig,
    target: URLParts,
    connection: WebTransportConnection,
    say: Callable[[str, str, str], None],
    found: dict[str, Any],
) -> None:
    loop = asyncio.get_running_loop()
    path = target[2]
    started = loop.time()
    session = await connection.create_session(path, headers=request_fields(config))
    await session.ready(timeout=None)
    seconds = loop.time() - started
    protocol = session.application_protocol
    found["session"] = {
        "path": path,
        "application_protocol": protocol,
        "opened_ms": round(seconds * 1000, 2),
    }
    say(
        "ok",
        "WebSocket",
        f"{path} accepted in {seconds * 1000:.1f} ms"
        + (f", application protocol {protocol}" if protocol else ""),
    )
