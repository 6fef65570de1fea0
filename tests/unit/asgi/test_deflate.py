"""permessage-deflate: it undoes what a client of wsproto does, and no bytes break it."""

from __future__ import annotations

import zlib

from hypothesis import given, settings
from hypothesis import strategies as st
from wsproto.connection import Connection, ConnectionState, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Event, Ping, Pong, TextMessage
from wsproto.extensions import PerMessageDeflate

from pywebtransport.asgi._deflate import Deflate

LIMIT = 5000

messages = st.one_of(
    st.text(max_size=300),
    st.binary(max_size=300),
    st.builds(lambda part, count: part * count, st.text(min_size=1, max_size=5), st.just(200)),
)
parameters = st.fixed_dictionaries(
    {
        "client_no_context_takeover": st.booleans(),
        "server_no_context_takeover": st.booleans(),
        "client_max_window_bits": st.integers(9, 15),
        "server_max_window_bits": st.integers(9, 15),
    }
)


def ends(**options: object) -> tuple[Connection, Connection]:
    """A client of wsproto and a server with our extension, which have agreed."""
    theirs = PerMessageDeflate(**options)  # type: ignore[arg-type]
    accepted = Deflate.negotiate([f"{theirs.name}; {theirs.offer()}".encode()], LIMIT)
    assert accepted is not None
    theirs.finalize(accepted[1].decode())
    return (
        Connection(ConnectionType.CLIENT, [theirs]),
        Connection(ConnectionType.SERVER, [accepted[0]]),
    )


def frame(packed: bytes) -> bytes:
    """A compressed binary message of a client, of at most 125 bytes."""
    return bytes([0xC2, 0x80 | len(packed)]) + bytes(4) + packed


def event_of(message: str | bytes) -> Event:
    return TextMessage(data=message) if isinstance(message, str) else BytesMessage(data=message)


def taken(connection: Connection, data: bytes) -> str | bytes:
    """The one message that some bytes are, however many events it comes in."""
    connection.receive_data(data)
    pieces = []
    for event in connection.events():
        assert isinstance(event, TextMessage | BytesMessage), event
        pieces.append(event.data)
    return pieces[0][:0].join(pieces)


@settings(max_examples=25)
@given(st.lists(messages, max_size=4), parameters)
def test_messages_pass_both_ways(texts: list[str | bytes], options: dict[str, object]) -> None:
    client, server = ends(**options)
    for text in texts:
        assert taken(server, client.send(event_of(text))) == text
        assert taken(client, server.send(event_of(text))) == text


@given(st.integers(LIMIT - 3, LIMIT + 3))
def test_the_limit_is_exact(size: int) -> None:
    client, server = ends()
    server.receive_data(client.send(BytesMessage(data=bytes(size))))
    (first, *_) = server.events()
    if size > LIMIT:
        assert isinstance(first, CloseConnection)
        assert first.code == 1009
    else:
        assert isinstance(first, BytesMessage)
        assert first.data == bytes(size)


def test_a_bomb_is_not_expanded() -> None:
    """What comes out is limited before it exists."""
    _, server = ends()
    packer = zlib.compressobj(wbits=-12)
    bomb = packer.compress(bytes(5_000_000)) + packer.flush(zlib.Z_SYNC_FLUSH)
    server.receive_data(bytes([0xC2, 0xFE]) + len(bomb).to_bytes(2, "big") + bytes(4) + bomb)
    (event,) = server.events()
    assert isinstance(event, CloseConnection)
    assert event.code == 1009


def test_a_message_may_end_with_a_final_block() -> None:
    """RFC 7692 section 7.2.3.4; the next message is compressed anew."""
    _, server = ends()
    for text in (b"Hello", b"Goodbye"):
        packer = zlib.compressobj(wbits=-12)
        packed = packer.compress(text) + packer.flush(zlib.Z_FINISH) + b"\0"
        assert taken(server, frame(packed)) == text


def test_nothing_is_kept_that_follows_a_final_block() -> None:
    """It would never be expanded, and so never reach the limit."""
    _, server = ends()
    packer = zlib.compressobj(wbits=-12)
    packed = packer.compress(b"x") + packer.flush(zlib.Z_FINISH)
    server.receive_data(frame(packed + bytes(100)))
    *_, event = server.events()
    assert isinstance(event, CloseConnection)
    assert event.code == 1007


chunks = st.one_of(
    st.binary(max_size=40),
    st.builds(
        lambda first, size, rest: bytes([first, 0x80 | size]) + rest,
        st.integers(0, 255),
        st.integers(0, 127),
        st.binary(max_size=40),
    ),
)


@given(st.lists(chunks, max_size=6), st.booleans(), st.integers(1, 50))
def test_no_bytes_break_the_framing(pieces: list[bytes], compressed: bool, step: int) -> None:
    """Whatever comes, wsproto with our extension gives events, and at last one of the end."""
    server = ends()[1] if compressed else Connection(ConnectionType.SERVER)
    data = b"".join(pieces)
    for start in range(0, len(data), step):
        server.receive_data(data[start : start + step])
        for event in server.events():
            if isinstance(event, CloseConnection):
                assert 1000 <= event.code <= 4999
                if server.state is ConnectionState.REMOTE_CLOSING:
                    assert server.send(event.response())
                return
            assert isinstance(event, TextMessage | BytesMessage | Ping | Pong)
