"""Messages as bytes: encoded once, recognised again."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pywebtransport.exceptions import SerializationError
from pywebtransport.pubsub._messages import (
    REGISTRY,
    WIRE_REGISTRY,
    Dropped,
    Gap,
    Opening,
    PubSubMessage,
)
from pywebtransport.pubsub._wire import FrameCodec
from pywebtransport.serializer import JSONSerializer, MsgPackSerializer

CODEC = FrameCodec(JSONSerializer(), 100)


def test_type_ids_are_fixed() -> None:
    """They are the protocol: other programs speak it."""
    names = {number: kind.__name__ for number, kind in REGISTRY.items()}
    assert names == {16: "Opening", 17: "PubSubMessage", 18: "Dropped"}
    assert {**REGISTRY, 19: Gap} == WIRE_REGISTRY


def test_bytes_of_a_message() -> None:
    frame = CODEC.encode(PubSubMessage("a.b", [1]))
    assert frame[:2] == b"\x00\x11"
    assert int.from_bytes(frame[2:6], "big") == len(frame) - 6
    assert JSONSerializer().deserialize(frame[6:], PubSubMessage) == PubSubMessage("a.b", [1])
    assert CODEC.is_message(frame)


def test_any_serializer_will_do() -> None:
    codec = FrameCodec(MsgPackSerializer(), 100)
    frame = codec.encode(PubSubMessage("a", b"\xff"))
    assert codec.is_message(frame)
    assert MsgPackSerializer().deserialize(frame[6:], PubSubMessage).data == b"\xff"


def test_messages_that_cannot_be_sent() -> None:
    with pytest.raises(SerializationError, match="larger than max_message_size=100") as caught:
        CODEC.encode(PubSubMessage("a", "x" * 100))
    assert caught.value.details["max_size"] == 100
    with pytest.raises(SerializationError):
        CODEC.encode(PubSubMessage("a", object()))


def test_other_bytes_are_no_message() -> None:
    frame = CODEC.encode(PubSubMessage("a"))
    for bad in (
        b"",
        frame[:5],
        frame[:-1],
        frame + b"x",
        CODEC.encode(Opening(1)),
        CODEC.encode(Dropped(1)),
        FrameCodec(JSONSerializer(), 1000).encode(PubSubMessage("a", "x" * 100)),
    ):
        assert not CODEC.is_message(bad)


@given(st.binary(max_size=50))
def test_no_bytes_crash_it(data: bytes) -> None:
    CODEC.is_message(data)
