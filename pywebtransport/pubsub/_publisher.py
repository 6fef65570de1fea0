"""The client's side of a stream of publications."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any, Final, TypeAlias

from .._core.opening import spare_streams
from ..exceptions import SerializationError, SessionClosedError, WebTransportError
from ..rpc import RpcCancelledError, RpcTimeoutError, StreamCode
from ..rpc._exceptions import error_from_code
from ..rpc._messages import REGISTRY as CALL_REGISTRY
from ..rpc._messages import Failure, Request
from ..serializer._protocol import Serializer
from ..session import WebTransportSession
from ..stream import WebTransportStream
from ..utils._text import printable
from ._exceptions import pubsub_error
from ._frames import LARGE, MessageReader
from ._messages import PUBLICATIONS, PUBLISH, PUBLISHING_REGISTRY, Published, PubSubMessage, Refused
from ._wire import MAX_ANSWER, MAX_PUBLICATION, FrameCodec

__all__ = ["Publisher"]

_SPARE = 32
"""Streams that must be left to calls and to the application: this one stays open."""
_IDLE = 5.0
"""Seconds without a message after which the stream is finished."""

_MOST_UNSENT = 262_144
"""Bytes that may wait for the broker to read; further messages are published by calls."""
_MOST_WAITING = 16_384
"""Messages that may wait for an answer; so may further ones, as calls."""
_EXPIRY_STEP = 0.01
"""Seconds between two looks at the timeouts of all messages that wait."""
_STEP = 8
"""Answers between two readings of the clock."""

# What a message waits for: None if it was published, a refusal, or the error to raise.
_Answer: TypeAlias = "Refused | Callable[[], WebTransportError] | object | None"
_NOT_KNOWN: Final = object()  # the broker offers no such streams
_NOT_SENT: Final = object()
_TOO_LATE: Final = object()

logger = logging.getLogger("pywebtransport.pubsub")


class Publisher:
    """Publishes the small messages of one session on one stream.

    The stream is opened with the first message and finished when it was idle for some seconds.

    Args:
        session: The session.
        serializer: That of the broker.
        max_size: Largest message in bytes.

    Attributes:
        is_useless: The broker does not offer such streams, or handles them too slowly.
    """

    def __init__(self, session: WebTransportSession, serializer: Serializer, max_size: int) -> None:
        self._session = session
        self._serializer = serializer
        self._frames = FrameCodec(serializer, min(max_size, MAX_PUBLICATION), PUBLISHING_REGISTRY)
        self._line: _Line | None = None
        self._opening = False
        self._closed = False
        self.is_useless = False

    async def publish(self, topic: str, data: Any, timeout: float | None) -> bool:
        """Publish a message.

        Args:
            topic: A valid topic.
            data: Its data.
            timeout: Seconds; None: no limit.

        Returns:
            False if it has to be published by a call; it was not published then.

        Raises: as ``PubSubManager.publish``.

        Cancellation: the message may have been sent, or not.
        """
        if self.is_useless or self._closed:
            return False
        try:
            frame = self._frames.encode(PubSubMessage(topic, data))
        except SerializationError:
            return False  # it is large, or the call raises this error
        line = self._line
        if line is not None and line.is_stuck:
            self.is_useless = True
            return False
        if line is None or line.is_over:
            line = await self._open()
            if line is None:
                return False
        answer = await line.publish(frame, timeout)
        if answer is None:
            return True
        if answer is _NOT_KNOWN or answer is _NOT_SENT:
            self.is_useless = answer is _NOT_KNOWN
            return False
        if isinstance(answer, Refused):
            error = error_from_code(
                answer.code, str(answer.message), data=answer.data, method=PUBLISH
            )
            raise pubsub_error(error, topic)
        if answer is _TOO_LATE:
            raise RpcTimeoutError(
                f"no answer within {timeout} seconds; it waited for the peer's answer",
                method=PUBLISH,
                timeout_duration=timeout,
                remote=False,
                details={"waited_for": "the peer's answer"},
            )
        assert callable(answer)
        raise answer()

    def end(self) -> asyncio.Task[None] | None:
        """Finish the stream; callers that wait for an answer fail. Idempotent.

        Returns:
            A task that is about to end.
        """
        self._closed = True
        return None if self._line is None else self._line.end()

    async def _open(self) -> _Line | None:
        """Open the stream; None if that is not possible now."""
        if self._opening or spare_streams(self._session, False) < _SPARE:
            return None
        self._opening = True
        try:
            stream = await self._session.create_bidirectional_stream()
        except WebTransportError as error:
            logger.debug("no stream for publications: %s", printable(error))
            return None
        finally:
            self._opening = False
        if self._closed:
            stream.reset(StreamCode.CANCELLED)
            stream.stop_sending(StreamCode.CANCELLED)
            return None
        self._line = _Line(stream, self._serializer)
        return self._line


class _Line:
    """One stream, and the messages on it that wait for an answer.

    Attributes:
        is_over: It takes no more messages.
        is_stuck: It was given up because the broker did not answer.
    """

    def __init__(self, stream: WebTransportStream, serializer: Serializer) -> None:
        self._stream = stream
        self._answers = FrameCodec(serializer, MAX_ANSWER, PUBLISHING_REGISTRY)
        # Sent together with the first message.
        opening = FrameCodec(serializer, MAX_ANSWER, CALL_REGISTRY)
        self._unsent = opening.encode(Request(PUBLICATIONS))
        # Each with its deadline.
        self._waiting: deque[tuple[asyncio.Future[_Answer], float]] = deque()
        self._sent = self._answered = 0
        self._loop = asyncio.get_running_loop()
        # One timer for all, which stays although nearly all are answered in time.
        self._expiry: asyncio.TimerHandle | None = None
        self._expires_at = math.inf
        self.is_over = self.is_stuck = False
        self._reader = self._loop.create_task(self._read(), name="pubsub answers")
        self._sent_before = 0
        self._timer = self._loop.call_later(_IDLE, self._look_idle)

    async def publish(self, frame: bytes, timeout: float | None) -> _Answer:
        """Send an encoded message, and wait for the answer."""
        if self._stream.write_buffer_size > _MOST_UNSENT or len(self._waiting) >= _MOST_WAITING:
            return _NOT_SENT
        try:
            # Queued at once, so that the answers are in the order of these calls.
            await self._stream.write(self._unsent + frame, wait_flush=False)
        except WebTransportError as error:
            logger.debug("the stream of publications ended: %s", printable(error))
            self.is_over = True
            return _NOT_SENT
        self._unsent = b""
        self._sent += 1
        future: asyncio.Future[_Answer] = self._loop.create_future()
        when = math.inf if timeout is None else self._loop.time() + timeout
        self._waiting.append((future, when))
        if when < self._expires_at:
            self._expire_at(when)
        return await future

    def end(self) -> asyncio.Task[None]:
        """Finish the stream without waiting for answers; return the task that reads them."""
        self._end(_manager_closed)
        self._reader.cancel()
        return self._reader

    async def _read(self) -> None:
        """Pass the answers on until the stream ends."""
        reader = MessageReader(self._stream, MAX_ANSWER)
        turns = self._stream.session.turns
        count = 0
        lost: Callable[[], WebTransportError] = _given_up
        try:
            while messages := await reader.read():
                for type_id, payload in messages:
                    count += 1
                    if count % _STEP == 0 or len(payload) > LARGE:
                        await turns.pause(small=True)
                    self._take(self._answers.decode(type_id, payload))
        except SessionClosedError as error:
            lost = partial(_session_over, error)
        except WebTransportError as error:
            lost = partial(_no_answer, error.message)
        finally:
            self._end(lost)

    def _take(self, answer: object) -> None:
        if isinstance(answer, Published):
            count = answer.total - self._answered
            if not 0 <= count <= len(self._waiting):
                raise SerializationError("the broker counts messages that were not sent")
            self._answered = answer.total
            for _ in range(count):
                _settle(self._waiting.popleft()[0], None)
        elif isinstance(answer, Refused):
            index = answer.number - self._answered - 1
            if not 0 <= index < len(self._waiting):
                raise SerializationError("the broker refuses a message that was not sent")
            _settle(self._waiting[index][0], answer)
        elif isinstance(answer, Failure) and not self._answered:
            # It has read none of the messages.
            self.is_over = True
            while self._waiting:
                _settle(self._waiting.popleft()[0], _NOT_KNOWN)
        else:
            raise SerializationError(f"a {type(answer).__name__} is no answer to a publication")

    def _expire_at(self, when: float) -> None:
        if self._expiry is not None:
            self._expiry.cancel()
        self._expires_at = when
        self._expiry = self._loop.call_at(when, self._expire)

    def _expire(self) -> None:
        """Let the callers continue whose time is up."""
        # A loop may call a little early, by the resolution of its clock.
        now = max(self._loop.time(), self._expires_at)
        self._expiry, self._expires_at = None, math.inf
        following = math.inf
        for future, when in self._waiting:
            if when <= now:
                _settle(future, _TOO_LATE)
            else:
                following = min(following, when)
        if following < math.inf:
            self._expire_at(max(following, now + _EXPIRY_STEP))

    def _look_idle(self) -> None:
        # Nobody waits for the answers that a broker owes to callers whose time was up. One that
        # has stopped reading has had time for its last answers.
        nobody_waits = all(future.done() for future, _ in self._waiting)
        if self._sent == self._sent_before and (nobody_waits or self.is_over):
            self.is_stuck = bool(self._waiting)
            self._end(_given_up)
            self._reader.cancel()
        else:
            self._sent_before = self._sent
            self._timer = self._loop.call_later(_IDLE, self._look_idle)

    def _end(self, lost: Callable[[], WebTransportError]) -> None:
        self.is_over = True
        self._timer.cancel()
        if self._expiry is not None:
            self._expiry.cancel()
        while self._waiting:
            _settle(self._waiting.popleft()[0], lost)
        with contextlib.suppress(WebTransportError):
            self._stream.finish()
        self._stream.stop_sending(StreamCode.DONE)


def _settle(future: asyncio.Future[_Answer], answer: _Answer) -> None:
    if not future.done():
        future.set_result(answer)


def _manager_closed() -> WebTransportError:
    return RpcCancelledError("the manager was closed", method=PUBLISH, remote=False)


def _given_up() -> WebTransportError:
    return RpcCancelledError("the peer gave the publication up", method=PUBLISH, remote=True)


def _no_answer(message: str) -> WebTransportError:
    return RpcCancelledError(f"the peer did not answer: {message}", method=PUBLISH, remote=True)


def _session_over(error: SessionClosedError) -> WebTransportError:
    return SessionClosedError(
        code=error.code, reason=error.reason, remote=error.remote, session_id=error.session_id
    )
