"""A registered function: binds arguments to it, and converts them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ..exceptions import ConfigurationError, SerializationError
from ..serializer._rebuild import check_type, rebuild_in_turns
from ..utils._turns import Turns
from ._exceptions import InvalidParamsError

__all__ = ["Method"]

# Types that need no conversion.
_UNTYPED = (inspect.Parameter.empty, Any, object)


class Method:
    """A function that the peer may call.

    Args:
        name: The name for the peer.
        function: Plain or ``async``.

    Raises:
        ConfigurationError: It is not callable, its signature cannot be read, or an annotation is
            not a type that can be rebuilt from messages.
    """

    __slots__ = ("_signature", "_types", "function", "name")

    def __init__(self, name: str, function: Callable[..., Any]) -> None:
        self.name = name
        self.function = function
        try:
            self._signature = inspect.signature(function, eval_str=True)
        except Exception as error:  # annotations are expressions, and may raise anything
            raise ConfigurationError(
                f"{function!r} cannot be registered as {name!r}: {error}",
                config_key="func",
                config_value=function,
            ) from error
        self._types = {
            parameter.name: (parameter.annotation, parameter.kind)
            for parameter in self._signature.parameters.values()
            if parameter.annotation not in _UNTYPED
        }
        for parameter_name, (annotation, _) in self._types.items():
            check_type(f"func, parameter {parameter_name}", annotation)

    async def __call__(
        self, params: Sequence[Any], named: Mapping[str, Any], turns: Turns | None = None
    ) -> Any:
        """Run the function.

        Args:
            params: Positional arguments.
            named: Keyword arguments.
            turns: Of the peer that sent them.

        Raises:
            InvalidParamsError: The arguments do not match it. Otherwise what the function raises.
        """
        try:
            bound = self._signature.bind(*params, **named)
        except TypeError as error:
            raise InvalidParamsError(f"{error}") from None
        arguments = bound.arguments
        for name, (wanted, kind) in self._types.items():
            if name in arguments:
                arguments[name] = await _typed(name, arguments[name], wanted, kind, turns)
        result = self.function(*bound.args, **bound.kwargs)
        return await result if inspect.isawaitable(result) else result


async def _typed(
    name: str, value: Any, wanted: Any, kind: inspect._ParameterKind, turns: Turns | None
) -> Any:
    try:
        if kind is inspect.Parameter.VAR_POSITIONAL:
            return tuple([await rebuild_in_turns(item, wanted, turns) for item in value])
        if kind is inspect.Parameter.VAR_KEYWORD:
            return {key: await rebuild_in_turns(item, wanted, turns) for key, item in value.items()}
        return await rebuild_in_turns(value, wanted, turns)
    except SerializationError as error:
        raise InvalidParamsError(f"parameter {name!r}: {error.message}") from None
