"""What a session gives has types."""

import array
import ctypes
import mmap
from typing import assert_type

import numpy

import pywebtransport
from pywebtransport import (
    WebTransportReceiveStream,
    WebTransportSession,
    WebTransportStream,
)
from pywebtransport.client import ReconnectingClient
from pywebtransport.media import Frame, FrameReceiver, FrameSender
from pywebtransport.rpc import ReconnectingRpc, RpcManager
from pywebtransport.server import WebTransportServer


async def connecting() -> None:
    async with pywebtransport.connect("https://a.example/", timeout=5) as session:
        assert_type(session, WebTransportSession)
    assert_type(await pywebtransport.connect("https://a.example/"), WebTransportSession)


async def serving(session: WebTransportSession) -> None:
    async def handler(session: WebTransportSession) -> None:
        """Serves nothing."""

    async with pywebtransport.serve(handler, "localhost", 0) as server:
        assert_type(server, WebTransportServer)
        assert_type(server.port, int)
        assert_type(server.url, str)
    assert_type(await pywebtransport.serve(handler, "localhost", 0), WebTransportServer)


async def parameters(session: WebTransportSession) -> None:
    assert_type(session.query_params["room"], str)
    assert_type(session.query_params.get("room"), str | None)
    assert_type(session.query_params.get_all("room"), list[str])
    room: str = session.path_params["room"]
    number: int = session.path_params["number"]
    by_name: dict[str, str] = dict(session.path_params)
    print(room, number, by_name, session.path_params[0], session.path_params.get("room"))


async def datagrams(session: WebTransportSession) -> None:
    async for datagram in session.datagrams:
        assert_type(datagram, bytes)
        if not session.datagrams.try_send(datagram):
            break
        session.datagrams.try_send(datagram)
        assert_type(await session.datagrams.try_send(datagram), bool)
        sent: bool = session.datagrams.try_send(datagram)
        accepted: list[bool] = [sent, session.datagrams.try_send(datagram)]
        print(accepted)


async def calls(rpc: RpcManager) -> None:
    assert_type(await rpc.call("add", 1, b=2, result_type=int), int)
    await rpc.notify("note", text="hello")
    async for number in rpc.stream("count", 3, item_type=int):
        assert_type(number, int)


async def repeated_calls(client: ReconnectingClient) -> None:
    async with ReconnectingRpc(client, idempotent=["add"]) as rpc:
        assert_type(await rpc.call("add", 1, b=2, result_type=int), int)
        async for number in rpc.stream("count", 3, item_type=int):
            assert_type(number, int)


async def buffers(session: WebTransportSession, stream: WebTransportStream) -> None:
    await stream.write(array.array("d", [1.0]))
    await stream.write(mmap.mmap(-1, 10))
    stream.try_write(memoryview(b"abc"))
    await stream.write(numpy.zeros(3))
    session.datagrams.try_send((ctypes.c_int * 3)())
    await stream.write(5)  # type: ignore[arg-type]


async def frames(session: WebTransportSession) -> None:
    async with FrameSender(session) as sender, FrameReceiver(session) as receiver:
        assert_type(sender.send(bytearray(5), deadline=1), int)
        async for frame in receiver:
            assert_type(frame, Frame)


async def both_ways(stream: WebTransportStream) -> None:
    """Serves a bidirectional stream."""


async def one_way(stream: WebTransportReceiveStream) -> int:
    """Serves any stream that can be read."""
    return 0


async def right_stream_handlers(session: WebTransportSession) -> None:
    await session.serve_streams(both_ways, max_concurrent=5)
    await session.serve_streams(one_way)
    await session.serve_streams(one_way, unidirectional=True, error_code=2)


async def wrong_stream_handlers(session: WebTransportSession) -> None:
    await session.serve_streams(both_ways, unidirectional=True)  # type: ignore[call-overload]
    await session.serve_streams(one_way, max_concurent=5)  # type: ignore[call-overload]
