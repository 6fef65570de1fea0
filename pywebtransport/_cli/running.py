"""Runs the coroutine of a verb."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Coroutine
from typing import Any

from ..utils._failures import error_leaves
from .status import Status

__all__ = ["run_coroutine"]


def run_coroutine(main: Callable[[], Coroutine[Any, Any, int]]) -> int:
    """Run a coroutine to its end; Ctrl-C and SIGTERM cancel it, so that it closes its session.

    Returns:
        Its exit status.

    Raises:
        KeyboardInterrupt: Ctrl-C was pressed.
        BaseException: What it raised; the first one of a group.
    """
    terminated = False

    async def run() -> int:
        task = asyncio.current_task()
        assert task is not None

        def terminate() -> None:
            nonlocal terminated
            terminated = True
            task.cancel()

        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, terminate)
        try:
            return await main()
        finally:
            loop.remove_signal_handler(signal.SIGTERM)

    try:
        return asyncio.run(run())
    except asyncio.CancelledError:
        if not terminated:
            raise
        return Status.TERMINATED
    except BaseExceptionGroup as group:  # of a task group
        raise next(iter(error_leaves(group))) from None
