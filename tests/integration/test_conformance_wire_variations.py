"""Conformance on the wire, cases 82 and 105 in every shape they can have."""

from __future__ import annotations

import functools
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest

from tests.integration import raw_h3 as h3
from tests.integration.raw_peer import Linked, linked
from tests.support.steps import until

Link = Callable[..., AbstractAsyncContextManager[Linked]]

LIMIT = 10_000


@pytest.fixture
def link(serving: Callable[..., Any]) -> Link:
    """``async with link(...) as it``: see ``linked``."""
    return functools.partial(linked, serving)


# --------------------------------------------------------- 82: one byte over WT_MAX_DATA

DRAFT14 = {key: value for key, value in h3.SAFARI.items() if key != h3.WT_07}
DIALECTS = {"14": DRAFT14, "16": h3.DRAFT16}


@pytest.mark.parametrize("settings", DIALECTS.values(), ids=DIALECTS)
@pytest.mark.parametrize("how", ["one write", "new stream", "fin", "reset", "bidi", "stopped"])
async def test_case_082_one_byte_too_many(link: Link, settings: dict[int, int], how: str) -> None:
    async with link(settings=settings, initial_max_data=LIMIT) as it:
        token = "webtransport" if settings is DRAFT14 else "webtransport-h3"
        session_id, session = await it.open(protocol=token)
        if how == "one write":
            it.peer.open_in_session(session_id, bytes(LIMIT + 1), unidirectional=True)
        else:
            bidi = how == "bidi"
            number = it.peer.open_in_session(session_id, bytes(LIMIT), unidirectional=not bidi)
            await it.peer.delivered()
            await it.still_works(session_id, session)
            if how == "new stream":
                it.peer.open_in_session(session_id, b"", unidirectional=True)
                await it.still_works(session_id, session)
                it.peer.open_in_session(session_id, b"!", unidirectional=True)
            elif how == "reset":
                it.peer.send(number, b"!")
                # Pacing may hold it back, and what was not sent is not in the final size.
                sender = it.peer._quic._streams[number].sender
                end = sender._buffer_stop
                await until(lambda: sender.highest_offset == end)
                it.peer.reset(number, h3.stream_code(1))
            else:
                if how == "stopped":  # what nobody reads counts all the same
                    async for arrived in session.incoming_unidirectional_streams():
                        arrived.stop_sending(1)
                        break
                    limit = h3.read_varint(await it.peer.capsule(session_id, h3.CAP_MAX_DATA))[0]
                    assert limit == 2 * LIMIT
                    number = it.peer.open_in_session(session_id, bytes(LIMIT), unidirectional=True)
                    await it.still_works(session_id, session)
                it.peer.send(number, b"!", fin=how == "fin")
        assert await it.peer.aborted(session_id) == h3.FLOW_CONTROL
        assert (await session.wait_closed()).code is None
        again, other = await it.open(protocol=token)
        await it.still_works(again, other)


# ------------------------------------------------- 105: the signal of a stream after HEADERS

SIGNALS = {
    "short": b"\x40\x41\x00",
    "four bytes": b"\x80\x00\x00\x41\x00",
    "eight bytes": b"\xc0" + bytes(6) + b"\x41\x00",
}
BETWEEN = {
    "nothing": b"",
    "grease": h3.frame(h3.GREASE, b"x"),
    "data": h3.data(h3.capsule(0x17, b"x")),
}
GET = h3.encode_headers(
    [(":method", "GET"), (":scheme", "https"), (":authority", "localhost"), (":path", "/")]
)
REQUESTS = {
    "session": h3.connect(),
    "no path": h3.connect("/nowhere"),
    "protocol": h3.connect(protocol="other"),
    "get": GET,
}


@pytest.mark.parametrize("signal", SIGNALS.values(), ids=SIGNALS)
@pytest.mark.parametrize("between", BETWEEN.values(), ids=BETWEEN)
@pytest.mark.parametrize("request_frame", REQUESTS.values(), ids=REQUESTS)
async def test_case_105_behind_any_request(
    link: Link, request_frame: bytes, between: bytes, signal: bytes
) -> None:
    async with link() as it:
        it.peer.open(request_frame + between + signal)
        assert await it.peer.closed() == 0x106


@pytest.mark.parametrize("between", BETWEEN.values(), ids=BETWEEN)
async def test_case_105_byte_by_byte(link: Link, between: bytes) -> None:
    async with link() as it:
        session_id, _ = await it.open()
        for byte in between + b"\x40":
            it.peer.send(session_id, bytes([byte]))
            await it.peer.delivered()
        it.peer.send(session_id, b"\x41")
        assert await it.peer.closed() == 0x106


@pytest.mark.parametrize("together", [True, False])
async def test_case_105_before_settings(link: Link, together: bool) -> None:
    """The request waits, and the rule does not."""
    async with link(settings=None) as it:
        signal = h3.stream_header(0, unidirectional=False)
        number = it.peer.open(h3.connect() + (signal if together else b""))
        if not together:
            await it.peer.delivered()
            it.peer.send(number, signal)
        assert await it.peer.closed() == 0x106


# ------------------------------------------------------- a browser that never asks for credit


async def test_safari_is_given_all_credit_at_once(link: Link) -> None:
    """It stops at the limits that it knows first, so nothing may depend on raising them."""
    limits = {"initial_max_data": LIMIT, "initial_max_streams_uni": 3}
    async with link(settings=h3.SAFARI, **limits) as it:
        session_id, session = await it.open(protocol="webtransport")
        for kind in (h3.CAP_MAX_BIDI, h3.CAP_MAX_UNI):
            assert h3.read_varint(await it.peer.capsule(session_id, kind))[0] == 1 << 60
        value = await it.peer.capsule(session_id, h3.CAP_MAX_DATA)
        assert h3.read_varint(value)[0] == (1 << 62) - 1
        arrivals = session.incoming_unidirectional_streams()
        for _ in range(10):
            it.peer.open_in_session(session_id, bytes(2000), unidirectional=True, fin=True)
            assert await (await anext(arrivals)).read_all() == bytes(2000)
        await it.still_works(session_id, session)
        kinds = [found.type for found in it.peer.streams[session_id].capsules]
        assert sorted(kinds) == sorted((h3.CAP_MAX_DATA, h3.CAP_MAX_BIDI, h3.CAP_MAX_UNI))
