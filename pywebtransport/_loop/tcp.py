"""Connections of clients over TCP and TLS, directly or through an HTTP proxy."""

from __future__ import annotations

import asyncio
import builtins
import contextlib
import errno
import os
import re
import socket
import ssl
from collections.abc import AsyncIterator
from typing import Final

from ..exceptions import (
    CertificateError,
    ConnectionError,
    HandshakeError,
    ProxyError,
    TimeoutError,
    UnreachableError,
)
from ..utils._hosts import host_and_port, without_zone
from ..utils._http_proxy import HttpProxy
from ..utils._system import explain_os_error
from ..utils._tcp import abort
from ..utils._text import printable
from ..utils._tls_contexts import ClientTls
from .resolve import RemoteAddress
from .websocket import LinkOptions
from .websocket_client import ClientLink

__all__ = ["HttpProxy", "connect_proxy", "dial"]

_AUTHENTICATION_REQUIRED: Final = 407
# Bytes of a proxy's answer, and of one read.
_MAX_ANSWER: Final = 16384
_END: Final = b"\r\n\r\n"
_STATUS: Final = re.compile(rb"HTTP/1\.[01] ([1-5][0-9]{2})(?: ([^\r\n]*))?\r\n")
# Seconds after our own limit at which the event loop would end a TLS handshake.
_LATER: Final = 5.0


async def connect_proxy(
    address: RemoteAddress, proxy: HttpProxy, *, host: str, port: int, timeout: float
) -> socket.socket:
    """Open a tunnel through a proxy.

    Args:
        address: Of the proxy.
        proxy: What to tell it.
        host: The target: name or address, without brackets. The proxy resolves it.
        port: Its TCP port.
        timeout: Seconds.

    Returns:
        A socket whose other end is the target.

    Raises:
        ProxyError: The proxy does not open the tunnel.
        UnreachableError: The proxy cannot be reached.
        TimeoutError: It took too long.

    Cancellation:
        Safe; nothing stays open.
    """
    target = host_and_port(without_zone(host), port)
    where = f"the proxy {printable(proxy.url)}"
    lines = [f"CONNECT {target} HTTP/1.1", f"Host: {target}"]
    if proxy.authorization:
        lines.append(f"Proxy-Authorization: {proxy.authorization}")
    request = "\r\n".join([*lines, "", ""]).encode("ascii")
    async with _limit(timeout, where, "proxy"):
        sock = await _open(address, where)
        try:
            loop = asyncio.get_running_loop()
            await loop.sock_sendall(sock, request)
            answer = b""
            while _END not in answer and len(answer) <= _MAX_ANSWER:
                more = await loop.sock_recv(sock, _MAX_ANSWER)
                if not more:
                    break
                answer += more
            _check_tunnel(answer, proxy, target)
        except OSError as error:
            sock.close()
            if isinstance(error, ProxyError):
                raise
            raise _no_tunnel(proxy, target, explain_os_error(error)) from error
        except BaseException:
            sock.close()
            raise
    return sock


def _check_tunnel(answer: bytes, proxy: HttpProxy, target: str) -> None:
    """Check the answer to CONNECT.

    Raises:
        ProxyError: It is no tunnel.
    """
    head, end, rest = answer.partition(_END)
    found = _STATUS.match(head + b"\r\n")
    if not end or found is None:
        if not answer:
            raise _no_tunnel(proxy, target, "it closed the connection without an answer")
        raise _no_tunnel(proxy, target, "its answer is not HTTP/1.1")
    status, phrase = int(found[1]), printable((found[2] or b"").decode("latin-1"), 100)
    if status == _AUTHENTICATION_REQUIRED:
        hint = "does not accept them" if proxy.authorization else "wants them"
        raise _no_tunnel(
            proxy,
            target,
            f"status {status}: it {hint}, the user name and password in its URL "
            "(http://user:password@host:port)",
            status,
        )
    if not 200 <= status < 300:
        raise _no_tunnel(proxy, target, f"status {status} {phrase}".rstrip(), status)
    if rest:
        raise _no_tunnel(proxy, target, "it sent bytes before there were any of the client")


def _no_tunnel(proxy: HttpProxy, target: str, reason: str, status: int | None = None) -> ProxyError:
    return ProxyError(
        f"the proxy {printable(proxy.url)} opened no tunnel to {printable(target)}: {reason}",
        proxy_url=proxy.url,
        target=target,
        status_code=status,
    )


async def dial(
    address: RemoteAddress,
    *,
    server_name: str,
    tls: ClientTls | None,
    timeout: float,
    options: LinkOptions | None = None,
    sock: socket.socket | None = None,
) -> ClientLink:
    """Connect to a server: TCP, and TLS.

    Args:
        address: Of the server.
        server_name: Its name or address, to send and to verify.
        tls: See ``client_tls_over_tcp``; None: no TLS.
        timeout: Seconds.
        options: Limits of the link.
        sock: A connection to it, from ``connect_proxy``. It is closed when this fails.

    Raises:
        CertificateError: The server's certificate is not accepted.
        HandshakeError: TLS failed in another way.
        ConnectionError: The server ended the connection in the TLS handshake.
        UnreachableError: Nothing listens there.
        TimeoutError: It took too long.
        ConfigurationError: The library ``websockets`` is not installed.

    Cancellation:
        Safe; nothing stays open.
    """
    where = f"{printable(server_name)} ({address.name})"
    try:
        options = options or LinkOptions()
        link = ClientLink(server_name, options)
        async with _limit(timeout, where, "connect"):
            if sock is None:
                sock = await _open(address, where)
            await _connect(link, sock, tls, server_name, where, timeout, options)
    except BaseException:
        if sock is not None:
            sock.close()
        raise
    return link


async def _connect(
    link: ClientLink,
    sock: socket.socket,
    tls: ClientTls | None,
    server_name: str,
    where: str,
    timeout: float,
    options: LinkOptions,
) -> None:
    """Give a connected socket to a link, with TLS."""
    loop = asyncio.get_running_loop()
    if tls is None:
        await loop.create_connection(lambda: link, sock=sock)
        return
    raw, early = await loop.create_connection(_BeforeTls, sock=sock)
    try:
        if early.has_data:  # TLS would wait for what it does not get
            raise _no_tls(where, "the server speaks first")
        # TLS keeps what the kernel does not take: the link asks it how much that is.
        raw.set_write_buffer_limits(high=0)
        transport = await loop.start_tls(
            raw,
            link,
            tls.context,
            server_hostname=without_zone(server_name).removesuffix("."),
            ssl_handshake_timeout=timeout + _LATER,
            ssl_shutdown_timeout=options.close_timeout,
        )
        secured = None if transport is None else transport.get_extra_info("ssl_object")
        if transport is None or secured is None or transport.is_closing():
            raise ConnectionResetError(errno.ECONNRESET, "the server closed the connection")
        if link.bytes_received:
            raise _no_tls(where, "the server sent bytes unasked")
        tls.check_leaf(secured.getpeercert(True), where)
        link.connection_made(transport)
    except ssl.SSLCertVerificationError as error:
        abort(raw)
        text = printable(error.verify_message)
        raise CertificateError(
            f"the certificate of {where} was not accepted: {text}; give ca_certs=path of its "
            "authority if that is not one of this system's",
            certificate_error=text,
        ) from error
    except OSError as error:
        abort(raw)
        text = printable(getattr(error, "reason", None) or explain_os_error(error))
        if not isinstance(error, ssl.SSLError) or isinstance(error, ssl.SSLEOFError):
            # As when a server restarts, or has too much to do: a later attempt may succeed.
            raise ConnectionError(
                f"the TCP connection to {where} was lost in the TLS handshake"
                + (f": {text}" if text else ""),
                details={"errno": error.errno},
            ) from error
        raise _no_tls(where, text) from error
    except BaseException:
        abort(raw)
        raise


class _BeforeTls(asyncio.Protocol):
    """Has the connection until TLS begins."""

    has_data = False

    def data_received(self, data: bytes) -> None:
        """Bytes of a server that waits for none of ours."""
        self.has_data = True


def _no_tls(where: str, reason: str) -> HandshakeError:
    return HandshakeError(f"TLS failed with {where}: {reason}", handshake_stage="tls")


async def _open(address: RemoteAddress, where: str) -> socket.socket:
    """Open a TCP connection.

    Raises:
        UnreachableError: Nothing listens there.
    """
    try:
        sock = socket.socket(address.family, socket.SOCK_STREAM)
        try:
            sock.setblocking(False)
            await asyncio.get_running_loop().sock_connect(sock, address.sockaddr)
        except BaseException:
            sock.close()
            raise
    except builtins.TimeoutError:
        raise
    except OSError as error:
        # The text of asyncio has the address once more, and not what is wrong with it.
        plain = OSError(error.errno, os.strerror(error.errno)) if error.errno else error
        raise UnreachableError(
            f"cannot connect to {where} over TCP: {explain_os_error(plain)}",
            remote_address=(address.sockaddr[0], address.sockaddr[1]),
            details={"errno": error.errno},
        ) from error
    return sock


@contextlib.asynccontextmanager
async def _limit(timeout: float, where: str, operation: str) -> AsyncIterator[None]:
    """Limit the time of the block, with our own error."""
    try:
        async with asyncio.timeout(timeout):
            yield
    except builtins.TimeoutError as error:
        if isinstance(error, TimeoutError):
            raise
        raise TimeoutError(
            f"{where} did not answer over TCP within {timeout:g} seconds",
            timeout_duration=timeout,
            operation=operation,
        ) from error
