"""Test beds: an ``H3Connection`` on a fake QUIC connection, with the test as its peer."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import pylsqpack

from pywebtransport.h3._connection import H3Connection
from pywebtransport.h3._frames import STREAM, FrameParser, encode_frame
from pywebtransport.h3._options import H3Options
from pywebtransport.h3._session import H3Session
from pywebtransport.h3._settings import encode_settings
from pywebtransport.h3._varint import decode_varint, encode_varint
from tests.unit.h3.fake_quic import FakeClock, FakeQuic, FakeStream, FakeTurns, Pair

DRAFT16 = {0x33: 1, 0x2C7CF000: 1, 0x2B61: 1 << 20, 0x2B64: 10, 0x2B65: 10}
DRAFT16_WITHOUT_FLOW_CONTROL = {0x33: 1, 0x2C7CF000: 1}
DRAFT14 = {0x33: 1, 0x14E9CD29: 10, 0x2B61: 1 << 20, 0x2B64: 10, 0x2B65: 10}
DRAFT07 = {0x33: 1, 0xC671706A: 10}
DRAFT02 = {0x33: 1, 0xFFD277: 1, 0x2B603742: 1}
SERVER_ONLY = {0x08: 1}

CONNECT: tuple[tuple[str, str], ...] = (
    (":method", "CONNECT"),
    (":scheme", "https"),
    (":authority", "example.org:4433"),
    (":path", "/chat?room=1"),
    (":protocol", "webtransport-h3"),
)


_recorders: dict[H3Session, SessionRecorder] = {}


class ConnectionRecorder:
    """ConnectionEvents that remembers."""

    def __init__(self) -> None:
        self.settings: list[dict[int, int]] = []
        self.requested: list[H3Session] = []
        self.goaways: list[int] = []
        self.errors: list[Any] = []
        self.dropped: list[str] = []
        self.on_request: Callable[[H3Session], object] | None = None

    def settings_received(self, settings: Mapping[int, int]) -> None:
        self.settings.append(dict(settings))

    def session_requested(self, session: H3Session) -> None:
        self.requested.append(session)
        session.events = _recorders[session] = SessionRecorder()
        if self.on_request is not None:
            self.on_request(session)

    def early_dropped(self, what: str) -> None:
        self.dropped.append(what)

    def goaway_received(self, last_id: int) -> None:
        self.goaways.append(last_id)

    def connection_failed(self, error: Exception) -> None:
        self.errors.append(error)


class SessionRecorder:
    """SessionEvents that remembers, in order."""

    def __init__(self) -> None:
        self.log: list[tuple[Any, ...]] = []
        self.streams: list[FakeStream] = []
        self.datagrams: list[bytes] = []
        self.capsules: list[tuple[int, bytes]] = []

    def names(self) -> list[str]:
        return [entry[0] for entry in self.log]

    def only(self, name: str) -> tuple[Any, ...]:
        """The arguments of the one event of this name."""
        (entry,) = [e for e in self.log if e[0] == name]
        return entry[1:]

    def session_established(self) -> None:
        self.log.append(("established",))

    def session_rejected(
        self, status: int | None, headers: Mapping[str, str], error: Exception | None
    ) -> None:
        self.log.append(("rejected", status, dict(headers), error))

    def stream_received(self, stream: Any, unidirectional: bool) -> None:
        self.streams.append(stream)
        self.log.append(("stream", stream.stream_id, unidirectional))

    def datagrams_received(self, datagrams: list[bytes]) -> None:
        self.datagrams += datagrams
        self.log += [("datagram", data) for data in datagrams]

    def streams_available(self, unidirectional: bool) -> None:
        self.log.append(("streams_available", unidirectional))

    def datagram_writable(self) -> None:
        self.log.append(("writable",))

    def session_draining(self) -> None:
        self.log.append(("draining",))

    def credit_updated(self, kind: str, limit: int) -> None:
        self.log.append(("credit", kind, limit))

    def capsule_received(self, capsule_type: int, value: bytes) -> None:
        self.capsules.append((capsule_type, value))

    def session_closed(
        self, code: int | None, reason: str, remote: bool, error: Exception | None
    ) -> None:
        self.log.append(("closed", code, reason, remote, error))

    @property
    def closed(self) -> tuple[Any, ...]:
        """Code, reason and remote of the one close event."""
        return self.only("closed")[:3]


def varint(n: int) -> bytes:
    return encode_varint(n)


def data_frame(payload: bytes) -> bytes:
    return encode_frame(0x00, payload)


def capsule(kind: int, value: bytes) -> bytes:
    return varint(kind) + varint(len(value)) + value


class Bed:
    """One end under test; the methods are what its peer does."""

    def __init__(
        self, *, is_client: bool, options: H3Options | None = None, start: bool = True
    ) -> None:
        self.clock = FakeClock()
        self.turns = FakeTurns(self.clock)
        self.quic = FakeQuic(is_client=is_client)
        self.events = ConnectionRecorder()
        self.h3 = H3Connection(
            self.quic,
            self.events,
            self.clock.call_later,
            self.turns,
            options or H3Options(),
            is_client=is_client,
        )
        self.quic.handler = self.h3
        self.encoder = pylsqpack.Encoder()
        self.decoder = pylsqpack.Decoder(0, 0)
        self.control: FakeStream | None = None
        if start:
            self.h3.start()

    # Bytes of the peer.

    def send_settings(self, settings: Mapping[int, int]) -> FakeStream:
        """The peer's control stream with SETTINGS."""
        frame = encode_frame(0x04, encode_settings(settings))
        self.control = self.quic.peer_open(True, b"\x00" + frame)
        return self.control

    def send_control(self, data: bytes) -> None:
        assert self.control is not None
        self.control.feed(data)

    def headers(self, fields: Sequence[tuple[str, str]], stream_id: int = 0) -> bytes:
        """A HEADERS frame of the peer."""
        lines = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in fields]
        return encode_frame(0x01, self.encoder.encode(stream_id, lines)[1])

    def decode_headers(self, stream: FakeStream) -> list[tuple[dict[str, str], bytes]]:
        """Header frames that we sent on a stream, each with the DATA bytes after it."""
        parser = FrameParser(lambda kind: STREAM if kind == 0 else 1 << 20)
        parser.feed(bytes(stream.sent))
        found: list[tuple[dict[str, str], bytes]] = []
        while (frame := parser.next()) is not None:
            payload = frame.payload or b""
            if frame.type == 1:
                _, lines = self.decoder.feed_header(stream.stream_id, payload)
                found.append(({k.decode(): v.decode("latin-1") for k, v in lines}, b""))
            elif frame.type == 0:
                found[-1] = (found[-1][0], found[-1][1] + payload)
        return found

    def capsules_sent(self, stream: FakeStream) -> list[tuple[int, bytes]]:
        """Capsules that we sent on a CONNECT stream."""
        data, pos = self.decode_headers(stream)[-1][1], 0
        found = []
        while pos < len(data):
            kind = decode_varint(data, pos)
            assert kind is not None
            size = decode_varint(data, kind[1])
            assert size is not None
            found.append((kind[0], data[size[1] : size[1] + size[0]]))
            pos = size[1] + size[0]
        return found

    # Facts about our end.

    @property
    def close_code(self) -> int | None:
        return None if self.quic.closed is None else self.quic.closed[0]

    @property
    def our_control(self) -> FakeStream:
        return next(s for s in self.quic.local(True) if s.sent[:1] == b"\x00")


class ServerBed(Bed):
    """A server under test; the test is the client."""

    def __init__(
        self,
        settings: Mapping[int, int] | None = DRAFT16,
        options: H3Options | None = None,
    ) -> None:
        super().__init__(is_client=False, options=options)
        if settings is not None:
            self.send_settings(settings)

    def request(
        self,
        fields: Sequence[tuple[str, str]] = CONNECT,
        extra: bytes = b"",
        fin: bool = False,
        stream_id: int | None = None,
    ) -> FakeStream:
        """The client sends a request header, with more bytes after it."""
        return self.quic.peer_open(False, self.headers(fields) + extra, fin, stream_id)

    def session(
        self,
        fields: Sequence[tuple[str, str]] = CONNECT,
        stream_id: int | None = None,
        **accept: Any,
    ) -> tuple[H3Session, SessionRecorder, FakeStream]:
        """An accepted session."""
        stream = self.request(fields, stream_id=stream_id)
        session = self.events.requested[-1]
        assert session.session_id == stream.stream_id
        session.accept(**accept)
        self.clock.advance(0)
        return session, recorder(session), stream

    def status(self, stream: FakeStream) -> str | None:
        """The status that we answered."""
        found = self.decode_headers(stream)
        return found[-1][0][":status"] if found else None


class ClientBed(Bed):
    """A client under test; the test is the server."""

    def __init__(
        self,
        settings: Mapping[int, int] | None = None,
        options: H3Options | None = None,
        *,
        silent: bool = False,
    ) -> None:
        super().__init__(is_client=True, options=options)
        if not silent:
            self.send_settings({**SERVER_ONLY, **(DRAFT16 if settings is None else settings)})

    def open(self, **changes: Any) -> tuple[H3Session, SessionRecorder]:
        """Ask for a session."""
        events = SessionRecorder()
        arguments: dict[str, Any] = {
            "authority": "example.org:4433",
            "path": "/chat",
            "headers": {},
            "origin": None,
            "application_protocols": (),
            "require_application_protocol": False,
            "events": events,
        }
        session = self.h3.open_session(**{**arguments, **changes})
        return session, events

    def stream_of(self, session: H3Session) -> FakeStream:
        return self.quic.streams[session.session_id]

    def respond(
        self,
        session: H3Session,
        status: int = 200,
        headers: Sequence[tuple[str, str]] = (),
        extra: bytes = b"",
        fin: bool = False,
    ) -> None:
        """The server answers."""
        fields = [(":status", str(status)), *headers]
        self.stream_of(session).feed(self.headers(fields, session.session_id) + extra, fin)

    def session(self, **changes: Any) -> tuple[H3Session, SessionRecorder, FakeStream]:
        """An established session."""
        session, events = self.open(**changes)
        self.respond(session)
        return session, events, self.stream_of(session)


class PairBed:
    """A client and a server under test, wired together."""

    def __init__(
        self,
        client_options: H3Options | None = None,
        server_options: H3Options | None = None,
        cut: Callable[[bytes], Iterator[bytes]] | None = None,
    ) -> None:
        self.client = Bed(is_client=True, options=client_options, start=False)
        self.server = Bed(is_client=False, options=server_options, start=False)
        self.pair = Pair(self.client.quic, self.server.quic, cut)
        self.server.events.on_request = lambda session: session.accept()
        self.client.h3.start()
        self.server.h3.start()
        self.pump()

    def pump(self) -> None:
        self.pair.pump()
        self.client.clock.advance(0)
        self.server.clock.advance(0)
        self.pair.pump()

    def session(
        self, **changes: Any
    ) -> tuple[H3Session, SessionRecorder, H3Session, SessionRecorder]:
        """An established session: both ends of it."""
        events = SessionRecorder()
        arguments: dict[str, Any] = {
            "authority": "example.org",
            "path": "/",
            "headers": {},
            "events": events,
        }
        ours = self.client.h3.open_session(**{**arguments, **changes})
        self.pump()
        theirs = self.server.events.requested[-1]
        return ours, events, theirs, recorder(theirs)


def recorder(session: H3Session) -> SessionRecorder:
    """What a session of a server told; it lets go of its listener with the last event."""
    return _recorders[session]


def forget_recorders() -> None:
    """Release all sessions, for tests with many beds in one process."""
    _recorders.clear()
