"""Names that exist for one test only, as entries in a hosts file would."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest


def add_hosts(monkeypatch: pytest.MonkeyPatch, hosts: Mapping[str, str]) -> None:
    """Let the running loop resolve each name to an address."""
    loop = asyncio.get_running_loop()
    original = loop.getaddrinfo

    async def getaddrinfo(host: str, port: int, **options: Any) -> Any:
        return await original(hosts.get(host, host), port, **options)

    monkeypatch.setattr(loop, "getaddrinfo", getaddrinfo)
