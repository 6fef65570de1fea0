"""One application on three servers: uvicorn, hypercorn and this one, fact by fact.

libcurl sends the same requests to all of them, over HTTP/1.1, HTTP/2 and HTTP/3. What differs must
be in ``DIFFERENCES`` with the values and the reason, and what is there must differ. The table is
part of the documentation.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable

import pytest

from tests.support.certificates import Certificates
from tests.support.leaks import ExpectedLogs

from .clients import PATIENCE, Answer, Request, WebSocket, perform
from .differences import ALL, DIFFERENCES, Difference
from .probe import Conversation, Probe
from .servers import SERVERS, Kind

pytestmark = [pytest.mark.loops("asyncio")]

Facts = dict[str, object]
SCOPE = ("type", "asgi", "http_version", "method", "scheme", "path", "raw_path", "query_string")
SCOPE += ("root_path", "headers", "client", "server", "state", "subprotocols", "extensions")

REQUESTS = {
    "GET": Request("/plain?a=1&b=%20x", lines=("X-Two: 1", "x-two: 2", "Cookie: a=1; b=2")),
    "path with escapes": Request("/caf%C3%A9/a%2Fb/%ff"),
    "path with two slashes": Request("//two//"),
    "empty query": Request("/plain?"),
    "query only": Request("/?x"),
    "field with bytes beyond ASCII": Request("/plain", lines=("X-Latin: é", "X-Empty;")),
    "HEAD": Request("/plain", "HEAD"),
    "OPTIONS": Request("/plain", "OPTIONS"),
    "DELETE": Request("/plain", "DELETE"),
    "a method of the user's own": Request("/plain", "BREW"),
    "POST of 100 kB": Request("/plain", "POST", body=bytes(100_000)),
    "POST of nothing": Request("/plain", "POST", body=b""),
    "PUT of unknown length": Request("/plain", "PUT", body=[b"one ", b"two"]),
    "Expect: 100-continue": Request(
        "/plain", "POST", ("Expect: 100-continue",), body=bytes(2_000_000)
    ),
    "answer before the body": Request("/early", "POST", body=bytes(10)),
    "response in pieces": Request("/pieces"),
    "fields of a response": Request("/lines"),
    "fields of a connection": Request("/hop"),
    "204": Request("/empty"),
    "304": Request("/unchanged"),
    "HEAD of pieces": Request("/pieces", "HEAD"),
    "103": Request("/hint"),
    "trailers": Request("/trailers", lines=("TE: trailers",)),
    "after the response": Request("/after"),
    "client leaves": Request("/leave", leave=True),
    "state": Request("/state"),
    "no response": Request("/silent"),
    "error before the response": Request("/raise"),
    "error within the response": Request("/raise-late"),
    "response shorter than it says": Request("/short"),
    "response longer than it says": Request("/long"),
    "newline in a field": Request("/newline"),
    "response begun twice": Request("/twice"),
    "unknown event": Request("/unknown"),
}


def of_scope(call: Conversation, port: int) -> Facts:
    """The fields of a scope that do not depend on the run."""
    facts: Facts = {}
    for name in SCOPE:
        value = call.scope.get(name, "absent")
        if name == "client":
            value = (value[0], type(value[1]).__name__)
        elif name == "extensions" and value != "absent":
            value = sorted(value or {})
        elif name in ("headers", "subprotocols", "server") and value != "absent":
            value = [tuple(item) if isinstance(item, list) else item for item in value]
        text = repr(value)
        text = re.sub(r"(b'sec-websocket-key', b)'[^']+'", r"\1'KEY'", text)
        facts[f"scope: {name}"] = re.sub(rf"\b{port}\b", "PORT", text)
    facts["scope: other fields"] = sorted(set(call.scope) - set(SCOPE))
    return facts


def of_answer(answer: Answer) -> Facts:
    """What libcurl received."""
    return {
        "status": answer.status,
        "statuses before": answer.interim,
        "fields": sorted(
            name + b": " + (b"..." if name in (b"date", b"server") else value)
            for name, value in answer.lines
        ),
        "body": answer.body,
        "trailers": answer.trailers,
        "libcurl's error": bool(answer.error),
    }


def of_call(probe: Probe, port: int) -> Facts:
    """What the application was given."""
    if not probe.conversations:
        return {"application called": False}
    (call,) = probe.conversations
    probe.conversations.clear()
    return {**of_scope(call, port), "received": call.events, "send raised": call.raised}


async def ended(probe: Probe) -> None:
    """Wait for the end of the call, if there is one."""
    for call in probe.conversations:
        async with asyncio.timeout(PATIENCE):
            await call.over.wait()


async def http_facts(kind: Kind, certs: Certificates) -> dict[str, Facts]:
    """All requests on one server."""
    probe = Probe()
    facts: dict[str, Facts] = {}
    async with kind.start(probe, certs) as port:
        for name, request in REQUESTS.items():
            answer = await asyncio.to_thread(
                perform, request, port, kind.version, certs.authority.certfile
            )
            await ended(probe)
            assert answer.version in ("", kind.version)
            facts[name] = {**of_answer(answer), **of_call(probe, port)}
    assert probe.lifespan is not None
    facts["lifespan"] = {
        "received": probe.lifespan.events,
        "scope: asgi": probe.lifespan.scope["asgi"],
        "state given": "state" in probe.lifespan.scope,
    }
    return facts


# ------------------------------------------------------------------- WebSockets

Script = Callable[[WebSocket], Awaitable[object]]


async def _messages(socket: WebSocket) -> object:
    large = "x" * 200_000
    answers = [await socket.echo("héllo") == "héllo", await socket.echo(b"\0\xff") == b"\0\xff"]
    answers += [await socket.echo(large) == large, await socket.echo("") == "", await socket.pong()]
    await socket.close(3001, "bye")
    return answers, socket.closed


async def _close(socket: WebSocket) -> object:
    message = await socket.message()
    await socket.answer_close()
    return message, socket.closed


async def _nothing(socket: WebSocket) -> object:
    await socket.close()
    return socket.closed


async def _abort(socket: WebSocket) -> object:
    await socket.echo("x")
    socket.abort()
    return None


async def _refused(socket: WebSocket) -> object:
    return None


SOCKETS: dict[str, tuple[str, Script]] = {
    "messages": ("/plain?q=1", _messages),
    "subprotocol and fields": ("/choose", _nothing),
    "close by the server": ("/close", _close),
    "broken off": ("/plain", _abort),
    "refused": ("/refuse", _refused),
    "refused with a response": ("/answer", _refused),
    "error before accept": ("/raise", _refused),
    "error after accept": ("/raise-late", _close),
    "return after accept": ("/return", _close),
}
FIELDS = [(b"sec-websocket-protocol", b"one, two"), (b"origin", b"https://example.org")]


async def socket_facts(kind: Kind, certs: Certificates) -> dict[str, Facts]:
    """All WebSockets on one server."""
    probe = Probe()
    facts: dict[str, Facts] = {}
    async with kind.start(probe, certs) as port:
        for name, (path, script) in SOCKETS.items():
            cafile = certs.authority.certfile
            async with WebSocket.opened(kind.version, port, cafile, path, FIELDS) as socket:
                result = await script(socket)
                status = 200 if socket.status == 101 else socket.status
                lines = sorted(
                    name + b": " + (b"..." if name in (b"date", b"server") else value)
                    for name, value in socket.lines
                    if name != b"sec-websocket-accept"
                )
                await ended(probe)
            facts[name] = {"status": status, "fields": lines, "body": socket.body, "got": result}
            facts[name] |= of_call(probe, port)
    return facts


# ------------------------------------------------------------------------ tests


def rows(found: dict[str, dict[str, Facts]]) -> dict[tuple[str, str], tuple[str, ...]]:
    """What differs: by request and fact, the value of each server."""
    first, *_ = found.values()
    different = {}
    for case in first:
        names = dict.fromkeys(name for facts in found.values() for name in facts[case])
        for fact in names:
            values = tuple(repr(facts[case].get(fact, "absent")) for facts in found.values())
            if len(set(values)) > 1:
                different[case, fact] = values
    return different


def unexplained(different: dict[tuple[str, str], tuple[str, ...]], group: str) -> list[str]:
    """What differs without an entry, and entries of a group that are not true."""
    expected: dict[tuple[str, str], Difference] = {}
    for entry in DIFFERENCES:
        if entry.group == group:
            expected |= {(case, entry.fact): entry for case in entry.cases}
    common = {fact: entry for (case, fact), entry in expected.items() if case == ALL}
    problems = []
    seen = set()
    for (case, fact), values in different.items():
        entry = expected.get((case, fact)) or common.get(fact)
        if entry is None or entry.values != values:
            problems.append(f"{case}, {fact}:\n  " + "\n  ".join(values))
        if entry is not None:
            seen.add(((case if (case, fact) in expected else ALL), fact))
    problems += [f"no longer differs: {case}, {fact}" for case, fact in set(expected) - seen]
    return problems


async def test_requests_are_the_same_on_three_servers(
    certs: Certificates, expected_logs: ExpectedLogs
) -> None:
    found = {name: await http_facts(kind, certs) for name, kind in SERVERS.items()}
    assert unexplained(rows(found), "http") == []


async def test_websockets_are_the_same_on_three_servers(
    certs: Certificates, expected_logs: ExpectedLogs
) -> None:
    found = {name: await socket_facts(kind, certs) for name, kind in SERVERS.items()}
    assert unexplained(rows(found), "websocket") == []
