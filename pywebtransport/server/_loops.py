"""The event loop of a process that only serves: uvloop's if it is installed."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Callable

from ..exceptions import ConfigurationError
from ..utils._extras import require

__all__ = ["LoopFactory", "choose_loop"]

LoopFactory = Callable[[], asyncio.AbstractEventLoop]


def choose_loop(wanted: LoopFactory | None, logger: logging.Logger) -> LoopFactory | None:
    """Return what creates the event loop, and log the choice.

    Args:
        wanted: What the application passed; it is used if it is not None.
        logger: Gets one line.

    Returns:
        None: asyncio creates it, by the event loop policy if there is one.
    """
    if wanted is not None:
        return wanted
    if _has_policy():
        logger.info("event loop: chosen by the event loop policy")
        return None
    try:
        factory: LoopFactory = require("uvloop", extra="uvloop").new_event_loop
    except ConfigurationError as error:
        absent = isinstance(error.__cause__, ModuleNotFoundError)
        logger.log(logging.INFO if absent else logging.WARNING, "event loop: asyncio; %s", error)
        return None
    logger.info("event loop: uvloop; loop_factory=asyncio.new_event_loop would choose asyncio")
    return factory


def _has_policy() -> bool:
    """The application set a policy, for instance with ``uvloop.install()``."""
    if sys.version_info >= (3, 14):  # policies are deprecated, and so is to ask for one
        return False
    return type(asyncio.get_event_loop_policy()) is not asyncio.DefaultEventLoopPolicy
