"""What a peer writes forges no line of a log and no message, and fills neither."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from typing import Any

import pytest

from pywebtransport import ServerApp, WebTransportClient, WebTransportSession
from pywebtransport.exceptions import SessionRejectedError, WebTransportError
from pywebtransport.server import create_logging_middleware
from tests.integration import raw_h3 as h3
from tests.integration.raw_peer import raw_client, raw_server
from tests.support.certificates import Certificates
from tests.support.endpoints import ClientFactory, ServerFactory, Serving
from tests.support.leaks import ExpectedLogs
from tests.support.steps import until

# Whatever a field value may hold (RFC 9110 section 5.5, read as Latin-1), and much of it.
NASTY = "\x01\x07\x08\t\x1b[2J\x1b]0;title\x07\x7f\x85\x9b31m\xad\"'\\" + "A" * 6_000
# Words of a close may be any text.
WORDS = "\r\n2030-01-01 00:00:00 ERROR root: forged\n\u2028\u202e\x00\x1b[31m\"'" + "B" * 900
LONGEST = 4000


class Told(logging.Handler):
    """Every record of the package as it would stand in a log file."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.texts.append(logging.Formatter("%(message)s").format(record))

    def check(self) -> None:
        for text in self.texts:
            assert_harmless(text)
            assert not text.startswith("2030")


def assert_harmless(text: str) -> None:
    """Nothing but printable characters, and no more than fit; lines only of tracebacks."""
    for line in text.split("\n"):
        assert line.isprintable(), repr(line)
        assert not line.startswith("2030")
        assert len(line) < LONGEST
    assert "A" * 2500 not in text


@pytest.fixture
def told() -> Iterator[Told]:
    logger, handler = logging.getLogger("pywebtransport"), Told()
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    yield handler
    logger.removeHandler(handler)
    logger.setLevel(level)


async def test_log_of_a_server(
    serving: Serving, server_config: ServerFactory, told: Told, expected_logs: ExpectedLogs
) -> None:
    expected_logs("handler of /handler.* raised RuntimeError")
    expected_logs("request for /middleware.* failed: its middleware or handler raised LookupError")
    app = ServerApp(
        config=server_config(
            debug=True, access_log=True, allowed_origins=["https://good.example"], max_sessions=20
        )
    )
    closed: list[WebTransportSession] = []

    async def middleware(session: WebTransportSession) -> bool:
        if session.path.startswith("/middleware"):
            raise LookupError(session.path)
        if session.path.startswith("/reject"):
            raise SessionRejectedError(status_code=410, headers={"x-path": "y"})
        return True

    async def handler(session: WebTransportSession) -> None:
        if session.path.startswith("/handler"):
            error = RuntimeError(session.headers["x-text"])
            error.add_note(session.path)
            raise error from KeyError(session.path)
        if session.path.startswith("/wait"):
            await session.wait_closed()
            closed.append(session)
            await session.create_unidirectional_stream()

    app.add_middleware(create_logging_middleware())
    app.add_middleware(middleware)
    app.router.set_default_handler(handler)
    async with serving(app) as served, raw_client(served.port) as peer:
        for path, origin in (
            ("/ok", "https://good.example"),
            ("/origin", f"https://{NASTY}"),
            ("/reject", None),
            ("/middleware", None),
            ("/handler", None),
            ("/wait", None),
        ):
            fields = [("x-text", NASTY), ("wt-available-protocols", f'"{NASTY}", "b"')]
            if origin is not None:
                fields.append(("origin", origin))
            number = peer.open(h3.connect(path + NASTY, fields=fields))
            status = (await peer.headers(number))[":status"]
            assert status == {"/origin": "403", "/reject": "410", "/middleware": "500"}.get(
                path, "200"
            )
            if path == "/wait":
                reason = WORDS.encode()[:1024]
                peer.send(number, h3.data(h3.close_capsule(5, reason)), fin=True)
                await until(lambda: closed)
        await until(lambda: not [s for s in served.server.sessions if "ok" not in s.path])
        for issue in await served.server.diagnose_issues():
            assert_harmless(issue)
        stats = await served.server.get_server_stats()
        assert (stats["origins_rejected"], stats["sessions_rejected"]) == (1, 3)
    assert any("CONNECT /ok" in text for text in told.texts)
    assert any("ended /wait" in text for text in told.texts)
    assert any("rejected /origin" in text for text in told.texts)
    told.check()


async def test_errors_of_a_client(
    certs: Certificates, client_config: ClientFactory, told: Told
) -> None:
    errors: list[BaseException] = []

    async def attempt(client: WebTransportClient, url: str) -> None:
        try:
            session = await client.connect(url)
            await session.wait_closed()
            await session.create_unidirectional_stream()
        except WebTransportError as error:
            errors.append(error)

    async with (
        raw_server(certs) as server,
        WebTransportClient(config=client_config(debug=True, connect_timeout=10)) as client,
    ):
        answers: list[Any] = [
            lambda peer, number: peer.send(
                number,
                h3.encode_headers([(":status", "429"), ("x-why", NASTY), ("wt-protocol", NASTY)]),
                fin=True,
            ),
            lambda peer, number: peer.send(
                number,
                h3.encode_headers([(":status", "200")])
                + h3.data(h3.close_capsule(5, WORDS.encode()[:1024])),
                fin=True,
            ),
            lambda peer, number: peer.close(0x101, reason_phrase=WORDS[:300]),
            lambda peer, number: peer.send(
                number, h3.encode_headers([(":status", "200"), ("bad name", NASTY)]), fin=True
            ),
        ]
        for answer in answers:
            trying = asyncio.create_task(attempt(client, server.url + "p" * 3000))
            peer = await server.accept(h3.DRAFT16 | {h3.CONNECT_PROTOCOL: 1})
            number = 0
            await peer.headers(number)
            answer(peer, number)
            await trying
    assert len(errors) == len(answers)
    for error in errors:
        assert_harmless(str(error))
        assert_harmless(repr(error))
        assert "\n" not in str(error)
    told.check()
