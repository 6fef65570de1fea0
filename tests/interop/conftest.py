"""Sessions with other stacks: each test that asks for ``linked`` runs with every peer and role."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import pytest

from pywebtransport import ClientConfig, WebTransportClient, WebTransportSession
from tests.support.certificates import Certificates

from .aiopquic_peer import aiopquic_client, aiopquic_server
from .aioquic_peer import aioquic_client, aioquic_server
from .deno_peer import script_client, script_server
from .environment import MINIMUM, deno, find_python, moq, node, peer_python, qmux_python
from .link import Far, Link
from .qmux_peer import qmux_client, qmux_server
from .zmuxio_peer import zmuxio_client, zmuxio_server

_PATH = "/interop"


@pytest.fixture(scope="session")
def aiopquic_python() -> str:
    """An interpreter that can import aiopquic, which needs a newer Python than this project."""
    if find_python() is None:
        pytest.skip(
            f"aiopquic needs Python {MINIMUM[0]}.{MINIMUM[1]} or later, and none is installed"
        )
    return peer_python()


@pytest.fixture(scope="session")
def zmuxio_python() -> str:
    """An interpreter that can import zmuxio, which needs a newer Python than this project."""
    if find_python() is None:
        pytest.skip(
            f"zmuxio needs Python {MINIMUM[0]}.{MINIMUM[1]} or later, and none is installed"
        )
    return qmux_python()


@pytest.fixture(scope="session")
def node_there() -> None:
    """@moq/qmux is installed."""
    node()


@pytest.fixture(scope="session")
def deno_there() -> None:
    """Deno is installed."""
    deno()


@pytest.fixture(scope="session")
def moq_there() -> None:
    """@moq/web-transport is installed."""
    moq()


@pytest.fixture(
    params=[
        *("aioquic-client", "aioquic-server"),
        *("aiopquic-client", "aiopquic-server"),
        *("moq-client", "moq-server"),
        *("zmuxio-client", "zmuxio-server"),
        *("qmux-client", "qmux-server"),
    ]
)
def linked(
    request: pytest.FixtureRequest,
    certs: Certificates,
    serving: Callable[..., Any],
    client_config: Callable[..., ClientConfig],
) -> Callable[..., AbstractAsyncContextManager[Link]]:
    """``async with linked() as link``: a session, the other end of which is the named peer.

    zmuxio and @moq/qmux (``qmux``) speak QMux over WebSocket.
    """
    peer, role = request.param.split("-")
    needed = {
        "aiopquic": "aiopquic_python",
        "zmuxio": "zmuxio_python",
        "moq": "moq_there",
        "qmux": "node_there",
    }
    python = request.getfixturevalue(needed[peer]) if peer in needed else ""
    over_tcp = peer in ("zmuxio", "qmux")

    def connecting(port: int) -> AbstractAsyncContextManager[Far]:
        match peer:
            case "aioquic":
                return aioquic_client(certs, port, _PATH)
            case "aiopquic":
                return aiopquic_client(python, certs, port, _PATH)
            case "zmuxio":
                return zmuxio_client(python, certs, port, _PATH)
            case "qmux":
                return qmux_client(certs, port, _PATH)
        return script_client(peer, certs, port, _PATH)

    def listening() -> AbstractAsyncContextManager[Any]:
        match peer:
            case "aioquic":
                return aioquic_server(certs)
            case "aiopquic":
                return aiopquic_server(python, certs, _PATH)
            case "zmuxio":
                return zmuxio_server(python, certs)
            case "qmux":
                return qmux_server(certs)
        return script_server(peer, certs)

    @asynccontextmanager
    async def they_connect(**fields: Any) -> AsyncIterator[Link]:
        sessions: asyncio.Queue[WebTransportSession] = asyncio.Queue()
        async with (
            serving({_PATH: sessions.put}, websocket=over_tcp, **fields) as served,
            connecting(served.port) as far,
        ):
            yield Link(await sessions.get(), far)

    @asynccontextmanager
    async def we_connect(**fields: Any) -> AsyncIterator[Link]:
        if over_tcp:
            fields = {"fallback": "websocket", "fallback_delay": 0.0, **fields}
        async with (
            listening() as server,
            WebTransportClient(config=client_config(close_timeout=2.0, **fields)) as client,
        ):
            url = f"https://127.0.0.1:{server.port}{_PATH}"
            ours, far = await asyncio.gather(client.connect(url), server.accept())
            yield Link(ours, far)

    return they_connect if role == "client" else we_connect
