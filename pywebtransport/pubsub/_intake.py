"""The broker's side of a stream of publications."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from typing import TypeAlias

from ..exceptions import SerializationError, WebTransportError
from ..rpc import RpcErrorCode
from ..rpc._incoming import failure_for
from ..rpc._messages import Failure
from ..serializer._protocol import Serializer
from ..session import WebTransportSession
from ..stream import WebTransportStream
from ..utils._logs import shared_log
from ..utils._tasks import is_being_cancelled
from ..utils._text import printable
from ._frames import LARGE, MessageReader
from ._messages import PUBLICATIONS, PUBLISH, PUBLISHING_REGISTRY, Published, Refused
from ._wire import MAX_ANSWER, MAX_PUBLICATION, FrameCodec

__all__ = ["Publish", "refuse_publications", "take_publications"]

Publish: TypeAlias = Callable[[int, bytes], Awaitable[object] | None]
"""Publishes a message (type ID and payload); returns what to wait for until all have it."""

# Messages between two readings of the clock.
_STEP = 8

logger = logging.getLogger("pywebtransport.pubsub")


async def take_publications(
    session: WebTransportSession,
    stream: WebTransportStream,
    serializer: Serializer,
    publish: Publish,
) -> None:
    """Publish the messages of a stream, one after the other, until its end.

    One answer is sent for all messages that have arrived together. So they need few packets, and
    neither a task nor a stream for each. While the client does not read the answers, no more
    messages are read.

    Args:
        session: The session of the stream.
        stream: The stream.
        serializer: That of the broker and its clients.
        publish: Publishes one message.

    Raises:
        WebTransportError: The stream cannot be used any longer.

    Cancellation: the messages that were read may have been published, or not.
    """
    answers = FrameCodec(serializer, MAX_ANSWER, PUBLISHING_REGISTRY)
    reader = MessageReader(stream, MAX_PUBLICATION)
    turns = session.turns
    total = 0
    while messages := await reader.read():
        refused: list[bytes] = []
        for told, (type_id, payload) in enumerate(messages):
            if total % _STEP == _STEP - 1 or len(payload) > LARGE:
                await turns.pause(small=True)
            try:
                waiting = publish(type_id, payload)
                if waiting is not None:
                    if told:  # the messages before it need not wait
                        done = b"".join(refused) + answers.encode(Published(total))
                        # It neither waits nor fails here, because this message is on its way.
                        with contextlib.suppress(WebTransportError):
                            await stream.write(done, wait_flush=False)
                            refused.clear()
                    await waiting
            except (KeyboardInterrupt, SystemExit, GeneratorExit):
                raise
            except BaseException as error:
                # What the application waited for may have been cancelled: then it failed.
                if isinstance(error, asyncio.CancelledError) and is_being_cancelled():
                    raise
                failure = failure_for(error, PUBLISH, session)
                refused.append(_refusal(answers, total + 1, failure))
            total += 1
        await stream.write(b"".join(refused) + answers.encode(Published(total)))


async def refuse_publications(stream: WebTransportStream, serializer: Serializer) -> None:
    """Answer as a broker that does not know streams of publications; interceptors see nothing."""
    answers = FrameCodec(serializer, MAX_ANSWER, PUBLISHING_REGISTRY)
    text = f"there is no method '{PUBLICATIONS}'"
    await stream.write(answers.encode(Failure(RpcErrorCode.METHOD_NOT_FOUND, text)))


def _refusal(answers: FrameCodec, number: int, failure: Failure) -> bytes:
    try:
        return answers.encode(Refused(number, failure.code, failure.message, failure.data))
    except SerializationError as error:
        # The application's function raised an error with such data.
        shared_log(logger).tell(
            "refusal",
            logging.ERROR,
            "the reason of a refusal cannot be sent: %s",
            printable(error.message, 500),
        )
        return answers.encode(Refused(number, RpcErrorCode.INTERNAL_ERROR, "internal error"))
