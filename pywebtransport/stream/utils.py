"""Small helpers over streams."""

from __future__ import annotations

import sys

from .._core.receive_stream import WebTransportReceiveStream
from .._core.send_stream import WebTransportSendStream
from .._core.stream import WebTransportStream
from ..utils._checks import check_instance, check_integer

__all__ = ["copy_stream_data", "echo_stream"]


async def copy_stream_data(
    *,
    source: WebTransportReceiveStream,
    destination: WebTransportSendStream,
    chunk_size: int = 8192,
) -> int:
    """Copy ``source`` to ``destination`` until it ends, then finish ``destination``.

    Backpressure of the destination slows down the source. If either side
    fails, the other is aborted, and the error is raised.

    Args:
        source: Read to its end.
        destination: Finished when the source has ended.
        chunk_size: How many bytes to move at once at most.

    Returns:
        The number of bytes copied.

    Raises:
        ConfigurationError: An argument is invalid; both streams are unchanged.
        Otherwise what ``read`` and ``write`` raise.

    Cancellation: safe; both streams are aborted.
    """
    check_instance("source", source, WebTransportReceiveStream)
    check_instance("destination", destination, WebTransportSendStream)
    check_integer("chunk_size", chunk_size, 1, sys.maxsize)
    total = 0
    try:
        while data := await source.read(chunk_size):
            await destination.write(data)
            total += len(data)
        await destination.close()
    except BaseException:
        source.stop_sending(0)
        destination.reset(0)
        raise
    return total


async def echo_stream(stream: WebTransportStream) -> None:
    """Send everything that arrives on ``stream`` back, then finish it.

    Raises: what ``read`` and ``write`` raise; both halves are ended then.
    """
    check_instance("stream", stream, WebTransportStream)
    await copy_stream_data(source=stream, destination=stream, chunk_size=65536)
