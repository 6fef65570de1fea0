"""A wait ends at its deadline or when the peer is gone, also if both come in one turn."""

from __future__ import annotations

import asyncio

import pytest

from pywebtransport._core.presence import Presence, while_present
from pywebtransport.testing import session_pair

virtual = pytest.mark.loops("virtual")


@virtual
async def test_deadline_and_a_peer_that_is_gone_may_come_in_one_turn() -> None:
    """Fails by an ERROR in the log: an exception in a timer."""
    loop = asyncio.get_running_loop()
    async with session_pair() as (client, _):
        connection = client.connection
        await connection.close()
        patience = Presence(connection).patience
        before = loop.time()
        with pytest.raises(TimeoutError):
            async with while_present(connection, before + patience):
                await asyncio.Event().wait()
        assert loop.time() - before == pytest.approx(patience)


@virtual
async def test_wait_ends_when_the_peer_is_gone() -> None:
    loop = asyncio.get_running_loop()
    async with session_pair() as (client, _):
        connection = client.connection
        await connection.close()
        patience = Presence(connection).patience
        before = loop.time()
        with pytest.raises(TimeoutError):
            async with while_present(connection, before + 3600):
                await asyncio.Event().wait()
        assert loop.time() - before == pytest.approx(patience)
