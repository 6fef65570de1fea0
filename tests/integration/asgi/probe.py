"""An ASGI application that keeps what a server gives it.

The path of a request says what the application does; ``Probe.conversations`` has the scope and the
events of each, as plain text where servers may cut the same bytes into other pieces.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

__all__ = ["Conversation", "Probe"]

Scope = MutableMapping[str, Any]
Event = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Event]]
Send = Callable[[Event], Awaitable[None]]


class ProbeError(Exception):
    """What the application raises when the path asks for it."""


class Conversation:
    """One call of the application.

    Attributes:
        scope: As it was given, copied.
        events: What ``receive`` gave, one text per fact.
        raised: The kinds of errors that ``send`` raised: "OSError" and
            "RuntimeError" stand for their subclasses, too.
        over: The call has ended.
    """

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.scope = dict(scope)
        self.events: list[str] = []
        self.raised: list[str] = []
        self.over = asyncio.Event()
        self._receive = receive
        self._send = send

    async def receive(self) -> Event:
        """The next event, which is written down."""
        event = await self._receive()
        self.events.append(describe(event))
        return event

    async def read_body(self) -> bytes:
        """The whole body of a request; its pieces are written down as one."""
        body = b""
        while True:
            event = await self._receive()
            if event["type"] != "http.request":
                self.events += [f"{len(body)} bytes of a body", describe(event)]
                return body
            body += event.get("body", b"")
            if not event.get("more_body", False):
                self.events.append(f"a body of {len(body)} bytes")
                return body

    async def send(self, event: Event) -> None:
        """Send; an error of the server's is written down."""
        try:
            await self._send(event)
        except (OSError, RuntimeError) as error:
            kind = OSError if isinstance(error, OSError) else RuntimeError
            self.raised.append(kind.__name__)
        except Exception as error:
            self.raised.append(type(error).__name__)

    async def start(self, status: int = 200, *lines: tuple[bytes, bytes], **more: object) -> None:
        """Begin a response."""
        await self.send(
            {"type": "http.response.start", "status": status, "headers": list(lines), **more}
        )

    async def body(self, data: bytes = b"", *, more: bool = False) -> None:
        """Send a piece of the body, by default the last one."""
        await self.send({"type": "http.response.body", "body": data, "more_body": more})


def describe(event: Event) -> str:
    """An event in one line: its type, and its other fields by name."""
    fields = {
        name: int(value) if isinstance(value, int) else value
        for name, value in event.items()
        if name != "type"
    }
    # An absent field and None mean the same.
    shown = [f"{name}={value!r}" for name, value in sorted(fields.items()) if value is not None]
    return " ".join([event["type"], *shown])


class Probe:
    """The application.

    Attributes:
        conversations: The calls, in order, but for that of the lifespan.
        lifespan: The call of the lifespan, if there was one.
    """

    def __init__(self) -> None:
        self.conversations: list[Conversation] = []
        self.lifespan: Conversation | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run one conversation."""
        call = Conversation(scope, receive, send)
        name = scope["type"]
        if name == "lifespan":
            self.lifespan = call
        else:
            self.conversations.append(call)
            name = scope["path"].strip("/").partition("/")[0].replace("-", "_") or "plain"
            if scope["type"] == "websocket":
                name = f"ws_{name}"
        try:
            await getattr(self, f"_{name}", self._plain)(call)
        finally:
            call.over.set()

    # --- lifespan

    async def _lifespan(self, call: Conversation) -> None:
        await call.receive()
        call.scope["state"]["started"] = "yes"
        await call.send({"type": "lifespan.startup.complete"})
        await call.receive()
        await call.send({"type": "lifespan.shutdown.complete"})

    # --- http

    async def _plain(self, call: Conversation) -> None:
        """Read the body, then answer."""
        await call.read_body()
        await call.start(200, (b"content-type", b"text/plain"), (b"content-length", b"6"))
        await call.body(b"hello\n")

    async def _pieces(self, call: Conversation) -> None:
        """A body of three pieces and of unknown length."""
        await call.read_body()
        await call.start(200, (b"content-type", b"text/plain"))
        for piece in (b"one ", b"two ", b"three"):
            await call.body(piece, more=True)
        await call.body()

    async def _lines(self, call: Conversation) -> None:
        """A name in capitals, one name twice, bytes beyond ASCII, and fields of connections."""
        await call.read_body()
        await call.start(
            200,
            (b"X-Capital", b"yes"),
            (b"set-cookie", b"a=1"),
            (b"set-cookie", b"b=2"),
            (b"x-latin", "é".encode("latin-1")),
            (b"x-empty", b""),
            (b"content-length", b"0"),
        )
        await call.body()

    async def _hop(self, call: Conversation) -> None:
        """Fields of an HTTP/1.1 connection, which libraries for event streams set."""
        await call.read_body()
        await call.start(
            200, (b"connection", b"keep-alive"), (b"keep-alive", b"timeout=5"), (b"x-after", b"1")
        )
        await call.body(b"hop")

    async def _empty(self, call: Conversation) -> None:
        """204, with a body that must not be sent."""
        await call.read_body()
        await call.start(204)
        await call.body()

    async def _unchanged(self, call: Conversation) -> None:
        """304, with the length that a body would have."""
        await call.read_body()
        await call.start(304, (b"etag", b'"1"'))
        await call.body()

    async def _early(self, call: Conversation) -> None:
        """Answer without having read the body."""
        await call.start(413, (b"content-length", b"5"))
        await call.body(b"large")

    async def _after(self, call: Conversation) -> None:
        """What comes once the response is complete."""
        await self._plain(call)
        await call.receive()
        await call.receive()

    async def _silent(self, call: Conversation) -> None:
        """Return without a response."""
        await call.read_body()

    async def _raise(self, call: Conversation) -> None:
        await call.read_body()
        raise ProbeError("before the response")

    async def _raise_late(self, call: Conversation) -> None:
        await call.read_body()
        await call.start(200, (b"content-type", b"text/plain"))
        await call.body(b"begun", more=True)
        raise ProbeError("within the response")

    async def _short(self, call: Conversation) -> None:
        """Fewer bytes than content-length says."""
        await call.read_body()
        await call.start(200, (b"content-length", b"10"))
        await call.body(b"short")

    async def _long(self, call: Conversation) -> None:
        """More bytes than content-length says."""
        await call.read_body()
        await call.start(200, (b"content-length", b"2"))
        await call.body(b"longer")

    async def _newline(self, call: Conversation) -> None:
        """A field that would be two."""
        await call.read_body()
        await call.start(200, (b"x-bad", b"one\r\nx-two: two"), (b"content-length", b"0"))
        await call.body()

    async def _twice(self, call: Conversation) -> None:
        """Begin twice."""
        await call.read_body()
        await call.start(200, (b"content-length", b"2"))
        await call.start(500)
        await call.body(b"ok")

    async def _unknown(self, call: Conversation) -> None:
        """An event that no server knows."""
        await call.read_body()
        await call.send({"type": "http.response.nonsense"})
        await call.start(200, (b"content-length", b"0"))
        await call.body()

    async def _state(self, call: Conversation) -> None:
        """Whether each request has its own copy of the state."""
        await call.read_body()
        state = call.scope.get("state", {})
        text = f"{state.get('started')} {state.get('mine')}"
        state["mine"] = "changed"
        await call.start(200)
        await call.body(text.encode())

    async def _leave(self, call: Conversation) -> None:
        """Send until the client has gone; then receive and send once more."""
        await call.read_body()
        await call.start(200, (b"content-type", b"text/plain"))
        await call.body(b"begun", more=True)
        await call.receive()
        await call.body(b"nobody reads this", more=True)

    async def _hint(self, call: Conversation) -> None:
        """103, where the server offers it."""
        await call.read_body()
        if "http.response.early_hint" in call.scope.get("extensions", {}):
            await call.send(
                {"type": "http.response.early_hint", "links": [b"</s.css>; rel=preload"]}
            )
        await call.start(200, (b"content-length", b"0"))
        await call.body()

    async def _trailers(self, call: Conversation) -> None:
        """Fields after the body, where the server offers it."""
        await call.read_body()
        offered = "http.response.trailers" in call.scope.get("extensions", {})
        await call.start(200, (b"trailer", b"x-sum"), trailers=offered)
        await call.body(b"summed")
        if offered:
            await call.send({"type": "http.response.trailers", "headers": [(b"x-sum", b"9")]})

    # --- websocket

    async def _ws_plain(self, call: Conversation) -> None:
        """Accept, and echo until the end."""
        await call.receive()
        await call.send({"type": "websocket.accept"})
        while (event := await call._receive())["type"] == "websocket.receive":
            text, data = event.get("text"), event.get("bytes")
            if text is not None:
                call.events.append(f"text of {len(text)}")
                await call.send({"type": "websocket.send", "text": text})
            else:
                call.events.append(f"bytes of {len(data)}")
                await call.send({"type": "websocket.send", "bytes": data})
        call.events.append(describe(event))

    async def _ws_choose(self, call: Conversation) -> None:
        """Accept with the last of the subprotocols and a field."""
        await call.receive()
        chosen = call.scope["subprotocols"][-1]
        fields = [(b"x-more", b"1")]
        await call.send({"type": "websocket.accept", "subprotocol": chosen, "headers": fields})
        await call.receive()

    async def _ws_close(self, call: Conversation) -> None:
        """Close with a code and a reason; then receive and send once more."""
        await call.receive()
        await call.send({"type": "websocket.accept"})
        await call.send({"type": "websocket.close", "code": 4001, "reason": "enough"})
        await call.receive()
        await call.send({"type": "websocket.send", "text": "nobody reads this"})

    async def _ws_refuse(self, call: Conversation) -> None:
        await call.receive()
        await call.send({"type": "websocket.close"})

    async def _ws_answer(self, call: Conversation) -> None:
        """Refuse with a response, where the server offers it."""
        await call.receive()
        if "websocket.http.response" not in call.scope.get("extensions", {}):
            await call.send({"type": "websocket.close"})
            return
        fields = [(b"content-type", b"text/plain"), (b"content-length", b"4")]
        await call.send({"type": "websocket.http.response.start", "status": 402, "headers": fields})
        await call.send({"type": "websocket.http.response.body", "body": b"pay!"})

    async def _ws_raise(self, call: Conversation) -> None:
        await call.receive()
        raise ProbeError("before accept")

    async def _ws_raise_late(self, call: Conversation) -> None:
        await call.receive()
        await call.send({"type": "websocket.accept"})
        raise ProbeError("after accept")

    async def _ws_return(self, call: Conversation) -> None:
        """Accept and return."""
        await call.receive()
        await call.send({"type": "websocket.accept"})
