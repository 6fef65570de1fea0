"""One session without a client object: ``async with connect(url) as session``."""

from __future__ import annotations

from typing import Any, Unpack

from .._states import URL
from ..config import ClientConfig, ClientFields
from ..exceptions import invalid_config
from ..utils._checks import check_instance
from ..utils._tasks import named
from ._connecting import Connecting, ConnectOverrides
from .client import WebTransportClient

__all__ = ["connect"]


class _OneSession(Connecting):
    """A ``Connecting`` whose client serves nothing else."""

    __slots__ = ("_client",)

    def __init__(self, client: WebTransportClient, url: URL, timeout: float | None) -> None:
        overrides = ConnectOverrides(own_endpoint=True)
        super().__init__(named("connect", client.open_session(url, timeout, None, overrides)))
        self._client = client

    async def __aexit__(self, *exc_info: Any) -> None:
        try:
            await super().__aexit__(*exc_info)
        finally:
            await self._client.close()


def connect(
    url: URL,
    *,
    config: ClientConfig | None = None,
    timeout: float | None = None,
    **fields: Unpack[ClientFields],
) -> Connecting:
    """Open one session: use it in ``async with``, or ``await`` it.

    ::

        async with connect("https://example.org/chat") as session:
            await session.datagrams.send(b"hello")

    The session has its own connection and socket, which close with it: when the block is left,
    after ``await session.close()``, or when the peer ends it. To open many sessions, or to share
    connections, use ``WebTransportClient``; for one session that reconnects,
    ``ReconnectingClient``.

    Args:
        url: ``https://host[:port]/path?query``.
        config: Default ``ClientConfig()``.
        timeout: Seconds for everything from name resolution to the server's answer; default
            ``connect_timeout``.
        **fields: Fields of ``ClientConfig``, such as ``server_certificate_hashes``, ``headers``,
            ``application_protocols`` or ``ca_certs``. They replace those of ``config``.

    Returns:
        The ready session. Leaving ``async with`` closes it, with code 1 after an exception.

    Raises:
        ConfigurationError: A field is unknown or its value is not accepted, or
            ``allow_pooling`` or ``auto_reconnect`` is set.
        Otherwise as ``WebTransportClient.connect``.

    Cancellation: safe, nothing stays open.
    """
    if config is not None:
        check_instance("config", config, ClientConfig)
    chosen = (ClientConfig() if config is None else config).update(**fields)
    for key, instead in (
        ("allow_pooling", "WebTransportClient"),
        ("auto_reconnect", "ReconnectingClient"),
    ):
        if getattr(chosen, key):
            raise invalid_config(
                key=key, value=True, reason=f"connect() opens one session; use {instead}"
            )
    return _OneSession(WebTransportClient(config=chosen), url, timeout)
