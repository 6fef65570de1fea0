"""The subscriptions of a broker to one pattern."""

from __future__ import annotations

import asyncio
import logging

from ..utils._budget import ByteBudget
from ..utils._logs import BoundedLog
from ..utils._rounds import Round, Rounds
from ..utils._text import printable
from ._delivery import Delivery
from ._room import Frame
from ._topics import matcher
from ._wire import FrameCodec

__all__ = ["Group"]


class Group:
    """All subscriptions of this process to one pattern: one subscription of the backend."""

    __slots__ = (
        "_frames",
        "_log",
        "_match",
        "_memory",
        "_prefix",
        "_rounds",
        "backend_id",
        "channels",
        "lock",
        "members",
        "pattern",
    )

    def __init__(
        self,
        prefix: str,
        pattern: str,
        frames: FrameCodec,
        memory: ByteBudget,
        log: BoundedLog,
    ) -> None:
        self.pattern = pattern
        self._log = log
        # The ``*`` of a backend spans levels, so it may deliver more than requested.
        self.channels = prefix + pattern.replace("**", "*")
        self.members: set[Delivery] = set()
        self.lock = asyncio.Lock()
        self.backend_id: str | None = None
        self._prefix = prefix
        self._match = matcher(pattern)
        self._frames = frames
        self._memory = memory
        self._rounds = Rounds()

    def deliver(self, channel: str, payload: bytes) -> Round | None:
        """Deliver a message of the backend to all members, over several turns if many."""
        if not self._match(channel[len(self._prefix) :]):
            return None
        if not self._frames.is_message(payload):
            self._log.tell(
                "malformed",
                logging.WARNING,
                "ignored data on channel '%s' that is not a message",
                printable(channel),
            )
            return None
        frame = Frame(payload, self._memory)
        # A copy: overflow may end a subscription, which changes the set.
        return self._rounds.begin(tuple(self.members), lambda member: member.push(frame))
