"""The timers that one module of the package sets on the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self


class Timers:
    """Watches ``call_at`` and ``call_later`` of the running loop for the length of a block.

    Args:
        module: Only timers whose function is defined in this module count.
    """

    def __init__(self, module: str) -> None:
        self._module = module
        self._pending: dict[asyncio.TimerHandle, Callable[[], object]] = {}
        self.count = 0
        """How many were set."""

    def __enter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        for name in ("call_at", "call_later"):
            setattr(self._loop, name, self._watched(getattr(self._loop, name)))
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        for name in ("call_at", "call_later"):
            delattr(self._loop, name)

    @property
    def pending(self) -> int:
        """How many are set, not cancelled and not due yet."""
        return sum(not handle.cancelled() for handle in self._pending)

    def fire(self) -> None:
        """Run those that are pending now, as if they were due."""
        for handle, function in list(self._pending.items()):
            if not handle.cancelled():
                handle.cancel()
                function()

    def _watched(self, original: Callable[..., asyncio.TimerHandle]) -> Callable[..., Any]:
        def schedule(
            when: float, callback: Callable[..., object], *args: Any, **options: Any
        ) -> asyncio.TimerHandle:
            if callback.__module__ != self._module:
                return original(when, callback, *args, **options)

            def run() -> None:
                del self._pending[handle]
                callback(*args)

            handle = original(when, run, **options)
            self._pending[handle] = run
            self.count += 1
            return handle

        return schedule
