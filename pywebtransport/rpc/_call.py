"""Remote calls, as passed to interceptors."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, TypeAlias

from ..exceptions import invalid_config
from ..utils._checks import check_signature

if TYPE_CHECKING:
    from ..session import WebTransportSession

__all__ = [
    "Interceptor",
    "Proceed",
    "RpcCall",
    "RpcDirection",
    "check_interceptor",
    "run_intercepted",
]


class RpcDirection(StrEnum):
    """Which side of a call this is."""

    OUTGOING = "outgoing"
    INCOMING = "incoming"


@dataclass(slots=True)
class RpcCall:
    """One call, at the caller (outgoing) or at the callee (incoming).

    Attributes:
        session: The session that carries it.
        direction: Which side this is.
        method: Name of the method.
        params: Positional arguments; incoming ones as they were received.
        named_params: Keyword arguments; incoming ones as they were received.
        metadata: Names and strings that are sent with the call. An outgoing interceptor may change
            them before it proceeds.
        timeout: Seconds that the call may take from now on; None: no limit.
        is_notification: Whether there is no answer.
        is_stream: Whether the method yields its results. ``proceed`` then returns None, after the
            last item.
        attempt: Which attempt of a :class:`ReconnectingRpc` this is, from 1.
    """

    session: WebTransportSession
    direction: RpcDirection
    method: str
    params: Sequence[Any]
    named_params: dict[str, Any] = field(default_factory=dict)
    metadata: dict[str, str] = field(default_factory=dict)
    timeout: float | None = None
    is_notification: bool = False
    is_stream: bool = False
    attempt: int = 1


Proceed: TypeAlias = Callable[[], Awaitable[Any]]
"""Continues the call; returns its result or raises its error. Call it at most once."""

Interceptor: TypeAlias = Callable[[RpcCall, Proceed], Awaitable[Any]]
"""``async def interceptor(call, proceed)``; its return value is the result of the call."""


async def run_intercepted(
    interceptors: Sequence[Interceptor], call: RpcCall, innermost: Proceed
) -> Any:
    """Run ``innermost`` inside the interceptors; the first one is outermost."""
    proceed = innermost
    for interceptor in reversed(interceptors):
        proceed = _inside(interceptor, call, proceed)
    return await proceed()


def check_interceptor(interceptor: Any) -> None:
    """Check one interceptor.

    Raises:
        ConfigurationError: It cannot be called as ``interceptor(call, proceed)``.
    """
    check_signature(
        "interceptors", interceptor, "'async def interceptor(call, proceed)'", None, None
    )


def _inside(interceptor: Interceptor, call: RpcCall, proceed: Proceed) -> Proceed:
    async def run() -> Any:
        result: Any = interceptor(call, proceed)
        if not inspect.isawaitable(result):
            raise invalid_config(
                key="interceptors",
                value=interceptor,
                reason=f"expected 'async def', but it returned a {type(result).__name__}",
            )
        return await result

    return run
