"""One application on three servers: uvicorn, hypercorn and this one, fact by fact.

libcurl sends the same requests to all of them, over HTTP/1.1, HTTP/2 and HTTP/3. What differs must
be in ``DIFFERENCES`` with the values and the reason, and what is there must differ. The table is
part of the documentation.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any

import pytest

from tests.support.certificates import Certificates
from tests.support.leaks import ExpectedLogs
from tests.support.pages import DOCS

from .clients import PATIENCE, Answer, Request, WebSocket, perform
from .differences import ALL, DIFFERENCES, ON_TCP, Difference, table
from .probe import Conversation, Probe
from .servers import SERVERS, TCP_SIDES, Kind

pytestmark = [pytest.mark.loops("asyncio")]

NO_CALL = ("scope", "events", "send raised")
# What HTTP/1.1 needs for its connections; the other versions must not have it.
HOP = (b"connection", b"upgrade", b"transfer-encoding")
# The one call that waits for ever gets so many seconds for events that do not come.
HANGS = ("hypercorn, HTTP/2", "after the response")
ENOUGH = 2.0

Facts = dict[str, object]
SCOPE = ("type", "asgi", "http_version", "method", "scheme", "path", "raw_path", "query_string")
SCOPE += ("root_path", "headers", "client", "server", "state", "subprotocols", "extensions")

COMMON = ("asgi", "http_version", "scheme", "client", "server", "extensions", "other fields")
COMMON = (*(f"scope: {name}" for name in COMMON), "name of the server", "date")

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
        if name not in call.scope:
            facts[f"scope: {name}"] = "absent"
            continue
        value = call.scope[name]
        if name == "client":
            value = (value[0], type(value[1]).__name__)
        elif name == "extensions":
            value = sorted(value or {})
        elif name == "asgi":
            value = [value["version"], value["spec_version"]]
        elif name in ("headers", "subprotocols", "server"):
            value = [tuple(item) if isinstance(item, list) else item for item in value]
        text = repr(value)
        text = re.sub(r"(b'sec-websocket-key', b)'[^']+'", r"\1'KEY'", text)
        facts[f"scope: {name}"] = re.sub(rf"\b{port}\b", "PORT", text)
    facts["scope: other fields"] = sorted(set(call.scope) - set(SCOPE))
    return facts


def of_fields(lines: Sequence[tuple[bytes, bytes]], version: str) -> Facts:
    """The fields of a response: those that the application sent, and those of the server."""
    assert version == "1.1" or not any(name in HOP for name, _ in lines)
    own = (b"date", b"server", b"sec-websocket-accept", b"alt-svc", *HOP)
    if not lines:
        return {}
    return {
        "response's fields": sorted(
            b"%s: %s" % line for line in lines if line[0].lower() not in own
        ),
        "date": any(name.lower() == b"date" for name, _ in lines),
        "name of the server": any(name.lower() == b"server" for name, _ in lines),
    }


def of_answer(answer: Answer) -> Facts:
    """What libcurl received."""
    return {
        "status": answer.status,
        "statuses before": answer.interim,
        **of_fields(answer.lines, answer.version),
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
    facts: Facts = {"application called": True, **of_scope(call, port)}
    return {**facts, "events": call.events, "send raised": call.raised}


def together(facts: dict[str, Facts], *names: str) -> dict[str, Facts]:
    """Move what is the same in all scopes of a server to one place."""
    common: Facts = {}
    for name in (*COMMON, *names):
        values = [case[name] for case in facts.values() if name in case]
        assert len(set(map(repr, values))) == 1, (name, values)
        common[name] = values[0]
        for case in facts.values():
            case.pop(name, None)
    return {ALL: common, **facts}


async def ended(probe: Probe, patience: float = PATIENCE) -> None:
    """Wait for the end of the call, if there is one; a call that waits for ever says so."""
    for call in probe.conversations:
        try:
            async with asyncio.timeout(patience):
                await call.over.wait()
        except TimeoutError:
            call.events.append("nothing more")


async def http_facts(kind: Kind, certs: Certificates) -> dict[str, Facts]:
    """All requests on one server."""
    probe = Probe()
    facts: dict[str, Facts] = {}
    async with kind.start(probe, certs) as port:
        for name, request in REQUESTS.items():
            answer = await asyncio.to_thread(
                perform, request, port, kind.version, certs.authority.certfile
            )
            await ended(probe, ENOUGH if (kind.title, name) == HANGS else PATIENCE)
            assert answer.version in ("", kind.version)
            facts[name] = {**of_answer(answer), **of_call(probe, port)}
            if request.method == "HEAD":  # libcurl may leave before the rest is dropped
                facts[name].pop("send raised")
    assert probe.lifespan is not None
    facts["lifespan"] = {
        "received": probe.lifespan.events,
        "versions": sorted(probe.lifespan.scope["asgi"].items()),
        "state given": "state" in probe.lifespan.scope,
    }
    return together(facts)


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
                await ended(probe)
            facts[name] = {
                "status": status,
                **of_fields(socket.lines, kind.version),
                "body": socket.body,
            }
            facts[name] |= {"client got": result, **of_call(probe, port)}
            # uvicorn names itself in some answers only.
            facts[name] |= {"name of the server": "sometimes", "date": "sometimes"}
    return together(facts, "scope: headers")


# ------------------------------------------------------------------------ tests

Observe = Callable[[Kind, Certificates], Coroutine[Any, Any, dict[str, Facts]]]


async def on_each_server(observe: Observe, certs: Certificates) -> dict[str, dict[str, Facts]]:
    """What is observed, by server; the servers run side by side.

    Those of others have event loops of their own: what they complain about is no fault of ours.
    """

    async def of_others(kind: Kind) -> dict[str, Facts]:
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: None)
        return await observe(kind, certs)

    def run(kind: Kind) -> Awaitable[dict[str, Facts]]:
        if kind.is_ours:
            return observe(kind, certs)
        return asyncio.to_thread(lambda: asyncio.run(of_others(kind)))

    kinds = [*SERVERS.values(), *TCP_SIDES.values()]
    facts = await asyncio.gather(*map(run, kinds))
    return dict(zip([kind.title for kind in kinds], facts, strict=True))


def problems(found: dict[str, dict[str, Facts]], group: str) -> list[str]:
    """What is not as the tables say."""
    three = {kind.title: found[kind.title] for kind in SERVERS.values()}
    said = unexplained(rows(three), group)
    for name, kind in TCP_SIDES.items():
        title = SERVERS[name].title
        different = rows({title: found[title], kind.title: found[kind.title]})
        if different != ON_TCP[group, name]:
            said.append(f"{kind.title} beside {title}: {different}")
    return said


@pytest.fixture(autouse=True)
def only_our_logs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Other servers log what the application does wrong in their own way."""
    for name in ("uvicorn", "hypercorn.error"):
        monkeypatch.setattr(logging.getLogger(name), "propagate", False)
        monkeypatch.setattr(logging.getLogger(name), "handlers", [logging.NullHandler()])


def rows(found: dict[str, dict[str, Facts]]) -> dict[tuple[str, str], tuple[str, ...]]:
    """What differs: by request and fact, the value of each server."""
    first, *_ = found.values()
    different = {}
    for case in first:
        names = dict.fromkeys(name for facts in found.values() for name in facts[case])
        if any(not facts[case].get("application called", True) for facts in found.values()):
            # The scope is the other servers' only.
            names = dict.fromkeys(name for name in names if not name.startswith(NO_CALL))
        for fact in names:
            values = tuple(_text(facts[case].get(fact, "absent")) for facts in found.values())
            if len(set(values)) > 1:
                different[case, fact] = values
    return different


def _text(value: object) -> str:
    return value if isinstance(value, str) else repr(value)


def unexplained(different: dict[tuple[str, str], tuple[str, ...]], group: str) -> list[str]:
    """What differs without an entry, and entries of a group that are not true."""
    expected: dict[tuple[str, str], Difference] = {}
    for entry in DIFFERENCES:
        if entry.group == group:
            expected |= {(case, entry.fact): entry for case in entry.cases}
    common = {fact: entry for (case, fact), entry in expected.items() if case == ALL}
    said = []
    seen = set()
    for (case, fact), values in different.items():
        entry = expected.get((case, fact)) or common.get(fact)
        if entry is None or entry.values != values:
            said.append(f"{case}, {fact}:\n  " + "\n  ".join(values))
        if entry is not None:
            seen.add(((case if (case, fact) in expected else ALL), fact))
    said += [f"no longer differs: {case}, {fact}" for case, fact in set(expected) - seen]
    return said


async def test_requests_are_the_same_on_three_servers(
    certs: Certificates, expected_logs: ExpectedLogs
) -> None:
    for problem in ("returned without a complete answer", "the application raised"):
        expected_logs(problem)
    assert problems(await on_each_server(http_facts, certs), "http") == []


def test_the_documentation_has_the_table() -> None:
    shown = (DOCS / "topics" / "one-port-table.inc").read_text()
    assert shown == table(), "python -m tests.integration.asgi.differences writes it"


async def test_websockets_are_the_same_on_three_servers(
    certs: Certificates, expected_logs: ExpectedLogs
) -> None:
    expected_logs("the application raised")
    assert problems(await on_each_server(socket_facts, certs), "websocket") == []
