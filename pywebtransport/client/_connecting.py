"""One ``connect`` of a client: its awaitable, its progress, and its overrides."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Generator, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any

from .._loop import Failures
from ..exceptions import TimeoutError
from ..utils._attempts import combine_errors
from ..utils._text import printable

if TYPE_CHECKING:
    from ..connection import WebTransportConnection
    from ..session import WebTransportSession

__all__ = ["DIRECT", "ConnectOverrides", "Connecting", "Progress"]


class Connecting(Coroutine[Any, Any, "WebTransportSession"]):
    """``session = await client.connect(...)`` or ``async with client.connect(...) as session``."""

    __slots__ = ("_coroutine", "_session")

    def __init__(self, coroutine: Coroutine[Any, Any, WebTransportSession]) -> None:
        self._coroutine = coroutine
        self._session: WebTransportSession | None = None

    def __await__(self) -> Generator[Any, Any, WebTransportSession]:
        return self._coroutine.__await__()

    def send(self, value: Any, /) -> Any:
        """Coroutine protocol: resume."""
        return self._coroutine.send(value)

    def throw(self, *args: Any) -> Any:
        """Coroutine protocol: raise inside."""
        return self._coroutine.throw(*args)

    def close(self) -> None:
        """Coroutine protocol: give up without running."""
        self._coroutine.close()

    async def __aenter__(self) -> WebTransportSession:
        self._session = await self._coroutine
        return self._session

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        if self._session is not None:
            await self._session.__aexit__(exc_type, exc, tb)


class Progress:
    """Progress of a connection attempt, for the error message of a timeout.

    Attributes:
        stage: What the attempt is doing.
        hint: The likely cause if it gets no further.
        failures: Addresses that failed in this stage while others are still tried.
    """

    __slots__ = ("failures", "hint", "stage")

    failures: Failures

    def __init__(self) -> None:
        self.advance("resolve", "the host name was not resolved")

    def advance(self, stage: str, hint: str) -> None:
        """Enter the next stage."""
        self.stage = stage
        self.hint = hint
        self.failures = []

    def explain(self, delay: str | None) -> None:
        """Why the request was not sent, if it was not."""
        if delay is not None:
            self.hint = f"the session was not requested, since {delay}"

    def timed_out(self, url: str, timeout: float) -> BaseException:
        """The error of an attempt that ends now; that of a failed address may say more."""
        late = TimeoutError(
            f"{printable(url)} did not answer within {timeout} s: {self.hint}",
            timeout_duration=timeout,
            operation=self.stage,
        )
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
