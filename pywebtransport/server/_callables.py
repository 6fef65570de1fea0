"""Checks the functions that an application registers; errors say what to write instead."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable
from typing import Any, TypeVar

from .._plain import shorten
from ..exceptions import ConfigurationError
from ..utils._async_functions import why_not_awaitable
from ..utils._failures import name_of

__all__ = [
    "check_auth_handler",
    "check_handler",
    "check_hook",
    "check_middleware",
    "result_of",
]

_T = TypeVar("_T")


def check_handler(handler: Any) -> None:
    """Check a handler of sessions.

    Raises:
        ConfigurationError: It cannot be called as ``await handler(session)``.
    """
    _check("handler", handler, "async def handler(session)", (None,), {})


def check_middleware(middleware: Any) -> None:
    """Check a middleware.

    Raises:
        ConfigurationError: It cannot be called as ``await middleware(session=session)``.
    """
    _check("middleware", middleware, "async def middleware(session)", (), {"session": None})


def check_auth_handler(handler: Any) -> None:
    """Check the handler of ``create_auth_middleware``.

    Raises:
        ConfigurationError: It cannot be called as ``await auth_handler(headers=headers)``.
    """
    _check("auth_handler", handler, "async def auth_handler(headers)", (), {"headers": None})


def check_hook(hook: Any) -> None:
    """Check a start-up or shutdown handler, which may be plain or async.

    Raises:
        ConfigurationError: It cannot be called without arguments.
    """
    _check("hook", hook, "async def hook()", (), {}, plain=True)


def result_of(what: str, function: Any, result: Awaitable[_T]) -> Awaitable[_T]:
    """Check that the result of a function can be awaited, which is only known after the call.

    Raises:
        ConfigurationError: It cannot be awaited.
    """
    given: object = result
    if not inspect.isawaitable(given):
        raise ConfigurationError(
            f"{what} {name_of(function)} returned {type(given).__name__}, which cannot be awaited; "
            "define it with 'async def'",
            config_key=what,
            config_value=function,
        )
    return result


def _check(
    what: str,
    given: Any,
    example: str,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    *,
    plain: bool = False,
) -> None:
    why = _why_not(given, args, kwargs, plain=plain)
    if why:
        named = f" {name_of(given)}" if callable(given) else f" = {shorten(given)}"
        raise ConfigurationError(
            f"{what}{named}: {why}; write {example!r}",
            config_key=what,
            config_value=given,
        )


def _why_not(given: Any, args: tuple[Any, ...], kwargs: dict[str, Any], *, plain: bool) -> str:
    """What is wrong with it; empty if nothing is."""
    if asyncio.iscoroutine(given):
        given.close()  # nobody will await it
        return "it is the result of calling an async function; give the function itself, without ()"
    if isinstance(given, str):
        return "it is a string, not a function; a path goes into @app.route(path)"
    if not callable(given):
        return "it cannot be called"
    if isinstance(given, type) and not plain:
        return "it is a class; give an instance of it whose __call__ is async, or a function"
    try:
        # Of the decorated function itself, not of what it wraps: that is what is called.
        signature = inspect.signature(given, follow_wrapped=False)
    except (TypeError, ValueError):
        signature = None  # of a built-in function
    if signature is not None:
        try:
            signature.bind(*args, **kwargs)
        except TypeError as error:
            how = ", ".join([*("session" for _ in args), *(f"{name}={name}" for name in kwargs)])
            return f"its parameters are {signature}, but it is called with ({how}): {error}"
    if plain:
        return ""
    return why_not_awaitable(given)
