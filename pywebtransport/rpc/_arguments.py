"""The arguments of outgoing calls, and what they wait for."""

from __future__ import annotations

import asyncio
from collections.abc import Container, Iterable, Mapping
from typing import Any

from .._core.opening import reached_limit
from ..exceptions import SerializationError, TimeoutError, invalid_config
from ..serializer import JSONSerializer, MsgPackSerializer
from ..serializer._messages import MessageCodec
from ..session import WebTransportSession
from ..stream import StructuredStream
from ..utils._text import printable
from ._call import Interceptor, RpcCall, check_interceptor
from ._exceptions import RpcError
from ._messages import MAX_METADATA, REGISTRY, Request, check_method

__all__ = [
    "FOREVER",
    "Progress",
    "check_limit",
    "check_serializer",
    "checked_interceptors",
    "checked_metadata",
    "checked_name",
    "named_parameters",
    "received",
    "request_of",
]

FOREVER = 1e9
"""Seconds of a wait without limit: event loops do not accept infinity."""

# They write and read every dataclass.
_KNOWN = (JSONSerializer, MsgPackSerializer)


class Progress:
    """What a call waits for, for the message of a timeout, and whether it was sent."""

    __slots__ = ("sent", "stream_of", "waits_for")

    def __init__(self) -> None:
        self.sent = False  # whole or in part
        self.waits_for = "an interceptor"
        self.stream_of: WebTransportSession | None = None  # the limit is looked up only then

    def __str__(self) -> str:
        if self.stream_of is None or self.stream_of.is_closed:
            return self.waits_for
        limit = reached_limit(self.stream_of, False)
        return f"{self.waits_for} ({limit.owner}: {limit.text})"


def checked_interceptors(given: Any) -> tuple[Interceptor, ...]:
    if not isinstance(given, Iterable) or isinstance(given, str | bytes):
        raise invalid_config(key="interceptors", value=given, reason="expected a list of functions")
    interceptors = tuple(given)
    for interceptor in interceptors:
        check_interceptor(interceptor)
    return interceptors


def _entries(key: str, given: Any) -> dict[str, Any]:
    """Check a mapping of names to values."""
    if given is None:
        return {}
    if not isinstance(given, Mapping) or not all(isinstance(name, str) for name in given):
        raise invalid_config(key=key, value=given, reason="expected a mapping of names to values")
    return dict(given)


def named_parameters(params: Any, keywords: dict[str, Any]) -> dict[str, Any]:
    """Merge parameters by name from a mapping and from keyword arguments."""
    if params is None:
        return keywords
    entries = _entries("named_params", params)
    for name in keywords:
        if name in entries:
            raise invalid_config(
                key="named_params",
                value=params,
                reason=f"parameter {printable(name)!r} is also given as a keyword argument",
            )
    return entries | keywords


def checked_name(func: Any, name: Any, taken: Container[str]) -> str:
    """Return the name under which a function is registered.

    Raises:
        ConfigurationError: The name is taken or unusable, or ``func`` is not a function.
    """
    if not callable(func):
        raise invalid_config(key="func", value=func, reason="expected a function")
    chosen = getattr(func, "__name__", None) if name is None else name
    try:
        check_method(chosen)
    except RpcError as error:
        raise invalid_config(key="name", value=chosen, reason=error.message) from None
    assert isinstance(chosen, str)
    if chosen in taken:
        raise invalid_config(
            key="name", value=chosen, reason="expected a new name; it is registered already"
        )
    return chosen


def checked_metadata(given: Any) -> dict[str, str]:
    entries = _entries("metadata", given)
    if len(entries) > MAX_METADATA or not all(isinstance(text, str) for text in entries.values()):
        raise invalid_config(
            key="metadata",
            value=given,
            reason=f"expected a mapping of at most {MAX_METADATA} names to strings",
        )
    return entries


def request_of(kind: type[Request], call: RpcCall, deadline: float | None) -> Request:
    """The message to send, with the time that is left."""
    left = None
    if deadline is not None:
        left = max(0.001, deadline - asyncio.get_running_loop().time())
    return kind(call.method, list(call.params), call.named_params, call.metadata, left)


async def received(structured: StructuredStream[Any]) -> Any:
    """Read the next message, limited by the timeout of the call instead of ``read_timeout``."""
    while True:
        try:
            return await structured.receive_obj()
        except TimeoutError:
            continue


def check_limit(key: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < FOREVER:
        raise invalid_config(key=key, value=value, reason="expected seconds > 0")


def check_serializer(serializer: Any) -> None:
    """Check that a serializer can write and read the messages of calls.

    Raises:
        ConfigurationError: It cannot, as one for Protocol Buffers, whose messages have classes of
            their own.
    """
    codec = MessageCodec(serializer, REGISTRY)
    if type(serializer) in _KNOWN:
        return
    probe = Request("probe", [1, "a"], {"b": None}, {"c": "d"}, 1.0)
    try:
        type_id, payload = codec.encode(probe)
        fits = codec.decode(type_id, payload) == probe
        reason = "it reads something else than it wrote"
    except SerializationError as error:
        fits, reason = False, error.message
    if not fits:
        raise invalid_config(
            key="serializer",
            value=serializer,
            reason="expected a serializer that writes and reads dataclasses, such as"
            f" JSONSerializer or MsgPackSerializer; of {type(probe).__name__}: {reason}",
        )
