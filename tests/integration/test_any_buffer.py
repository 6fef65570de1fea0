"""Every C-contiguous buffer can be sent: on streams, in datagrams, and in frames of media."""

from __future__ import annotations

import array
import ctypes
import mmap
import sys
from collections.abc import Callable
from typing import Any

import numpy
import pytest

from pywebtransport.datagram import DatagramBroadcaster
from pywebtransport.exceptions import ConfigurationError
from pywebtransport.utils._checks import check_data, is_buffer
from tests.support.endpoints import PairOfSessions
from tests.support.steps import take_unidirectional

pytestmark = pytest.mark.loops("virtual")

WHOLE = bytes(range(256)) * 40


class _Pair(ctypes.Structure):
    _fields_ = (("a", ctypes.c_int16), ("b", ctypes.c_double))


def _mapped() -> mmap.mmap:
    mapped = mmap.mmap(-1, 4096)
    mapped[:5] = b"hello"
    return mapped


BUFFERS: dict[str, Callable[[], Any]] = {
    "bytes": lambda: WHOLE,
    "bytearray": lambda: bytearray(WHOLE),
    "view": lambda: memoryview(WHOLE),
    "part of a view": lambda: memoryview(WHOLE)[1000:9000],
    "small part": lambda: memoryview(WHOLE)[3:9],
    "view of integers": lambda: memoryview(WHOLE).cast("i"),
    "view of a bytearray": lambda: memoryview(bytearray(WHOLE))[5:],
    "array of doubles": lambda: array.array("d", [1.5, 2.5]),
    "map": _mapped,
    "ctypes integers": lambda: (ctypes.c_int * 3)(1, 2, 3),
    "ctypes structure": lambda: _Pair(1, 2.0),
    "numpy bytes": lambda: numpy.arange(9000, dtype=numpy.uint8),
    "numpy doubles": lambda: numpy.arange(12.0).reshape(3, 4),
    "numpy big-endian": lambda: numpy.arange(4, dtype=">i4"),
    "numpy complex": lambda: numpy.ones(3, dtype=complex),
    "numpy records": lambda: numpy.zeros(3, dtype=[("O", "i2"), ("b", "f8")]),
    "numpy booleans": lambda: numpy.array([True, False]),
    "numpy number": lambda: numpy.array(5),
    "numpy scalar": lambda: numpy.float32(1.5),
    "numpy rows": lambda: numpy.arange(12, dtype=numpy.uint8).reshape(4, 3)[1:3],
    "numpy over bytes": lambda: numpy.frombuffer(WHOLE, dtype=numpy.int16),
    "nothing": lambda: b"",
    "numpy nothing": lambda: numpy.zeros((0, 3)),
    "numpy no columns": lambda: numpy.zeros((3, 0)),
    "array of nothing": lambda: array.array("i"),
}


@pytest.mark.parametrize("name", BUFFERS)
async def test_every_way_to_send_takes_it(name: str, pair: PairOfSessions) -> None:
    data = BUFFERS[name]()
    expected = memoryview(data).tobytes()
    async with pair() as (client, server):
        stream = await client.create_unidirectional_stream()
        await stream.write(data)
        assert stream.bytes_sent == len(expected)
        await stream.writelines([data, data])
        assert stream.try_write(data) in (True, False)
        await stream.flush()
        count = stream.bytes_sent
        await stream.write_all(data)
        received = await (await take_unidirectional(server)).read_all()
        assert stream.bytes_sent == count + len(expected) == len(received)
        assert received == expected * (len(received) // max(1, len(expected)))
        if len(expected) < 1000:
            await client.datagrams.send(data)
            assert client.datagrams.try_send(data)
            assert await client.datagrams.send_multiple([data, data]) == 2
            broadcaster = DatagramBroadcaster()
            await broadcaster.add_transport(client.datagrams)
            assert await broadcaster.broadcast(data) == 1
            for _ in range(5):
                assert await server.datagrams.receive() == expected


async def test_what_cannot_be_sent_is_refused_before_anything_is_sent(
    pair: PairOfSessions,
) -> None:
    grid = numpy.arange(12.0).reshape(3, 4)
    wrong: list[tuple[Any, str]] = [
        (grid.T, "C-contiguous"),
        (grid[:, 1], "C-contiguous"),
        (numpy.asfortranarray(grid), "C-contiguous"),
        (memoryview(WHOLE)[::2], "C-contiguous"),
        (numpy.array([object()]), "plain values"),
        (numpy.zeros(2, dtype=[("a", "i2"), ("b", object)]), "plain values"),
        (numpy.zeros(2, dtype="datetime64[s]"), "contiguous"),
        (5, "contiguous"),
        ([1, 2], "contiguous"),
    ]
    async with pair() as (client, _):
        stream = await client.create_unidirectional_stream()
        for data, text in wrong:
            for send in (
                stream.write,
                stream.write_all,
                stream.try_write,
                client.datagrams.send,
                client.datagrams.try_send,
            ):
                with pytest.raises(ConfigurationError, match=text) as caught:
                    await send(data)
                assert caught.value.config_key == "data"
        assert stream.bytes_sent == 0
        for one in (b"abc", "abc", grid, array.array("b", b"abc")):
            with pytest.raises(ConfigurationError, match="must be a sequence of datagrams"):
                await client.datagrams.send_multiple(one)
        assert client.datagrams.datagrams_sent == 0


async def test_views_of_bytes_are_kept_and_others_copied(pair: PairOfSessions) -> None:
    """A reference to the bytes is held until everything is acknowledged; others may change."""
    whole = bytes(300_000)
    locked = numpy.frombuffer(bytearray(whole), dtype=numpy.uint8)
    locked.flags.writeable = False  # which is no proof that it does not change
    async with pair() as (client, server):
        cases = (
            (memoryview(whole), True),
            (memoryview(whole)[1000:200_000], True),
            (memoryview(whole)[:1000], False),  # copying is cheaper
            (bytearray(whole), False),
            (locked, False),
        )
        before = sys.getrefcount(whole)
        for data, is_kept in cases:
            stream = await client.create_unidirectional_stream()
            await stream.write(data, end_stream=True, wait_flush=False)
            assert sys.getrefcount(whole) == before + is_kept
            received = await (await take_unidirectional(server)).read_all()
            assert received == bytes(data)
            await stream.wait_acknowledged()
            assert sys.getrefcount(whole) == before


def test_forms_of_data() -> None:
    assert check_data("x", WHOLE) is WHOLE
    assert check_data("x", "ä") == "ä".encode()
    view = check_data("x", numpy.zeros((2, 3), dtype=numpy.int32))
    assert isinstance(view, memoryview)
    assert (view.format, view.ndim, len(view), view.nbytes) == ("B", 1, 24, 24)
    empty = check_data("x", numpy.zeros((0, 3)))
    assert (len(empty), bytes(empty)) == (0, b"")
    assert is_buffer(b"")
    assert is_buffer(numpy.zeros(3).T[::2])
    assert not is_buffer("text")
    assert not is_buffer([b"x"])
