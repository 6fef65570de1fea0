"""What ``Kind`` says of a browser itself is the same with a server that is not ours: aioquic's."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, NamedTuple

import pytest

from tests.interop.aioquic_peer import AioquicServer, AioquicSession, aioquic_server
from tests.support.certificates import Certificates

from .driver import Page
from .kinds import LARGEST_CODE_TOLD, Kind

CODES = [7, 256]


class Elsewhere(NamedTuple):
    """The other server, and the page that talks to it."""

    server: AioquicServer
    page: Page
    target: dict[str, str]

    @asynccontextmanager
    async def session(
        self, function: str, *args: Any
    ) -> AsyncIterator[tuple[AioquicSession, asyncio.Task[Any]]]:
        """What a function of ``checks.js`` opens, and its result to come; then the end."""
        task = asyncio.ensure_future(self.page.run(function, self.target, *args))
        far = await self.server.accept()
        assert isinstance(far, AioquicSession)
        yield far, task
        if not task.done():
            await far.close(0, "")
        await task


@pytest.fixture
def elsewhere(
    page: Page, certs: Certificates
) -> Callable[[], AbstractAsyncContextManager[Elsewhere]]:
    """``async with elsewhere() as it``."""

    @asynccontextmanager
    async def there() -> AsyncIterator[Elsewhere]:
        async with aioquic_server(certs) as server:
            target = {
                "url": f"https://127.0.0.1:{server.port}/wt",
                "hash": certs.server.hash.hex(),
            }
            yield Elsewhere(server, page, target)

    return there


Factory = Callable[[], AbstractAsyncContextManager[Elsewhere]]


async def test_protocols_in_the_request(elsewhere: Factory, kind: Kind) -> None:
    async with (
        elsewhere() as it,
        it.session("open", {"protocols": ["one", "two"]}) as (far, _),
    ):
        assert ("wt-available-protocols" in far.request) == kind.offers_protocols


async def test_codes_that_the_page_gives(elsewhere: Factory) -> None:
    async with elsewhere() as it:
        for code in CODES:
            async with it.session("resetByPage", code) as (far, _):
                number = await far.accept_stream(unidirectional=False)
                await far.send(number, b"begin")
                assert await far.was_reset(number) == min(code, LARGEST_CODE_TOLD)


async def test_codes_that_the_page_sees(elsewhere: Factory, kind: Kind) -> None:
    async with elsewhere() as it:
        for code in CODES:
            async with it.session("stopByServer") as (far, seen):
                while not seen.done():
                    arriving = asyncio.ensure_future(far.accept_stream(unidirectional=True))
                    await asyncio.wait({arriving, seen}, return_when=asyncio.FIRST_COMPLETED)
                    if arriving.done():
                        await far.stop(arriving.result(), code)
                    arriving.cancel()
            error = seen.result()
            wanted = code if code <= kind.largest_code_shown else 0
            assert (error.get("source"), error.get("code")) == ("stream", wanted), error


async def test_read_that_waits_for_a_reset(elsewhere: Factory, kind: Kind) -> None:
    async with elsewhere() as it, it.session("resetByServer") as (far, seen):
        number = await far.accept_stream(unidirectional=False)
        await far.send(number, b"begin")
        await far.received(number, b"beginseen")
        await far.reset(number, 7)
        error = await seen
    wanted = ("WebTransportError", 7) if kind.tells_reset_to_reader else ("TypeError", None)
    assert (error["name"], error.get("code")) == wanted


async def test_cancelled_reader(elsewhere: Factory, kind: Kind) -> None:
    async with elsewhere() as it, it.session("stopByPage", 7) as (far, _):
        number = await far.open_stream(unidirectional=True)
        await far.send(number, b"begin")
        await far.receive(await far.accept_stream(unidirectional=True))  # "cancelled"
        if kind.tells_cancel:
            assert await far.was_stopped(number) == 7
        else:
            assert not far.is_stopped(number)
