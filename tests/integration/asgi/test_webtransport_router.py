"""``asgi.WebTransportRouter`` in front of real frameworks, and frameworks without it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from fastapi import FastAPI
from litestar import Litestar
from quart import Quart
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route

from pywebtransport import ConfigurationError, WebTransportClient, WebTransportSession
from pywebtransport.asgi import Session, WebTransportRouter
from pywebtransport.exceptions import SessionRejectedError
from tests.support.asgi_http import asgi_served
from tests.support.certificates import Certificates
from tests.support.endpoints import ClientFactory, Served
from tests.support.leaks import ExpectedLogs

from .conftest import Mounting


def starlette() -> Starlette:
    async def page(request: Any) -> PlainTextResponse:
        return PlainTextResponse("a page")

    return Starlette(routes=[Route("/", page), Mount("/sub", Starlette())])


FRAMEWORKS = {
    "starlette": starlette,
    "fastapi": FastAPI,
    "litestar": lambda: Litestar([], logging_config=None),
    "quart": lambda: Quart("quart"),
}


async def ask(client: WebTransportClient, served: Served, path: str, text: bytes) -> bytes:
    async with await client.connect(served.url(path)) as session:
        stream = await session.create_bidirectional_stream()
        await stream.write_all(text)
        return await stream.read_all()


async def echo(session: Session) -> None:
    async for stream in session.incoming_bidirectional_streams():
        await stream.write_all(await stream.read_all())


# ------------------------------------------------------------- without the router


@pytest.mark.loops("asyncio")
@pytest.mark.parametrize("name", FRAMEWORKS)
async def test_a_framework_that_does_not_know_the_scope_gives_500_and_a_hint(
    mounting: Mounting, client_config: ClientFactory, expected_logs: ExpectedLogs, name: str
) -> None:
    expected_logs("webtransport request for /sub/x: the application raised")
    expected_logs("put pywebtransport.asgi.WebTransportRouter before it")
    async with (
        mounting(FRAMEWORKS[name]()) as served,
        WebTransportClient(config=client_config()) as client,
    ):
        with pytest.raises(SessionRejectedError) as refused:
            await client.connect(served.url("/sub/x"))
        assert refused.value.status_code == 500


async def test_an_application_that_swallows_the_error_gives_500_and_a_hint(
    mounting: Mounting, client_config: ClientFactory, expected_logs: ExpectedLogs
) -> None:
    expected_logs(r"answered a scope of the type 'webtransport' with websocket\.close")
    expected_logs("put pywebtransport.asgi.WebTransportRouter before it")

    async def application(scope: Any, receive: Any, send: Any) -> None:
        try:
            await send({"type": "websocket.close", "code": 4000})
        except RuntimeError:
            return

    async with (
        mounting(application) as served,
        WebTransportClient(config=client_config()) as client,
    ):
        with pytest.raises(SessionRejectedError) as refused:
            await client.connect(served.url())
        assert refused.value.status_code == 500


# ---------------------------------------------------------------- with the router


@pytest.mark.loops("asyncio")
@pytest.mark.parametrize("name", FRAMEWORKS)
async def test_a_route_for_sessions(
    mounting: Mounting, client_config: ClientFactory, name: str
) -> None:
    router = WebTransportRouter(FRAMEWORKS[name]())
    seen: list[Any] = []

    @router.route("/chat/{room}/{number:int}")
    async def chat(session: Session) -> None:
        seen.append(dict(session.path_params))
        await echo(session)

    async with mounting(router) as served, WebTransportClient(config=client_config()) as client:
        assert await ask(client, served, "/chat/caf%C3%A9/7?a=b", b"hello") == b"hello"
        assert seen == [{"room": "café", "number": 7}]
        for path in ("/", "/chat/x", "/chat/x/y"):
            with pytest.raises(SessionRejectedError) as refused:
                await client.connect(served.url(path))
            assert refused.value.status_code in (404, 405)


async def test_a_route_for_events(mounting: Mounting, client_config: ClientFactory) -> None:
    router = WebTransportRouter(starlette())
    scopes: list[Any] = []

    async def application(scope: Any, receive: Any, send: Any) -> None:
        scopes.append(scope)
        await receive()
        await send({"type": "webtransport.accept"})
        while (event := await receive())["type"] != "webtransport.disconnect":
            await send({**event, "type": "webtransport.stream.send"})

    router.add_route("/events/{rest:path}", application)
    async with mounting(router) as served, WebTransportClient(config=client_config()) as client:
        assert await ask(client, served, "/events/a/b", b"hello") == b"hello"
    assert scopes[0]["path_params"] == {"rest": "a/b"}
    assert scopes[0]["path"] == "/events/a/b"


async def test_the_application_protocol_of_a_route(
    mounting: Mounting, client_config: ClientFactory
) -> None:
    router = WebTransportRouter(starlette())
    router.add_route("/both", echo, application_protocols=["b", "c"])
    router.add_route("/none", echo)
    config = client_config(application_protocols=["a", "c", "b"])
    async with mounting(router) as served, WebTransportClient(config=config) as client:
        async with await client.connect(served.url("/both")) as session:
            assert session.application_protocol == "c"
        async with await client.connect(served.url("/none")) as session:
            assert session.application_protocol is None


async def test_the_session_ends_with_its_handler(
    mounting: Mounting, client_config: ClientFactory, expected_logs: ExpectedLogs
) -> None:
    expected_logs("the application raised ValueError: a bug")
    router = WebTransportRouter(starlette())

    @router.route("/returns")
    async def returns(session: Session) -> None:
        stream = await session.create_unidirectional_stream()
        await stream.write_all(b"everything")

    @router.route("/raises")
    async def raises(session: Session) -> None:
        raise ValueError("a bug")

    @router.route("/reads")
    async def reads(session: Session) -> None:
        async for stream in session.incoming_bidirectional_streams():
            await stream.read_all()
            await session.datagrams.receive()

    async with mounting(router) as served, WebTransportClient(config=client_config()) as client:
        session = await client.connect(served.url("/returns"))
        async for stream in session.incoming_unidirectional_streams():
            assert await stream.read_all() == b"everything"
        info = await session.wait_closed()
        assert info.code == 0
        session = await client.connect(served.url("/raises"))
        info = await session.wait_closed()
        assert info.code == 1
        # The client leaves in the middle: the error of the handler is a normal end.
        session = await client.connect(served.url("/reads"))
        await (await session.create_bidirectional_stream()).write_all(b"x")
        await session.close()


async def test_the_root_path_is_no_part_of_a_route(
    mounting: Mounting, client_config: ClientFactory
) -> None:
    router = WebTransportRouter(starlette())
    router.add_route("/echo", echo)

    async def application(scope: Any, receive: Any, send: Any) -> None:
        scope["path"] = "/proxy" + scope["path"]
        await router({**scope, "raw_path": None, "root_path": "/proxy"}, receive, send)

    async with (
        mounting(application) as served,
        WebTransportClient(config=client_config()) as client,
    ):
        assert await ask(client, served, "/echo", b"hello") == b"hello"


async def test_routes_of_the_server_come_first(
    mounting: Mounting, client_config: ClientFactory
) -> None:
    router = WebTransportRouter(starlette())
    router.add_route("/one", echo)
    router.add_route("/two", echo)
    async with mounting(router) as served, WebTransportClient(config=client_config()) as client:

        @served.app.route("/one")
        async def own(session: WebTransportSession) -> None:
            stream = await anext(aiter(session.incoming_bidirectional_streams()))
            await stream.write_all(b"the server's own")

        assert await ask(client, served, "/one", b"x") == b"the server's own"
        assert await ask(client, served, "/two", b"x") == b"x"


@pytest.mark.parametrize(
    ("path", "handler", "text"),
    [
        ("chat", echo, "path must start with '/'"),
        ("/chat", 7, "handler"),
        ("/chat", lambda session: None, ""),
        ("/taken", echo, "has a handler already"),
    ],
    ids=range(4),
)
def test_wrong_routes_are_refused(path: str, handler: Any, text: str) -> None:
    router = WebTransportRouter(starlette())
    router.add_route("/taken", echo)
    if text:
        with pytest.raises(ConfigurationError, match=text):
            router.add_route(path, handler)
    else:
        router.add_route(path, handler)  # only a call tells what a lambda returns


def test_handlers_of_other_shapes_are_refused() -> None:
    router = WebTransportRouter(starlette())

    async def two(session: Any, more: Any) -> None: ...

    async def none() -> None: ...

    def plain(session: Any) -> None: ...

    for handler in (two, none, plain):
        with pytest.raises(ConfigurationError, match="handler"):
            router.add_route("/x", handler)  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="app"):
        WebTransportRouter(None)  # type: ignore[arg-type]


async def test_both_shapes_of_handlers_are_told_apart() -> None:
    """By the number of arguments that they need."""
    calls: list[str] = []

    class Application:
        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            calls.append("events")

    async def everything(*arguments: Any) -> None:
        calls.append("events" if len(arguments) == 3 else "session")

    async def with_defaults(session: Any, one: int = 1, two: int = 2) -> None:
        calls.append("session")

    router = WebTransportRouter(starlette())
    for number, handler in enumerate([Application(), everything, with_defaults]):
        router.add_route(f"/{number}", handler)

    async def receive() -> dict[str, Any]:
        return {"type": "webtransport.connect"}

    async def send(message: Any) -> None: ...

    for number in range(3):
        scope = {"type": "webtransport", "path": f"/{number}", "headers": []}
        await router(scope, receive, send)
    assert calls == ["events", "events", "session"]
    # Of a server that says nothing, also no extensions.
    told: list[dict[str, Any]] = []

    async def tell(message: Any) -> None:
        told.append(message)

    await router({"type": "webtransport", "path": "/x", "extensions": None}, receive, tell)
    assert told == [{"type": "webtransport.close", "status": 404, "code": 404}]
    await asyncio.sleep(0)


async def test_the_framework_gets_the_rest(certs: Certificates) -> None:
    """Pages, and the lifespan."""
    told: list[str] = []

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[dict[str, str]]:
        told.append("startup")
        yield {"name": "state"}
        told.append("shutdown")

    async def page(request: Any) -> PlainTextResponse:
        return PlainTextResponse(f"a page, {request.state.name}")

    router = WebTransportRouter(Starlette(routes=[Route("/", page)], lifespan=lifespan))

    @router.route("/state")
    async def state(session: Session) -> None: ...

    async def application(scope: Any, receive: Any, send: Any) -> None:
        assert scope["type"] == "lifespan" or scope["state"] == {"name": "state"}
        await router(scope, receive, send)

    async with asgi_served(certs, application, mount={"lifespan": "on"}) as served:
        response = await served.client.get("/")
        assert (response.status, response.body) == (200, b"a page, state")
        assert (await served.client.get("/state")).status == 404
        assert told == ["startup"]
    assert told == ["startup", "shutdown"]
