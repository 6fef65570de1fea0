"""Messages, calls and topics over a session over WebSocket, unchanged."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest

from pywebtransport import WebTransportSession
from pywebtransport.pubsub import Broker, PubSubManager
from pywebtransport.rpc import RpcError, RpcManager
from pywebtransport.serializer import JSONSerializer
from pywebtransport.stream import StructuredStream

from .bed import Bed

pytestmark = pytest.mark.loops("virtual")


@dataclass
class Line:
    author: str
    text: str


async def test_structured_messages() -> None:
    async def handler(session: WebTransportSession) -> None:
        await session.accept()
        async for stream in session.incoming_bidirectional_streams():
            messages = StructuredStream(stream, JSONSerializer(), {7: Line})
            async for line in messages:
                await messages.send_obj(Line(line.text, line.author))
            await messages.close()

    async with Bed(handler) as bed, bed.session() as session:
        messages = await session.create_structured_stream(JSONSerializer(), {7: Line})
        for number in range(50):
            await messages.send_obj(Line("a", str(number)))
            assert await messages.receive_obj() == Line(str(number), "a")
        await messages.close()


async def test_both_ends_call_each_other() -> None:
    async def handler(session: WebTransportSession) -> None:
        await session.accept()
        async with RpcManager(session) as rpc:

            async def ask(question: str) -> str:
                return str(await rpc.call("answer", question))

            async def count(most: int) -> AsyncIterator[int]:
                for number in range(most):
                    yield number

            rpc.register(ask)
            rpc.register(count)
            await session.wait_closed()

    async with Bed(handler) as bed, bed.session() as session, RpcManager(session) as rpc:
        rpc.register(lambda question: question[::-1], name="answer")
        assert await rpc.call("ask", "why") == "yhw"
        assert [item async for item in rpc.stream("count", 5)] == [0, 1, 2, 3, 4]
        with pytest.raises(RpcError):
            await rpc.call("nothing")
        answers = await asyncio.gather(*(rpc.call("ask", str(n)) for n in range(50)))
        assert answers == [str(n)[::-1] for n in range(50)]


async def test_topics() -> None:
    async with Broker() as broker:

        async def handler(session: WebTransportSession) -> None:
            await session.accept()
            await broker.serve(session)

        async with (
            Bed(handler) as bed,
            bed.session() as first,
            bed.session() as second,
            PubSubManager(first) as reader,
            PubSubManager(second) as writer,
        ):
            subscription = await reader.subscribe("news.*")
            for number in range(20):
                await writer.publish("news.local", {"number": number})
            got = [(await anext(aiter(subscription))).data["number"] for _ in range(20)]
            assert got == list(range(20))
