"""Tells functions that return awaitables from plain ones, without calling them."""

from __future__ import annotations

import functools
import inspect
import re
import types
from typing import Any

__all__ = ["unwrapped", "why_not_awaitable"]

# The annotation says that the function returns an awaitable.
_AWAITABLE = re.compile(r"\b(Awaitable|Awaited|Coroutine|Future|Task)\b")


def why_not_awaitable(given: Any) -> str:
    """Why the result of calling a function cannot be awaited; empty if it may be."""
    inner = unwrapped(given)
    if inspect.isasyncgenfunction(inner) or inspect.isgeneratorfunction(inner):
        return "it has a 'yield', so calling it runs nothing"
    if inspect.iscoroutinefunction(inner) or not isinstance(inner, types.FunctionType):
        return ""
    # The result of a lambda is only known when it is called.
    if inner.__name__ == "<lambda>" or _AWAITABLE.search(str(inner.__annotations__.get("return"))):
        return ""
    return (
        "it is not an async function; if it returns an awaitable, annotate it "
        "with '-> Awaitable[...]'"
    )


def unwrapped(given: Any) -> Any:
    """Return the function behind methods, partial objects, decorators and callable objects."""
    for _ in range(100):  # a decorator may lead back to itself
        if inspect.iscoroutinefunction(given):
            return given
        if isinstance(given, functools.partial):
            given = given.func
        elif isinstance(given, types.MethodType):
            given = given.__func__
        elif hasattr(given, "__wrapped__"):
            given = given.__wrapped__
        elif isinstance(given, types.FunctionType | types.BuiltinFunctionType | type):
            return given
        else:
            call = getattr(type(given), "__call__", None)  # noqa: B004
            if not isinstance(call, types.FunctionType):
                return given
            given = call
    return given
