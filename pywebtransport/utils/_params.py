"""The values in a request path: those of placeholders, and of the query."""

from __future__ import annotations

from collections.abc import ItemsView, Iterator, KeysView, Mapping, Sequence, ValuesView
from types import MappingProxyType
from typing import Any, SupportsIndex, overload
from urllib.parse import parse_qsl

__all__ = ["NO_PATH_PARAMS", "PathParams", "QueryParams"]


class PathParams(tuple[Any, ...]):
    """The values that a route captured from the path: a tuple, and a mapping of the named ones.

    ``params["room"]``, ``params.get("room")``, ``dict(params)`` and ``params[0]`` all work. Values
    are decoded strings; values of a placeholder with a type, such as ``{number:int}``, have that
    type. Comparison, iteration and length are those of the tuple; ``params.named`` is the mapping
    alone.
    """

    named: Mapping[str, Any]
    """The values that have a name."""

    def __new__(
        cls, values: Sequence[Any] = (), named: Mapping[str, Any] | None = None
    ) -> PathParams:
        self = super().__new__(cls, values)
        self.named = MappingProxyType(dict(named or {}))
        return self

    @overload
    def __getitem__(self, key: str | SupportsIndex, /) -> Any: ...

    @overload
    def __getitem__(self, key: slice, /) -> tuple[Any, ...]: ...

    def __getitem__(self, key: Any, /) -> Any:
        if isinstance(key, str):
            return self.named[key]
        return super().__getitem__(key)

    def get(self, name: str, default: Any = None) -> Any:
        """The named value, or ``default``."""
        return self.named.get(name, default)

    def keys(self) -> KeysView[str]:
        """The names."""
        return self.named.keys()

    def values(self) -> ValuesView[Any]:
        """The values that have a name."""
        return self.named.values()

    def items(self) -> ItemsView[str, Any]:
        """Names and values."""
        return self.named.items()


NO_PATH_PARAMS = PathParams()


class QueryParams(Mapping[str, str]):
    """The query of a path, decoded: a mapping to the first value of each name.

    Args:
        path: With a query or without.
    """

    __slots__ = ("_values",)

    def __init__(self, path: str) -> None:
        values: dict[str, list[str]] = {}
        query = path.partition("?")[2]
        for name, value in parse_qsl(query, keep_blank_values=True, errors="replace"):
            values.setdefault(name, []).append(value)
        self._values = values

    def __getitem__(self, name: str) -> str:
        return self._values[name][0]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def get_all(self, name: str) -> list[str]:
        """All values of a name, in order; empty if there are none."""
        return list(self._values.get(name, ()))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._values!r})"
