"""Structured messages: dataclasses and Protobuf over streams and datagrams."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest
from google.protobuf.struct_pb2 import Struct

from pywebtransport import (
    SerializationError,
    Serializer,
    StructuredDatagramTransport,
    StructuredStream,
    WebTransportSession,
    WebTransportStream,
)
from pywebtransport.serializer import JSONSerializer, MsgPackSerializer, ProtobufSerializer
from tests.support.endpoints import PairOfSessions


@dataclass
class Position:
    x: float
    y: float


@dataclass
class Move:
    player: str
    to: Position
    path: list[Position] = field(default_factory=list)


@dataclass
class Leave:
    player: str


REGISTRY: dict[int, type[Any]] = {1: Move, 2: Leave}


async def far_stream(session: WebTransportSession, serializer: Serializer) -> StructuredStream[Any]:
    stream = await anext(aiter(session.incoming_streams()))
    assert isinstance(stream, WebTransportStream)
    return StructuredStream(stream=stream, serializer=serializer, registry=REGISTRY)


@pytest.mark.parametrize("make", [JSONSerializer, MsgPackSerializer])
async def test_dataclasses_on_streams_and_datagrams(
    make: type[JSONSerializer | MsgPackSerializer], pair: PairOfSessions
) -> None:
    move = Move(player="ann", to=Position(x=1.0, y=2.5), path=[Position(x=0.0, y=0.0)])
    async with pair() as (client, server):
        near = await client.create_structured_stream(
            serializer=make(), registry=REGISTRY, timeout=20.0
        )
        await near.send_obj(obj=move)
        far = await far_stream(server, make())
        assert near.stream_id == far.stream_id
        assert await far.receive_obj() == move
        await far.send_obj(obj=Leave(player="bob"))
        await far.close()
        assert [message async for message in near] == [Leave(player="bob")]
        await near.close()
        with pytest.raises(StopAsyncIteration):
            await anext(far)
        assert near.is_closed

        transport: StructuredDatagramTransport[
            Any
        ] = await client.create_structured_datagram_transport(serializer=make(), registry=REGISTRY)
        receiver = StructuredDatagramTransport(
            datagram_transport=server.datagrams, serializer=make(), registry=REGISTRY
        )
        await transport.send_obj(obj=move, priority=1, ttl=20.0)
        assert await receiver.receive_obj(timeout=20.0) == move
        with pytest.raises(SerializationError):
            await transport.send_obj(obj="not registered")
        await transport.close()
        assert transport.is_closed


async def test_protobuf_messages(pair: PairOfSessions) -> None:
    message = Struct()
    message["score"] = 3
    async with pair() as (client, server):
        serializer = ProtobufSerializer(message_class=Struct)
        near = await client.create_structured_stream(serializer=serializer, registry={7: Struct})
        await near.send_obj(obj=message)
        stream = await anext(aiter(server.incoming_streams()))
        assert isinstance(stream, WebTransportStream)
        far: StructuredStream[Any] = StructuredStream(
            stream=stream, serializer=serializer, registry={7: Struct}
        )
        assert await far.receive_obj() == message


def test_serializers_alone() -> None:
    move = Move(player="ann", to=Position(x=1.0, y=2.5))
    serializers: list[Serializer] = [
        JSONSerializer(),
        MsgPackSerializer(
            pack_kwargs={"use_single_float": False}, unpack_kwargs={"strict_map_key": True}
        ),
    ]
    for serializer in serializers:
        assert isinstance(serializer, Serializer)
        data = serializer.serialize(obj=move)
        assert serializer.deserialize(data=data, obj_type=Move) == move
        assert serializer.deserialize(data=data)["to"] == {"x": 1.0, "y": 2.5}
        with pytest.raises(SerializationError) as caught:
            serializer.deserialize(data=b"\xc1 broken", obj_type=Move)
        assert caught.value.original_exception is not None
    protobuf = ProtobufSerializer(message_class=Struct)
    message = Struct()
    message["a"] = True
    assert protobuf.deserialize(data=protobuf.serialize(obj=message)) == message


class Upper:
    """A serializer of the user's own."""

    def serialize(self, *, obj: Any) -> bytes:
        return str(obj.player).upper().encode()

    def deserialize(self, *, data: bytes, obj_type: Any = None) -> Any:
        return obj_type(player=data.decode())


async def test_a_serializer_of_ones_own(pair: PairOfSessions) -> None:
    assert isinstance(Upper(), Serializer)
    async with pair() as (client, server):
        near = await client.create_structured_stream(serializer=Upper(), registry={2: Leave})
        await near.send_obj(obj=Leave(player="ann"))
        far = await far_stream(server, Upper())
        assert await far.receive_obj() == Leave(player="ANN")
