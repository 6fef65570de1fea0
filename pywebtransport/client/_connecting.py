"""One ``connect`` of a client: its awaitable, its progress, and its overrides."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .._loop import Failures
from ..exceptions import TimeoutError
from ..session import WebTransportSession
from ..utils._attempts import combine_errors
from ..utils._awaitable import AwaitableContext
from ..utils._text import printable_path
from ._racing import join_errors

if TYPE_CHECKING:
    from ..connection import WebTransportConnection

__all__ = ["DIRECT", "ConnectOverrides", "Connecting", "Progress"]


class Connecting(AwaitableContext[WebTransportSession]):
    """``session = await client.connect(...)`` or ``async with client.connect(...) as session``."""

    __slots__ = ()


class Progress:
    """Progress of a connection attempt, for the error message of a timeout.

    Attributes:
        stage: What the attempt is doing.
        hint: The likely cause if it gets no further.
        failures: Addresses that failed in this stage while others are still tried.
        lanes: The progress by each transport, while several are tried.
        error: Why this transport failed; None: it has not.
        aside: What another transport got to, for a note.
    """

    __slots__ = ("aside", "error", "failures", "hint", "lanes", "stage")

    failures: Failures
    lanes: dict[str, Progress]

    def __init__(self) -> None:
        self.error: BaseException | None = None
        self.aside = ""
        self.advance("resolve", "the host name was not resolved")

    def advance(self, stage: str, hint: str) -> None:
        """Enter the next stage."""
        self.stage = stage
        self.hint = hint
        self.failures = []
        self.lanes = {}

    def add_lane(self, name: str, stage: str, hint: str) -> Progress:
        """Add a transport that is tried; returns its own progress."""
        lane = self.lanes[name] = Progress()
        lane.advance(stage, hint)
        return lane

    def explain(self, delay: str | None) -> None:
        """Why the request was not sent, if it was not."""
        if delay is not None:
            self.hint = f"the session was not requested, since {delay}"

    def timed_out(self, url: str, timeout: float) -> BaseException:
        """The error of an attempt that ends now; that of a failed address may say more."""
        if self.lanes:
            return join_errors(
                [
                    (name, lane.error or lane.timed_out(url, timeout))
                    for name, lane in self.lanes.items()
                ]
            )
        late = TimeoutError(
            f"{printable_path(url)} did not answer within {timeout} s: {self.hint}",
            timeout_duration=timeout,
            operation=self.stage,
        )
        if self.aside:
            late.add_note(self.aside)
        return combine_errors([*self.failures, ("the other addresses", late)])


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectOverrides:
    """Settings of one session that override the configuration of its client."""

    application_protocols: Sequence[str] | None = None
    """Offered instead of those of the configuration."""
    own_endpoint: bool = False
    """Give the connection a socket of its own, which closes with it."""
    dial: Callable[[WebTransportConnection, str, int, Progress], Awaitable[None]] | None = None
    """Connects to (host, port) by some other way than the client's own sockets."""


DIRECT = ConnectOverrides()
