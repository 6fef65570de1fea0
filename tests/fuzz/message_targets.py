"""Targets for messages: serializers, RPC, publish/subscribe, reliable datagrams."""

from __future__ import annotations

import contextlib
from typing import Any

from pywebtransport.datagram._reliable_frames import Ack, Data, FrameError, decode, encode_ack
from pywebtransport.datagram._reliable_receiver import ReliableReceiver
from pywebtransport.exceptions import SerializationError
from pywebtransport.pubsub._messages import WIRE_REGISTRY
from pywebtransport.pubsub._wire import FrameCodec
from pywebtransport.rpc._exceptions import RpcError
from pywebtransport.rpc._messages import REGISTRY, check_request
from pywebtransport.serializer import JSONSerializer, MsgPackSerializer, ProtobufSerializer
from pywebtransport.serializer._messages import MessageCodec
from tests.fuzz.reader import Reader
from tests.support.messages import Item, Order

_JSON = JSONSerializer(max_size=1 << 16)
_MSGPACK = MsgPackSerializer(max_size=1 << 16)
_REGISTRIES: dict[int, type[Any]] = {**REGISTRY, **WIRE_REGISTRY, 100: Item, 101: Order}
_CODECS = (MessageCodec(_JSON, _REGISTRIES), MessageCodec(_MSGPACK, _REGISTRIES))
_TYPES: tuple[Any, ...] = (None, Order, Item, list[Item], dict[str, Order], int | str | None)


def json_messages(data: bytes) -> None:
    """JSON of anybody, as plain data and as objects."""
    _messages(_JSON, data)


def msgpack_messages(data: bytes) -> None:
    """MessagePack of anybody."""
    _messages(_MSGPACK, data)


def _messages(serializer: Any, data: bytes) -> None:
    for obj_type in _TYPES:
        try:
            value = serializer.deserialize(data, obj_type)
        except SerializationError:
            continue
        try:
            again = serializer.serialize(value)
        except SerializationError:
            continue  # a number out of range, a key that is no text
        # The first round may change a form, such as a time that becomes text; the second none.
        value = serializer.deserialize(again, obj_type)
        assert serializer.serialize(value) == again


def protobuf_messages(data: bytes) -> None:
    """Protocol Buffers of anybody, with a message that nests."""
    from google.protobuf.struct_pb2 import Value

    serializer = ProtobufSerializer(message_class=Value, max_size=1 << 16)
    try:
        message = serializer.deserialize(data)
    except SerializationError:
        return
    try:
        again = serializer.serialize(message)
    except SerializationError:
        return
    assert serializer.deserialize(again) == message


def typed_messages(data: bytes) -> None:
    """What RPC and publish/subscribe take from a stream: a type ID and a payload."""
    reader = Reader(data)
    codec = _CODECS[reader.flag()]
    type_id = reader.choice(sorted(_REGISTRIES))
    payload = reader.rest()
    FrameCodec(_JSON, 1000).is_message(payload)
    try:
        message = codec.decode(type_id, payload)
    except SerializationError:
        return
    with contextlib.suppress(RpcError):
        check_request(message)


def reliable_datagrams(data: bytes) -> None:
    """Frames of reliable datagrams; every payload comes once, and in order if that is wanted."""
    reader = Reader(data)
    ordered = reader.flag()
    receiver = ReliableReceiver(window=32, ordered=ordered)
    taken: list[bytes] = []
    sent: set[bytes] = set()
    while reader:
        if reader.byte() % 4 == 0:
            while (payload := receiver.take()) is not None:
                taken.append(payload)
            continue
        frame = reader.some()
        try:
            found = decode(frame)
        except FrameError:
            continue
        if isinstance(found, Data):
            sent.add(found.payload)
            receiver.accept(found.sequence, found.payload)
        elif isinstance(found, Ack):
            assert decode(encode_ack(*found)) == found
        assert receiver.waiting <= 2 * 32
        acknowledgement = decode(receiver.acknowledgement())
        assert isinstance(acknowledgement, Ack)
        assert acknowledgement.expected == receiver.expected
    assert set(taken) <= sent
    assert len(taken) <= receiver.received


SEEDS: dict[str, list[bytes]] = {
    "json_messages": [
        _JSON.serialize(Order(1, "c")),
        _JSON.serialize([Item("i", 1.5)]),
        b'{"a": [1, 2.5, null, true, "\\ud83d\\ude00", 123456789012345678901234567890]}',
    ],
    "msgpack_messages": [
        _MSGPACK.serialize(Order(1, "c")),
        _MSGPACK.serialize([Item("i", 1.5)]),
        b"\x83\xa1a\xc0\xa1b\xcb\x7f\xf0\0\0\0\0\0\0\xa1c\xd6\xff\0\0\0\0",
    ],
    "protobuf_messages": [b"\x1a\1x", b"\x32\6\n\4\x1a\2ab", b"\x2a\7\n\5\n\1k\x12\0"],
    "typed_messages": [
        bytes([0, 0]) + _JSON.serialize({"method": "m", "params": [1]}),
        bytes([1, 3]) + _MSGPACK.serialize({"method": "m", "named": {"a": 1}}),
    ],
    "reliable_datagrams": [
        b"\1\1\3\x11\0a\1\3\x11\2c\1\3\x11\1b\0",
        b"\0\1\4\x12\1\x20\1\1\1\x13\1\3\x11\x3fz",
    ],
}
