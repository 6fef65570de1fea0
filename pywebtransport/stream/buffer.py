"""Compatibility name: a bounded buffer of bytes between coroutines."""

from __future__ import annotations

import asyncio
import sys

from .._states import Data
from ..exceptions import StreamError, TimeoutError
from ..utils.checks import check_count, check_data, check_integer, check_timeout
from ..utils.gates import ONLY, Gates, TooLate
from ..utils.waiters import Waiters

__all__ = ["StreamBuffer"]


class StreamBuffer:
    """Bytes that one coroutine feeds and another one reads, at most ``max_size`` at a time.

    For applications that pass bytes on between their own tasks; streams have buffers of
    their own. Feeding waits while the buffer is full.
    """

    __slots__ = ("_data", "_eof", "_feeding", "_max_size", "_readers", "_taken")

    def __init__(self, *, max_size: int = 65536) -> None:
        """An empty buffer.

        Args:
            max_size: Most bytes that it holds.

        Raises:
            ConfigurationError: ``max_size`` is below 1.
        """
        check_count("max_size", max_size)
        self._max_size = max_size
        self._data = bytearray()
        self._eof = False
        self._readers = Gates()
        self._taken = Waiters()
        self._feeding = asyncio.Lock()  # what one caller feeds stays together

    @property
    def at_eof(self) -> bool:
        """The end was fed and every byte was read."""
        return self._eof and not self._data

    @property
    def size(self) -> int:
        """Bytes that wait to be read."""
        return len(self._data)

    async def initialize(self) -> None:
        """Nothing to do: a buffer is ready when it exists. Kept for the contract."""

    async def feed_data(self, data: Data, *, eof: bool = False) -> None:
        """Append bytes; wait for a reader while there is no room for them.

        Args:
            data: May be longer than ``max_size``: it then goes in piece by piece.
            eof: Nothing comes after these bytes.

        Raises:
            StreamError: The end was fed already.

        Cancellation: a part of ``data`` may be in the buffer; ``eof`` has no effect then.
        """
        view = memoryview(check_data("data", data))
        async with self._feeding:
            if self._eof:
                raise StreamError("the buffer has its end; nothing can be fed after it")
            while len(view):
                room = self._max_size - len(self._data)
                if not room:
                    await self._taken.wait()
                    continue
                self._data += view[:room]
                view = view[room:]
                self._readers.open(ONLY)
            if eof:
                self._eof = True
                self._readers.open(ONLY)

    async def read(self, size: int = -1, *, timeout: float | None = None) -> tuple[bytes, bool]:
        """Take bytes out as soon as any are there; readers that wait are served as they came.

        Args:
            size: Most bytes to take; -1: all that are there.
            timeout: Seconds to wait at most; None: no limit.

        Returns:
            The bytes, and whether the end is reached with them. ``(b"", True)`` at the end.

        Raises:
            TimeoutError: Nothing was fed in time.

        Cancellation: safe, nothing is taken.
        """
        check_integer("size", size, -1, sys.maxsize)
        timeout = check_timeout("timeout", timeout)
        if size and (self._readers or not self._is_readable()):
            try:
                await self._readers.wait(ONLY, self, self._is_readable, timeout=timeout)
            except TooLate:
                raise TimeoutError(
                    f"nothing was fed within {timeout} s",
                    timeout_duration=timeout,
                    operation="read",
                ) from None
        count = len(self._data) if size < 0 else size
        taken = bytes(self._data[:count])
        del self._data[:count]
        if taken:
            self._taken.wake()
        return taken, self.at_eof

    def _is_readable(self) -> bool | None:
        return bool(self._data) or self._eof or None
