"""Python's warning about a call that was not awaited names the function that was called."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from pywebtransport import WebTransportClient, connect, serve
from pywebtransport.client import WebTransportProxy

_URL = "https://localhost/"


async def _handle(session: object) -> None:
    """Never called."""


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda: connect(_URL), "connect"),
        (lambda: WebTransportClient().connect(_URL), "WebTransportClient.connect"),
        (lambda: WebTransportProxy(_URL).connect(_URL), "WebTransportProxy.connect"),
        (lambda: serve(_handle, "localhost", 0), "serve"),
    ],
)
def test_forgotten_connect_is_named(call: Callable[[], Any], name: str) -> None:
    with pytest.warns(RuntimeWarning, match=f"^coroutine '{name}' was never awaited"):
        call()
