"""Fixtures for ASGI applications on a real server."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import pytest

from pywebtransport import WebTransportClient, WebTransportSession
from tests.support.asgi import Call, Stage, mounted
from tests.support.endpoints import ClientFactory, Served, ServerFactory, Serving

Mounting = Callable[..., AbstractAsyncContextManager[Served]]
Opening = Callable[..., AbstractAsyncContextManager[tuple[WebTransportSession, Call]]]


@pytest.fixture
def mounting(serving: Serving, server_config: ServerFactory) -> Mounting:
    """``async with mounting(application, **fields) as served``: a server for an application."""

    def mount(application: Any, **fields: Any) -> AbstractAsyncContextManager[Served]:
        return mounted(serving, server_config(**fields), application)

    return mount


@pytest.fixture
def opening(mounting: Mounting, client_config: ClientFactory) -> Opening:
    """``async with opening() as (client, call)``: a session whose far end the test plays.

    ``server`` and ``client`` are fields of the configurations.
    """
    return functools.partial(_open, mounting, client_config)


@asynccontextmanager
async def _open(
    mounting: Mounting,
    client_config: ClientFactory,
    path: str = "/",
    *,
    server: dict[str, Any] | None = None,
    client: dict[str, Any] | None = None,
    headers: dict[str, str] | None = None,
    **accept: Any,
) -> AsyncIterator[tuple[WebTransportSession, Call]]:
    stage = Stage()
    async with (
        mounting(stage, **(server or {})) as served,
        WebTransportClient(config=client_config(**(client or {}))) as opener,
    ):
        connecting = asyncio.ensure_future(opener.connect(served.url(path), headers=headers))
        call = await stage.next()
        await call.accept(**accept)
        session = await connecting
        try:
            yield session, call
        finally:
            if not call.outcome.done():
                call.end()
            await call.ended.wait()
