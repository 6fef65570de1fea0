"""Header fields on the wire, at both ends: types, sizes, several lines of one field."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import pytest

from pywebtransport import ClientConfig, WebTransportClient, WebTransportSession
from pywebtransport.exceptions import ConfigurationError, ProtocolError, SessionRejectedError
from pywebtransport.h3._constants import MAX_FIELD_LINE, MAX_FIELD_NAME
from tests.integration import raw_h3 as h3
from tests.integration.raw_peer import Linked, RawPeer, linked, raw_server
from tests.support.certificates import Certificates

Link = Callable[..., AbstractAsyncContextManager[Linked]]

SERVER16 = h3.DRAFT16 | {h3.CONNECT_PROTOCOL: 1}
COOKIES = [("set-cookie", "a=1; Path=/"), ("set-cookie", "b=2; Expires=Mon, 30 Nov 2026")]


@pytest.fixture
def link(serving: Callable[..., Any]) -> Link:
    """``async with link(...) as it``: see ``linked``."""
    return functools.partial(linked, serving)


# ------------------------------------------------------------------------------- our server


async def test_lines_of_a_request(link: Link) -> None:
    fields = [("x", "1"), ("cookie", "a=1"), *COOKIES, ("x", "2"), ("cookie", "b=2")]
    async with link() as it:
        _, session = await it.open(fields=fields)
        assert (
            session.headers
            == dict(session.headers)
            == {
                "x": "1, 2",
                "cookie": "a=1; b=2",
                "set-cookie": COOKIES[0][1],
            }
        )
        assert session.headers.get_all("set-cookie") == [value for _, value in COOKIES]
        assert session.headers.get_all("cookie") == ["a=1", "b=2"]
        assert sorted(session.headers.lines) == sorted(fields)


def answering(answer: Callable[[WebTransportSession], Any]) -> Callable[..., Any]:
    async def handler(session: WebTransportSession) -> None:
        answer(session)

    return handler


def server_app(answer: Callable[[WebTransportSession], Any]) -> Any:
    """Middleware that answers before the session is accepted."""
    from pywebtransport import ServerApp, ServerConfig

    def make(config: ServerConfig) -> ServerApp:
        app = ServerApp(config=config)

        @app.middleware
        async def middleware(session: WebTransportSession) -> bool:
            answer(session)
            return True

        @app.route("/")
        async def handler(session: WebTransportSession) -> None: ...

        return app

    return make


Answer = Callable[[WebTransportSession], Any]


@pytest.fixture
def answered(
    server_config: Callable[..., Any], serving: Callable[..., Any]
) -> Callable[..., AbstractAsyncContextManager[RawPeer]]:
    """A raw client of a server whose middleware answers with a function."""
    from tests.integration.raw_peer import raw_client

    @asynccontextmanager
    async def run(answer: Answer, settings: dict[int, int] | None = None) -> AsyncIterator[RawPeer]:
        app = server_app(answer)(server_config())
        async with (
            serving(app) as served,
            raw_client(served.port, settings=h3.DRAFT16 | (settings or {})) as peer,
        ):
            yield peer

    return run


Answered = Callable[..., AbstractAsyncContextManager[RawPeer]]


async def lines_of(peer: RawPeer, request: int) -> list[tuple[str, str]]:
    await peer.headers(request)
    return peer.streams[request].lines


async def test_lines_of_an_acceptance(answered: Answered) -> None:
    headers = {"Set-Cookie": [value for _, value in COOKIES], "X-Count": 7, "x-list": ["a", 2]}
    async with answered(lambda session: session.accept(headers=headers)) as peer:
        lines = await lines_of(peer, peer.open(h3.connect()))
        assert lines[0] == (":status", "200")
        assert lines[1:] == [*COOKIES, ("x-count", "7"), ("x-list", "a"), ("x-list", "2")]


async def test_lines_of_a_refusal(answered: Answered) -> None:
    def refuse(session: WebTransportSession) -> None:
        raise SessionRejectedError(
            status_code=429,
            headers={"retry-after": 30, "set-cookie": [value for _, value in COOKIES]},
        )

    async with answered(refuse) as peer:
        lines = await lines_of(peer, peer.open(h3.connect()))
        assert lines == [(":status", "429"), ("retry-after", "30"), *COOKIES]


UNFIT: dict[str, Any] = {
    "float": {"x": 1.5},
    "bool": {"x": True},
    "none": {"x": None},
    "bytes": {"x": b"y"},
    "line break": {"x": "a\r\nb"},
    "name": {"a b": "c"},
    "too long": {"x": "v" * 70_000},
    "no mapping": [("a", "b")],
}


@pytest.mark.parametrize("headers", UNFIT.values(), ids=UNFIT)
@pytest.mark.parametrize("method", ["accept", "reject"])
async def test_answer_that_cannot_be_sent_leaves_the_request_open(
    answered: Answered, method: str, headers: Any
) -> None:
    def answer(session: WebTransportSession) -> None:
        with pytest.raises(ConfigurationError, match="header"):
            getattr(session, method)(headers=headers)
        session.reject(status_code=418, headers={"x-tried": method})

    async with answered(answer) as peer:
        lines = await lines_of(peer, peer.open(h3.connect()))
        assert lines == [(":status", "418"), ("x-tried", method)]


@pytest.mark.parametrize("method", ["accept", "reject"])
async def test_size_that_the_client_accepts(answered: Answered, method: str) -> None:
    def answer(session: WebTransportSession) -> None:
        with pytest.raises(ConfigurationError, match=r'"x-large", 900.* 0 to 600 bytes'):
            getattr(session, method)(headers={"x-large": "v" * 900})
        getattr(session, method)(headers={"x-small": "v" * 300})

    async with answered(answer, {h3.FIELD_SECTION_SIZE: 600}) as peer:
        lines = await lines_of(peer, peer.open(h3.connect()))
        assert lines[1] == ("x-small", "v" * 300)


async def test_client_that_accepts_no_header(answered: Answered) -> None:
    def answer(session: WebTransportSession) -> None:
        with pytest.raises(ConfigurationError, match="0 to 20 bytes"):
            session.accept()
        session.reject(status_code=500)

    async with answered(answer, {h3.FIELD_SECTION_SIZE: 20}) as peer:
        request = peer.open(h3.connect())
        assert await peer.aborted(request) == 0x10B


LARGE: dict[str, list[tuple[str, str]]] = {
    "one over": [("x", "v" * 65_536)],
    "value": [("x-token", "t" * 70_000)],
    "value of a megabyte": [("x-token", "t" * 1_000_000)],
    "name": [("n" * 70_000, "v")],
    "both": [("n" * 33_000, "v" * 33_000)],
    "lines": [(f"x-{number}", "v") for number in range(2100)],
    "sum": [(f"x-{number}", "v" * 30_000) for number in range(3)],
}


@pytest.mark.parametrize("fields", LARGE.values(), ids=LARGE)
async def test_case_027_field_section_over_the_limit_in_plain_text(
    link: Link, fields: list[tuple[str, str]]
) -> None:
    async with link() as it:
        first, session = await it.open()
        request = it.peer.open(h3.literal_headers(h3.request_lines(fields=fields)))
        assert (await it.peer.headers(request))[":status"] == "431"
        await it.still_works(first, session)
        await it.still_works(*await it.open())


@pytest.mark.parametrize(
    "field",
    [
        *(("x-token", symbol * size) for symbol in "tA&\xff" for size in (65_400, 65_530, 65_535)),
        ("n" * 40_000, "A" * 40_000),
        ("n" * 33_000, "t" * 33_000),
    ],
    ids=lambda field: f"{field[0][:2]}-{len(field[0])}-{field[1][0]}-{len(field[1])}",
)
async def test_case_027_field_section_over_the_limit_compressed(
    link: Link, field: tuple[str, str]
) -> None:
    async with link() as it:
        first, session = await it.open()
        request = it.peer.open(h3.connect(fields=[field]))
        assert (await it.peer.headers(request))[":status"] == "431"
        await it.still_works(first, session)
        await it.still_works(*await it.open())


@pytest.mark.parametrize("limit", [65_536, 100_000, 1 << 20])
@pytest.mark.parametrize("size", [65_535, 65_536, 90_000])
async def test_line_that_is_too_long_for_qpack_under_a_larger_limit(
    link: Link, limit: int, size: int
) -> None:
    async with link(max_field_section_size=limit) as it:
        first, session = await it.open()
        lines = h3.request_lines(fields=[("x-token", "t" * size)])
        request = it.peer.open(h3.literal_headers(lines))
        status = (await it.peer.headers(request))[":status"]
        assert status == ("200" if size == 65_535 and limit > 65_536 else "431")
        await it.still_works(first, session)


# ------------------------------------------------------------------------------- our client


class Asked:
    def __init__(self, peer: RawPeer, attempt: asyncio.Task[WebTransportSession]) -> None:
        self.peer = peer
        self.attempt = attempt


@pytest.fixture
def asked(
    certs: Certificates, client_config: Callable[..., ClientConfig]
) -> Callable[..., AbstractAsyncContextManager[Asked]]:
    @asynccontextmanager
    async def run(settings: dict[int, int] = SERVER16, **request: Any) -> AsyncIterator[Asked]:
        async with (
            raw_server(certs) as server,
            WebTransportClient(config=client_config(close_timeout=1.0)) as client,
        ):
            attempt = asyncio.create_task(client.connect(server.url, **request))
            attempt.add_done_callback(lambda done: done.cancelled() or done.exception())
            peer = await server.accept(settings)
            try:
                yield Asked(peer, attempt)
            finally:
                attempt.cancel()
                await asyncio.wait({attempt})
                peer.vanish()

    return run


async def test_lines_of_our_request_and_of_its_answer(asked: Callable[..., Any]) -> None:
    headers = {"Cookie": ["a=1", "b=2"], "x-count": 3}
    async with asked(headers=headers) as it:
        await it.peer.headers(0)
        lines = it.peer.streams[0].lines
        assert [line for line in lines if line[0] in ("cookie", "x-count")] == [
            ("cookie", "a=1"),
            ("cookie", "b=2"),
            ("x-count", "3"),
        ]
        it.peer.send(0, h3.encode_headers([(":status", "200"), *COOKIES]))
        session = await it.attempt
        assert session.headers == {"set-cookie": COOKIES[0][1]}
        assert session.headers.lines == COOKIES


async def test_lines_of_a_refusal_of_the_server(asked: Callable[..., Any]) -> None:
    async with asked() as it:
        await it.peer.headers(0)
        it.peer.send(0, h3.encode_headers([(":status", "403"), *COOKIES]), fin=True)
        with pytest.raises(SessionRejectedError) as caught:
            await it.attempt
        assert caught.value.headers.get_all("set-cookie") == [value for _, value in COOKIES]


@pytest.mark.parametrize("headers", UNFIT.values(), ids=UNFIT)
async def test_request_that_cannot_be_sent(
    client_config: Callable[..., ClientConfig], headers: Any
) -> None:
    """Refused by the call itself: there is no server at that port."""
    async with WebTransportClient(config=client_config()) as client:
        with pytest.raises(ConfigurationError, match="header"):
            await client.connect("https://127.0.0.1:9/", headers=headers)
        with pytest.raises(ConfigurationError, match="header"):
            client.set_default_headers(headers)


async def test_size_that_the_server_accepts(asked: Callable[..., Any]) -> None:
    limited = SERVER16 | {h3.FIELD_SECTION_SIZE: 1000}
    async with asked(limited, headers={"x-large": "v" * 900}) as it:
        with pytest.raises(ConfigurationError, match=r'"x-large", 900.* 0 to 1000 bytes'):
            await it.attempt
        assert 0 not in it.peer.streams
    async with asked(limited, headers={"x-large": "v" * 400}) as it:
        assert (await it.peer.headers(0))["x-large"] == "v" * 400


@pytest.mark.parametrize("size", [65_530, 70_000])
async def test_case_027_answer_over_the_limit(asked: Callable[..., Any], size: int) -> None:
    async with asked() as it:
        await it.peer.headers(0)
        it.peer.send(0, h3.literal_headers([(":status", "200"), ("x", "v" * size)]))
        assert await it.peer.was_reset(0) == 0x107
        with pytest.raises(ProtocolError):
            await it.attempt


def test_the_longest_line_that_we_send_can_be_read() -> None:
    for symbol in ("t", "A", "&", "\xff"):
        for name in ("x", "n" * MAX_FIELD_NAME):
            value = symbol * (MAX_FIELD_LINE - len(name))
            frame = next(h3.read_frames(h3.encode_headers([(name, value)])))
            assert h3.decode_lines(frame.payload) == [(name, value)]
