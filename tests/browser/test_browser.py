"""What a page sees of our server, and the server of the page, in every browser."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import random
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest

from pywebtransport import WebTransportReceiveStream, WebTransportSession, WebTransportStream
from pywebtransport.exceptions import (
    SessionClosedError,
    StreamError,
    StreamResetError,
    StreamStoppedError,
)
from tests.support.steps import echo_bidirectional, until

from .conftest import Visit
from .driver import Page, PageError
from .kinds import LARGEST_CODE_TOLD, Kind

VisitFactory = Callable[..., AbstractAsyncContextManager[Visit]]

MIB = 1 << 20
CODES = [0, 1, 29, 30, 255, 256, 70_000, 4_294_967_295]
# What Chromium makes of a clean end now and then, see checks.js.
CONNECTION_LOST = "WebTransportError: Connection lost."
TRIES = 5
# Each of these must be right.
RUNS = 8
# So often may a browser that leaves at once be too fast for its own words.
SLOW_TO_SAY = 20


async def arrival(session: WebTransportSession) -> WebTransportReceiveStream:
    """The next stream of the page, of either kind."""
    async for stream in session.incoming_streams():
        return stream
    raise AssertionError("the session ended")


async def echo_datagrams(session: WebTransportSession) -> None:
    """Every datagram goes back, until the session ends."""
    with contextlib.suppress(SessionClosedError):
        while True:
            await session.datagrams.send(await session.datagrams.receive())


# ------------------------------------------------------------------------------------ sessions


async def test_session_opens_with_certificate_hash(visit: VisitFactory, site: str) -> None:
    async with visit() as it, asyncio.TaskGroup() as group:
        seen = group.create_task(it.run("open"))
        session = await it.sessions.get()
        assert session.path == "/wt"
        assert session.origin == site
        assert session.authority == f"127.0.0.1:{it.served.port}"
        info = await session.wait_closed()
        assert (info.code, info.reason, info.remote) == (0, "", True)
    assert seen.result()["maxDatagramSize"] > 1000


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "[::1]"])
async def test_every_name_of_this_machine(visit: VisitFactory, host: str) -> None:
    async with visit(echo_bidirectional, bind_host="localhost") as it:
        it.url = it.served.url("/wt", host=host)
        assert await it.run("bidirectionalByPage", f"hello {host}") == f"hello {host}"


async def test_query_of_the_url_arrives(visit: VisitFactory) -> None:
    async with visit() as it, asyncio.TaskGroup() as group:
        it.url += "?room=7&name=%C3%A9"
        group.create_task(it.run("open"))
        assert (await it.sessions.get()).path == "/wt?room=7&name=%C3%A9"


async def test_draft_that_both_ends_choose(visit: VisitFactory, kind: Kind) -> None:
    async with visit() as it, asyncio.TaskGroup() as group:
        group.create_task(it.run("open"))
        await it.sessions.get()
        assert [one.dialect for one in it.served.server.connections] == [kind.dialect]


async def test_application_protocol(visit: VisitFactory, kind: Kind) -> None:
    offered = ("other", "chat.v1", "chat.v2") if kind.offers_protocols else ()
    chosen = "chat.v1" if kind.offers_protocols else None
    async with (
        visit(application_protocols=["chat.v2", "chat.v1"]) as it,
        asyncio.TaskGroup() as group,
    ):
        seen = group.create_task(it.run("open", {"protocols": ["other", "chat.v1", "chat.v2"]}))
        session = await it.sessions.get()
        assert session.offered_protocols == offered
        assert session.application_protocol == chosen
    assert seen.result()["protocol"] == chosen


async def test_no_application_protocol_in_common(visit: VisitFactory) -> None:
    async with visit(application_protocols=["mine"]) as it, asyncio.TaskGroup() as group:
        seen = group.create_task(it.run("open", {"protocols": ["theirs"]}))
        assert (await it.sessions.get()).application_protocol is None
    assert not seen.result()["protocol"]


async def test_several_sessions_of_one_page(visit: VisitFactory) -> None:
    async with visit(echo_bidirectional) as it:
        answers = await it.run("severalSessions", 4)
        assert answers == [f"session {number}" for number in range(4)]


# ----------------------------------------------------------------------- sessions that are not


async def test_path_without_webtransport_is_refused(visit: VisitFactory) -> None:
    async with visit() as it:
        it.url = it.served.url("/elsewhere")
        seen = await it.run("fails")
        assert seen["ready"]["isTransportError"]
        assert seen["ready"]["source"] == "session"
        assert it.sessions.empty()


async def test_origin_that_is_not_allowed_is_refused(visit: VisitFactory) -> None:
    async with visit(allowed_origins=["https://elsewhere.example"]) as it:
        seen = await it.run("fails")
        assert seen["ready"]["source"] == "session"
        assert it.sessions.empty()
        assert not it.served.server.sessions


async def test_origin_that_is_allowed_is_served(visit: VisitFactory, site: str) -> None:
    async with visit(echo_bidirectional, allowed_origins=[site]) as it:
        assert await it.run("bidirectionalByPage", "allowed") == "allowed"


async def test_middleware_refuses_and_the_next_session_works(visit: VisitFactory) -> None:
    async with visit(echo_bidirectional) as it:
        asked: list[str] = []

        async def once(session: WebTransportSession) -> bool:
            asked.append(session.path)
            return len(asked) > 1

        it.served.app.add_middleware(once)
        seen = await it.run("fails")
        assert seen["ready"]["source"] == "session"
        assert await it.run("bidirectionalByPage", "second") == "second"
        assert asked == ["/wt", "/wt"]


async def test_wrong_hash_fails(visit: VisitFactory) -> None:
    async with visit() as it:
        it.hash = bytes(32)
        seen = await it.run("fails")
        assert seen["ready"]["isTransportError"]
        assert seen["closed"]["isTransportError"]
        assert it.sessions.empty()
        await until(lambda: not it.served.server.connections)


async def test_close_before_the_session_is_ready(visit: VisitFactory) -> None:
    async with visit(echo_bidirectional) as it:
        seen = await it.run("closeBeforeReady")
        assert seen["isTransportError"]
        assert await it.run("bidirectionalByPage", "next") == "next"


# ----------------------------------------------------------------------------------------- end


@pytest.mark.parametrize(
    ("code", "reason"),
    [(0, ""), (1, "bye"), (4_294_967_295, "Grüße, 世界"), (7, "r" * 1024)],
    ids=["empty", "plain", "largest", "long"],
)
async def test_close_by_the_page(visit: VisitFactory, code: int, reason: str) -> None:
    async with visit() as it, asyncio.TaskGroup() as group:
        seen = group.create_task(it.run("closeByPage", {"closeCode": code, "reason": reason}))
        info = await (await it.sessions.get()).wait_closed()
        assert (info.code, info.reason, info.remote) == (code, reason, True)
    assert seen.result()["closeCode"] == code


@pytest.mark.parametrize(
    ("code", "reason"),
    [(0, ""), (1, "bye"), (4_294_967_295, "Grüße, 世界"), (7, "r" * 1024)],
    ids=["empty", "plain", "largest", "long"],
)
async def test_close_by_the_server(visit: VisitFactory, code: int, reason: str) -> None:
    async def close(session: WebTransportSession) -> None:
        await session.close(code=code, reason=reason)

    async with visit(close) as it:
        assert await it.run("waitClosed", TRIES) == {"closeCode": code, "reason": reason}


async def test_drain_leaves_streams_working(visit: VisitFactory) -> None:
    async with visit() as it, asyncio.TaskGroup() as group:
        seen = group.create_task(it.run("bidirectionalByServer"))
        session = await it.sessions.get()
        await session.drain()
        stream = await session.create_bidirectional_stream()
        await stream.write_all(b"after drain")
        assert await stream.read_all() == b"answer to after drain"
        await session.close()
    assert seen.result() == "after drain"


async def test_server_shutdown_reaches_the_page(visit: VisitFactory) -> None:
    async def shut_down() -> object:
        async with visit() as it:
            seen = asyncio.create_task(it.run("waitClosed", 1))
            await it.sessions.get()
            await it.served.server.close(drain_timeout=0)
            try:
                return await seen
            except PageError as error:
                return str(error)

    outcomes = [await shut_down() for _ in range(TRIES)]
    clean = {"closeCode": 0, "reason": "server shutdown"}
    assert clean in outcomes
    assert {str(outcome) for outcome in outcomes} <= {str(clean), CONNECTION_LOST}


async def fill(session: WebTransportSession, count: int, group: asyncio.TaskGroup) -> None:
    """Write to ``count`` streams here and read as many of the page, until the session ends."""

    async def write() -> None:
        stream = await session.create_unidirectional_stream()
        with contextlib.suppress(SessionClosedError, StreamError):
            while True:
                await stream.write(bytes(10_000))
                await stream.flush()

    async def read(stream: WebTransportReceiveStream) -> None:
        with contextlib.suppress(SessionClosedError, StreamError):
            async for _ in stream:
                pass

    bidirectional = session.incoming_bidirectional_streams()
    for _ in range(count):
        group.create_task(read(await anext(bidirectional)))
    for _ in range(count):
        group.create_task(write())


def check_streams(runs: list[dict[str, Any]], kind: Kind) -> None:
    """Readers and writers of the page were told that the session ended, not the stream."""

    def right(error: dict[str, Any]) -> bool:
        return (error["isTransportError"], error.get("source")) == (True, "session")

    wrong = [error for seen in runs for error in seen["readers"] if not right(error)]
    if kind.tells_reset_to_reader:
        assert not wrong
    else:  # while data streams in, a reader of Firefox is now and then told of neither
        assert {error["name"] for error in wrong} <= {"TypeError"}
        assert sum(all(map(right, seen["readers"])) for seen in runs) >= len(runs) // 2
    for error in (error for seen in runs for error in seen["writers"]):
        assert right(error) or error["name"] == kind.other_write_error, error


@pytest.mark.limit(120)
@pytest.mark.parametrize("count", [1, 20])
async def test_close_by_the_server_with_streams_in_flight(
    visit: VisitFactory, kind: Kind, count: int
) -> None:
    runs: list[dict[str, Any]] = []
    for _ in range(RUNS):
        async with visit() as it, asyncio.TaskGroup() as group:
            seen = group.create_task(it.run("busyUntilTheEnd", count))
            session = await it.sessions.get()
            await fill(session, count, group)
            assert await (await arrival(session)).readexactly(5) == b"ready"
            await session.close(code=4242, reason="in flight")
        runs.append(seen.result())
        assert runs[-1]["end"] == {"closeCode": 4242, "reason": "in flight"}
    check_streams(runs, kind)


@pytest.mark.limit(120)
async def test_shutdown_of_the_server_with_streams_in_flight(
    visit: VisitFactory, kind: Kind
) -> None:
    runs: list[dict[str, Any]] = []
    for _ in range(RUNS):
        async with visit() as it, asyncio.TaskGroup() as group:
            seen = group.create_task(it.run("busyUntilTheEnd", 3))
            session = await it.sessions.get()
            await fill(session, 3, group)
            assert await (await arrival(session)).readexactly(5) == b"ready"
            await it.served.server.close(drain_timeout=0)
        runs.append(seen.result())
    check_streams(runs, kind)
    ends = [seen["end"] for seen in runs]
    lost = [end for end in ends if end.get("message") == "Connection lost."]
    assert len(lost) < RUNS / 2
    clean = {"closeCode": 0, "reason": "server shutdown"}
    assert all(end == clean for end in ends if end not in lost), ends


@pytest.mark.limit(120)
@pytest.mark.parametrize("count", [1, 20])
async def test_close_by_the_page_with_streams_in_flight(
    visit: VisitFactory, kind: Kind, count: int
) -> None:
    said = {"closeCode": 77, "reason": "enough"}
    words = (77, "enough", True)
    heard: list[tuple[int | None, str, bool]] = []
    runs: list[dict[str, Any]] = []
    while words not in heard:
        async with visit() as it, asyncio.TaskGroup() as group:
            seen = group.create_task(it.run("busyUntilTheEnd", count, said))
            session = await it.sessions.get()
            await fill(session, count, group)
            info = await session.wait_closed()
        heard.append((info.code, info.reason, info.remote))
        assert heard[-1] == words or (heard[-1] == (None, "", True) and not kind.waits_to_say_close)
        assert len(heard) < SLOW_TO_SAY, "what the page said never arrived"
        runs.append(seen.result())
        assert runs[-1]["end"] == said
    check_streams(runs, kind)


async def test_server_waits_for_the_page_to_finish(visit: VisitFactory) -> None:
    async with visit() as it, asyncio.TaskGroup() as group:
        seen = group.create_task(it.run("bidirectionalByPage", "last words"))
        session = await it.sessions.get()
        stream = await arrival(session)
        assert isinstance(stream, WebTransportStream)
        closing = group.create_task(it.served.server.close(drain_timeout=30))
        await stream.write_all(await stream.read_all())
        await closing
    assert seen.result() == "last words"


async def test_session_that_the_server_aborts(visit: VisitFactory) -> None:
    async with visit() as it, asyncio.TaskGroup() as group:
        seen = group.create_task(it.run("busyUntilTheEnd", 3))
        session = await it.sessions.get()
        await fill(session, 3, group)
        assert await (await arrival(session)).readexactly(5) == b"ready"
        session.abort()
    end = seen.result()["end"]
    assert (end["isTransportError"], end.get("source")) == (True, "session"), end


async def test_page_that_is_left(visit: VisitFactory, kind: Kind, page: Page) -> None:
    # Chromium says no word: the idle timeout ends what the page leaves. Firefox keeps the page, for
    # the case that somebody goes back to it, and its session.
    async with visit(connection_idle_timeout=1.0) as it:
        await it.run("stay")
        session = await it.sessions.get()
        await page.run("() => { location = 'about:blank'; }")
        if kind.keeps_pages:
            stream = await session.create_unidirectional_stream()
            await stream.write_all(b"still there")
            await stream.wait_acknowledged()
            await session.close()
        else:
            assert (await session.wait_closed()).remote
            await until(lambda: not it.served.server.connections)


# ------------------------------------------------------------------------------------- streams


async def test_bidirectional_stream_opened_by_the_page(visit: VisitFactory) -> None:
    async with visit(echo_bidirectional) as it:
        assert await it.run("bidirectionalByPage", "Grüße, 世界") == "Grüße, 世界"


async def test_bidirectional_stream_opened_by_the_server(visit: VisitFactory) -> None:
    async with visit() as it, asyncio.TaskGroup() as group:
        seen = group.create_task(it.run("bidirectionalByServer"))
        session = await it.sessions.get()
        stream = await session.create_bidirectional_stream()
        await stream.write_all(b"question")
        assert await stream.read_all() == b"answer to question"
        await session.close()
    assert seen.result() == "question"


async def test_unidirectional_stream_opened_by_the_page(visit: VisitFactory) -> None:
    async with visit() as it, asyncio.TaskGroup() as group:
        group.create_task(it.run("unidirectionalByPage", "one way"))
        session = await it.sessions.get()
        stream = await arrival(session)
        assert not isinstance(stream, WebTransportStream)
        assert await stream.read_all() == b"one way"
        await session.close()


async def test_unidirectional_stream_opened_by_the_server(visit: VisitFactory) -> None:
    async with visit() as it, asyncio.TaskGroup() as group:
        seen = group.create_task(it.run("unidirectionalByServer"))
        session = await it.sessions.get()
        await (await session.create_unidirectional_stream()).write_all(b"other way")
        await session.wait_closed()
    assert seen.result() == "other way"


async def test_empty_stream(visit: VisitFactory) -> None:
    async with visit(echo_bidirectional) as it:
        assert await it.run("emptyStream") == 0


@pytest.mark.parametrize("count", [200])
async def test_concurrent_streams_of_the_page(visit: VisitFactory, count: int) -> None:
    async with visit(echo_bidirectional) as it:
        assert await it.run("concurrentStreams", count) == count


@pytest.mark.parametrize("count", [200])
async def test_concurrent_streams_of_the_server(visit: VisitFactory, count: int) -> None:
    async with visit() as it, asyncio.TaskGroup() as group:
        seen = group.create_task(it.run("concurrentStreamsOfServer", count))
        session = await it.sessions.get()

        async def send(number: int) -> None:
            stream = await session.create_unidirectional_stream(timeout=30)
            await stream.write_all(f"stream {number}")

        await asyncio.gather(*(send(number) for number in range(count)))
        await session.wait_closed()
    assert seen.result() == count


async def test_upload_of_20_mib(visit: VisitFactory) -> None:
    async with visit() as it, asyncio.TaskGroup() as group:
        seen = group.create_task(it.run("upload", 20 * MIB))
        session = await it.sessions.get()
        digest, size = hashlib.sha256(), 0
        async for chunk in await arrival(session):
            digest.update(chunk)
            size += len(chunk)
        await session.close()
    assert seen.result() == {"size": 20 * MIB, "sha256": digest.hexdigest()}
    assert size == 20 * MIB


async def test_download_of_20_mib(visit: VisitFactory) -> None:
    data = random.Random(3).randbytes(20 * MIB)
    async with visit() as it, asyncio.TaskGroup() as group:
        seen = group.create_task(it.run("download"))
        session = await it.sessions.get()
        await (await session.create_unidirectional_stream()).write_all(data)
        await session.wait_closed()
    assert seen.result() == {"size": 20 * MIB, "sha256": hashlib.sha256(data).hexdigest()}


# ------------------------------------------------------------------------ reset and stop codes


async def test_reset_codes_of_the_page(visit: VisitFactory) -> None:
    async with visit() as it:
        for code in CODES:
            async with asyncio.TaskGroup() as group:
                group.create_task(it.run("resetByPage", code))
                session = await it.sessions.get()
                stream = await arrival(session)
                assert isinstance(stream, WebTransportStream)
                assert await stream.readexactly(5) == b"begin"
                await stream.write(b"seen")
                with pytest.raises(StreamResetError) as caught:
                    await stream.read()
                assert caught.value.error_code == min(code, LARGEST_CODE_TOLD)
                await session.close()


async def test_stop_codes_of_the_page(visit: VisitFactory, kind: Kind) -> None:
    async with visit() as it:
        for code in CODES:
            async with asyncio.TaskGroup() as group:
                group.create_task(it.run("stopByPage", code))
                session = await it.sessions.get()
                stream = await session.create_unidirectional_stream()
                await stream.write(b"begin")
                assert await (await arrival(session)).read_all() == b"cancelled"
                if kind.tells_cancel:
                    await until(lambda stream=stream: not stream.is_writable)
                    with pytest.raises(StreamStoppedError) as caught:
                        await stream.write(b"more")
                    assert caught.value.error_code == min(code, LARGEST_CODE_TOLD)
                else:
                    await stream.write(b"more")
                await session.close()


async def test_reset_codes_of_the_server(visit: VisitFactory, kind: Kind) -> None:
    async with visit() as it:
        for code in CODES:
            async with asyncio.TaskGroup() as group:
                seen = group.create_task(it.run("resetByServer"))
                session = await it.sessions.get()
                stream = await arrival(session)
                assert isinstance(stream, WebTransportStream)
                await stream.write(b"begin")
                assert await stream.readexactly(len(b"beginseen")) == b"beginseen"
                stream.reset(code)
                await session.wait_closed()
            error = seen.result()
            if kind.tells_reset_to_reader:
                assert (error.get("source"), error.get("code")) == ("stream", code), error
            else:
                assert (error["name"], error.get("code")) == ("TypeError", None)


async def test_reset_codes_of_the_server_before_the_page_reads(
    visit: VisitFactory, kind: Kind
) -> None:
    async def reset_all(session: WebTransportSession, code: int) -> None:
        with contextlib.suppress(SessionClosedError):
            async for stream in session.incoming_bidirectional_streams():
                await stream.write(b"begin")
                assert await stream.read_all() == b"begin"
                stream.reset(code)
                await (await session.create_unidirectional_stream()).write_all(b"reset")

    async with visit() as it:
        for code in CODES:
            async with asyncio.TaskGroup() as group:
                seen = group.create_task(it.run("resetBeforeRead"))
                await reset_all(await it.sessions.get(), code)
            error = seen.result()
            wanted = code if code <= kind.largest_code_shown else 0
            assert (error.get("source"), error.get("code")) == ("stream", wanted), error


async def test_stop_codes_of_the_server(visit: VisitFactory, kind: Kind) -> None:
    async with visit() as it:
        for code in CODES:
            async with asyncio.TaskGroup() as group:
                seen = group.create_task(it.run("stopByServer"))
                session = await it.sessions.get()
                async for stream in session.incoming_unidirectional_streams():
                    stream.stop_sending(code)
            error = seen.result()
            wanted = code if code <= kind.largest_code_shown else 0
            assert (error.get("source"), error.get("code")) == ("stream", wanted), error


# ----------------------------------------------------------------------------------- datagrams


async def test_datagrams_both_ways(visit: VisitFactory) -> None:
    async with visit() as it, asyncio.TaskGroup() as group:
        seen = group.create_task(it.run("datagrams", 100))
        session = await it.sessions.get()
        await echo_datagrams(session)
    assert seen.result() == 100


async def test_largest_datagram(visit: VisitFactory) -> None:
    async with visit() as it, asyncio.TaskGroup() as group:
        seen = group.create_task(it.run("largestDatagram"))
        session = await it.sessions.get()
        datagram = await session.datagrams.receive()
        await session.datagrams.send(datagram[: session.max_datagram_size])
        await session.wait_closed()
    assert seen.result()["size"] == len(datagram) > 1000
    assert seen.result()["echoed"] > 1000


async def test_empty_datagram_of_the_page(visit: VisitFactory) -> None:
    async with visit() as it, asyncio.TaskGroup() as group:
        group.create_task(it.run("emptyDatagram"))
        session = await it.sessions.get()
        assert await session.datagrams.receive() == b""
        await session.close()
