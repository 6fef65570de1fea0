"""Lines of standard input, without a thread: a terminal, a pipe or a file."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator

__all__ = ["read_lines"]

_CHUNK = 65536


async def read_lines(descriptor: int) -> AsyncIterator[bytes]:
    """Iterate over the lines of a file descriptor, without their line ends.

    Nothing more is read while a line is worked on, so a slow reader slows the writer down.

    Args:
        descriptor: Any file.

    Cancellation: safe.
    """
    rest = b""
    while data := await _read(descriptor):
        *lines, rest = (rest + data).split(b"\n")
        for line in lines:
            yield line.removesuffix(b"\r")
    if rest:
        yield rest


async def _read(descriptor: int) -> bytes:
    loop = asyncio.get_running_loop()
    readable = loop.create_future()

    def wake() -> None:
        if not readable.done():
            readable.set_result(None)

    try:
        loop.add_reader(descriptor, wake)
    except PermissionError:  # epoll does not know files: they are always readable
        return os.read(descriptor, _CHUNK)
    try:
        await readable
    finally:
        loop.remove_reader(descriptor)
    return os.read(descriptor, _CHUNK)
