"""Starlette, FastAPI and other frameworks over HTTP/3, as their users write them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any

import pytest
from fastapi import FastAPI, File, HTTPException, UploadFile
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.requests import Request
from starlette.responses import (
    FileResponse,
    JSONResponse,
    RedirectResponse,
    Response,
    StreamingResponse,
)
from starlette.routing import Route

from pywebtransport import WebTransportClient
from pywebtransport.exceptions import SessionRejectedError
from tests.support.asgi_http import asgi_served
from tests.support.certificates import Certificates
from tests.support.endpoints import make_client_config
from tests.support.leaks import ExpectedLogs
from tests.support.steps import until

pytestmark = [
    pytest.mark.loops("asyncio"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]

LIFESPAN = {"lifespan": "on"}


async def test_starlette(certs: Certificates, tmp_path: Path) -> None:
    (tmp_path / "file.txt").write_bytes(b"file " * 50_000)
    done: list[str] = []

    @asynccontextmanager
    async def lifespan(app: Any) -> AsyncIterator[dict[str, Any]]:
        yield {"greeting": "hello"}
        done.append("lifespan")

    async def page(request: Request) -> Response:
        return JSONResponse(
            {
                "method": request.method,
                "url": str(request.url),
                "greeting": request.state.greeting,
                "query": dict(request.query_params),
                "cookies": request.cookies,
                "body": len(await request.body()),
            },
            background=BackgroundTask(done.append, "background"),
        )

    async def stream(request: Request) -> Response:
        async def pieces() -> AsyncIterator[bytes]:
            async for piece in request.stream():
                yield piece.upper()

        return StreamingResponse(pieces())

    async def tag(request: Request, call_next: Any) -> Response:
        response: Response = await call_next(request)
        response.headers["x-tag"] = "seen"
        return response

    app = Starlette(
        routes=[
            Route("/page", page, methods=["GET", "POST"]),
            Route("/stream", stream, methods=["POST"]),
            Route("/file", lambda request: FileResponse(tmp_path / "file.txt")),
            Route("/away", lambda request: RedirectResponse("/page")),
        ],
        middleware=[Middleware(BaseHTTPMiddleware, dispatch=tag)],
        lifespan=lifespan,
    )
    async with asgi_served(certs, app, mount=LIFESPAN) as asgi:
        client = asgi.client
        response = await client.post("/page?a=1", b"12345", [("cookie", "c=1"), ("cookie", "d=2")])
        assert json.loads(response.body) == {
            "method": "POST",
            "url": "https://localhost/page?a=1",
            "greeting": "hello",
            "query": {"a": "1"},
            "cookies": {"c": "1", "d": "2"},
            "body": 5,
        }
        assert response.get("x-tag") == "seen"
        await until(lambda: "background" in done)
        assert (await client.post("/stream", b"abc" * 100_000)).body == b"ABC" * 100_000
        response = await client.get("/file")
        assert response.body == b"file " * 50_000
        assert response.get("content-length") == "250000"
        ranged = await client.get("/file", [("range", "bytes=5-9")])
        assert (ranged.status, ranged.body) == (206, b"file ")
        assert (await client.request("HEAD", "/file")).get("content-length") == "250000"
        assert (await client.get("/away")).get("location") == "/page"
        assert (await client.get("/missing")).status == 404
        assert (await client.request("PUT", "/page")).status == 405
    assert done == ["background", "lifespan"]


async def test_fastapi_upload_and_validation(certs: Certificates) -> None:
    app = FastAPI()

    @app.post("/upload")
    async def upload(file: Annotated[UploadFile, File()]) -> dict[str, Any]:
        data = await file.read()
        return {"name": file.filename, "size": len(data)}

    @app.get("/item/{number}")
    async def item(number: int, q: str = "") -> dict[str, Any]:
        return {"number": number, "q": q}

    content = bytes(range(256)) * 4000
    body = (
        b'--x\r\ncontent-disposition: form-data; name="file"; filename="a.bin"\r\n\r\n'
        + content
        + b"\r\n--x--\r\n"
    )
    fields = [("content-type", "multipart/form-data; boundary=x")]
    async with asgi_served(certs, app, mount=LIFESPAN) as asgi:
        response = await asgi.client.post("/upload", body, fields)
        assert json.loads(response.body) == {"name": "a.bin", "size": len(content)}
        response = await asgi.client.get("/item/7?q=%C3%A9")
        assert json.loads(response.body) == {"number": 7, "q": "é"}
        assert (await asgi.client.get("/item/x")).status == 422
        assert json.loads((await asgi.client.get("/openapi.json")).body)["paths"].keys() == {
            "/upload",
            "/item/{number}",
        }


async def test_fastapi_server_sent_events(certs: Certificates) -> None:
    """Each event comes when it is sent, and the generator ends when the client leaves."""
    app = FastAPI()
    more: asyncio.Queue[str] = asyncio.Queue()
    left = asyncio.Event()

    @app.get("/events")
    async def events() -> StreamingResponse:
        async def generate() -> AsyncIterator[str]:
            try:
                while True:
                    yield f"data: {await more.get()}\n\n"
            finally:
                left.set()

        headers = {"connection": "keep-alive", "cache-control": "no-store"}
        return StreamingResponse(generate(), media_type="text/event-stream", headers=headers)

    async with asgi_served(certs, app, mount=LIFESPAN) as asgi:
        exchange = asgi.client.open("GET", "/events")
        for text in ("one", "two"):
            more.put_nowait(text)
            assert await exchange.read() == f"data: {text}\n\n".encode()
        assert exchange.response.get("connection") is None
        exchange.cancel()
        while not left.is_set():  # it notices with its next event
            more.put_nowait("nobody")
            await asyncio.sleep(0)
        await until(lambda: not asgi.server.http_requests.tasks)


async def test_upload_that_is_taken_back(certs: Certificates) -> None:
    """Starlette raises an exception of its own, which nobody logs."""
    raised = []

    async def upload(request: Request) -> Response:
        try:
            await request.body()
        except Exception as error:
            raised.append(type(error).__name__)
            raise
        return Response()

    app = Starlette(routes=[Route("/", upload, methods=["POST"])])
    async with asgi_served(certs, app) as asgi:
        exchange = asgi.client.open("POST", "/", fin=False)
        exchange.send(b"part")
        await until(lambda: asgi.server.http_requests.received)
        exchange.cancel()
        await until(lambda: not asgi.server.http_requests.tasks)
    assert raised == ["ClientDisconnect"]


async def test_error_pages(certs: Certificates, expected_logs: ExpectedLogs) -> None:
    expected_logs("the application raised ValueError: oops")
    app = FastAPI()

    @app.get("/boom")
    async def boom() -> None:
        raise ValueError("oops")

    @app.get("/teapot")
    async def teapot() -> None:
        raise HTTPException(418, "short and stout")

    async with asgi_served(certs, app, mount=LIFESPAN) as asgi:
        response = await asgi.client.get("/boom")
        assert (response.status, response.body) == (500, b"Internal Server Error")
        assert (await asgi.client.get("/teapot")).status == 418


@pytest.mark.parametrize("name", ["starlette", "fastapi", "quart", "litestar"])
async def test_sessions_that_frameworks_do_not_know(
    certs: Certificates, expected_logs: ExpectedLogs, name: str
) -> None:
    """They answer an unknown scope in ways of their own; the client gets 500, the log a hint."""
    pytest.importorskip(name)
    expected_logs("webtransport request for /x: the application raised")
    expected_logs("WebTransportRouter")
    app: Any
    if name == "starlette":
        app = Starlette()
    elif name == "fastapi":
        app = FastAPI()
    elif name == "quart":
        from quart import Quart

        app = Quart(__name__)
    else:
        from litestar import Litestar

        app = Litestar(logging_config=None)
    async with (
        asgi_served(certs, app) as asgi,
        WebTransportClient(config=make_client_config(certs)) as client,
    ):
        with pytest.raises(SessionRejectedError) as caught:
            await client.connect(asgi.served.url("/x"))
        assert caught.value.status_code == 500


async def test_quart_and_litestar_answer_requests(certs: Certificates) -> None:
    pytest.importorskip("quart")
    pytest.importorskip("litestar")
    from litestar import Litestar, get, post
    from quart import Quart, request

    quart = Quart(__name__)

    @quart.post("/echo")
    async def echo() -> bytes:
        data: bytes = await request.get_data()
        return data

    @post("/echo")
    async def double(data: dict[str, Any]) -> dict[str, Any]:
        return {"twice": [data, data]}

    @get("/hello")
    async def hello() -> str:
        return "hello"

    async with asgi_served(certs, quart, mount=LIFESPAN) as asgi:
        assert (await asgi.client.post("/echo", b"quart" * 10_000)).body == b"quart" * 10_000
    litestar = Litestar([double, hello], logging_config=None)
    async with asgi_served(certs, litestar, mount=LIFESPAN) as asgi:
        assert (await asgi.client.get("/hello")).body == b"hello"
        response = await asgi.client.post(
            "/echo", b'{"a": 1}', [("content-type", "application/json")]
        )
        assert json.loads(response.body) == {"twice": [{"a": 1}, {"a": 1}]}


async def test_django(certs: Certificates) -> None:
    pytest.importorskip("django")
    from django.conf import settings
    from django.core.asgi import get_asgi_application
    from django.http import HttpRequest, HttpResponse
    from django.urls import path

    def page(request: HttpRequest) -> HttpResponse:
        return HttpResponse(f"{request.method} {request.get_full_path()} {len(request.body)}")

    if not settings.configured:
        settings.configure(ALLOWED_HOSTS=["*"], MIDDLEWARE=[], SECRET_KEY="-")
    settings.ROOT_URLCONF = type("urls", (), {"urlpatterns": [path("page", page)]})
    async with asgi_served(certs, get_asgi_application()) as asgi:
        assert (await asgi.client.get("/page?x=1")).body == b"GET /page?x=1 0"
        assert (await asgi.client.post("/page", b"12345")).body == b"POST /page 5"
