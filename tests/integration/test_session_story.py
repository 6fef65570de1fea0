"""What the log tells at DEBUG: each step of a connection and of a session, and no packets."""

from __future__ import annotations

import logging
import re

import pytest

from pywebtransport import WebTransportClient, WebTransportSession
from pywebtransport.exceptions import SessionRejectedError
from tests.support.endpoints import ClientFactory, PairOfSessions, Serving
from tests.support.steps import until

LOGGERS = ("pywebtransport.connection", "pywebtransport.session")
NUMBER = re.compile(r"\b[0-9a-f]{16}(-\d+)?\b")


def story(caplog: pytest.LogCaptureFixture, name: str) -> list[str]:
    """The lines about a connection and its sessions, with names and numbers that vary left out."""
    found = []
    for record in caplog.records:
        text = record.getMessage()
        if record.name in LOGGERS and name in text:
            assert record.levelno == logging.DEBUG
            text = NUMBER.sub("X", text)
            text = re.sub(r"\[?[\d:.]+\]?:\d{4,5}", "PEER", text)
            found.append(re.sub(r"\d+\.\d (ms|s)", r"T \1", text))
    return found


@pytest.mark.loops("asyncio")
async def test_a_session_is_a_story_at_both_ends(
    pair: PairOfSessions, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "pywebtransport")
    fields = {"application_protocols": ["chat"]}
    async with pair(client=fields, server=fields) as (near, far):
        names = [item.connection.connection_id for item in (near, far) if item.connection]
        stream = await near.create_bidirectional_stream()
        await stream.write_all(b"x")
        await near.datagrams.send(b"x")
        assert await far.datagrams.receive() == b"x"
        far.drain()
        assert await near.wait_draining()
        await near.close(code=3, reason="the\nend")
        await far.wait_closed()
        over = far.connection
        await until(lambda: over is None or over.is_closed)
    near_story = story(caplog, names[0])
    assert near_story[0] == "connection X: established with PEER, QUIC v1"
    # A client need not wait for SETTINGS.
    assert sorted(near_story[1:3]) == [
        "connection X: SETTINGS received, draft-16",
        "session X: / requested with PEER (origin -)",
    ]
    assert near_story[3:-1] == [
        "session X: accepted after T ms, application protocol chat",
        "session X: the peer asks to finish",
        "session X: ended by this end, code 3 'the\\nend', after T s, 1 streams, 1 datagrams sent, "
        "0 received",
    ]
    assert near_story[-1].startswith("connection X: closed after 1 session: this side closed")
    far_story = story(caplog, names[1])
    assert far_story[:4] == [
        "connection X: established with PEER, QUIC v1",
        "connection X: SETTINGS received, draft-16",
        "session X: / requested with PEER (origin -)",
        "session X: accepted after T ms, application protocol chat",
    ]
    assert far_story[4] == (
        "session X: ended by the peer, code 3 'the\\nend', after T s, 1 streams, 0 datagrams sent, "
        "1 received"
    )
    assert far_story[5].startswith("connection X: closed after 1 session: the peer closed")
    assert len(far_story) == 6
    (closing,) = [item for item in caplog.records if "code 3" in item.getMessage()][:1]
    assert vars(closing)["session_id"].startswith(names[0])
    assert "pywebtransport.quic.trace" not in {record.name for record in caplog.records}


@pytest.mark.loops("asyncio")
async def test_a_refused_session_and_a_server_that_leaves(
    serving: Serving, client_config: ClientFactory, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "pywebtransport")

    async def refuses(session: WebTransportSession) -> bool:
        return session.path != "/no"

    config = client_config(headers={"origin": "https://shop.example"})
    async with serving() as served, WebTransportClient(config=config) as client:
        served.app.add_middleware(refuses)
        with pytest.raises(SessionRejectedError):
            await client.connect(served.url("/no"))
        async with client.connect(served.url()) as session:
            name = session.session_id.partition("-")[0]
            await served.server.close(drain_timeout=0)
            await session.wait_closed()
    texts = [NUMBER.sub("X", record.getMessage()) for record in caplog.records]
    assert any(
        text.startswith("session X: /no requested with") and "(origin https://shop.example)" in text
        for text in texts
    )
    assert any("session X: ended by this end, without a code" in text for text in texts)
    assert (
        "session X: ended by the peer, code 0 'server shutdown', after T s, 0 streams, "
        "0 datagrams sent, 0 received" in story(caplog, name)
    )
    assert any(re.fullmatch(r"session X: its handler \S*_stay returned", text) for text in texts)
    access = [item for item in caplog.records if item.name == "pywebtransport.access"]
    assert [vars(item)["status"] for item in access] == [403, 200]


@pytest.mark.loops("asyncio")
async def test_at_info_there_is_no_story(
    pair: PairOfSessions, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "pywebtransport")
    async with pair():
        pass
    assert not {record.name for record in caplog.records} & set(LOGGERS)
