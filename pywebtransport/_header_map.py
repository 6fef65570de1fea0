"""Header fields by name, which may have several lines."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Self

from ._states import HeadersToSend

__all__ = ["HeaderMap"]


class HeaderMap(dict[str, str]):
    """Header fields by lower-case name: a dictionary that also keeps the separate lines.

    A field may come in several lines. The dictionary has them joined as HTTP defines: ``cookie``
    with "; ", others with ", ". Lines of ``set-cookie`` cannot be joined, so the dictionary has the
    first one; :meth:`get_all` and :attr:`lines` return all lines.

    Args:
        lines: Names and values.
    """

    __slots__ = ("_several",)

    def __init__(self, lines: Iterable[tuple[str, str]] = ()) -> None:
        super().__init__()
        # The lines of names that have several; most maps have no such name.
        self._several: dict[str, tuple[str, ...]] | None = None
        several: dict[str, list[str]] = {}
        for name, value in lines:
            if name not in self:
                self[name] = value
            elif name in several:
                several[name].append(value)
            else:
                several[name] = [self[name], value]
        # Once for each name: a peer may send hundreds of lines of one.
        if several:
            self.update((name, _joined(name, values)) for name, values in several.items())
            self._several = {name: tuple(values) for name, values in several.items()}

    @classmethod
    def of(cls, headers: HeadersToSend) -> Self:
        """Convert headers of an application without checks: lists become lines."""
        self = cls()
        for name, value in headers.items():
            lines = headers.get_all(name) if isinstance(headers, HeaderMap) else value
            if isinstance(lines, list | tuple) and all(type(v) in (str, int) for v in lines):
                self.set_all(name, [str(line) for line in lines])
            else:
                self[name] = value  # type: ignore[assignment]
        return self

    @property
    def lines(self) -> list[tuple[str, str]]:
        """All lines; the lines of one name are adjacent and in order."""
        if self._several is None:
            return list(self.items())
        return [(name, value) for name in self for value in self.get_all(name)]

    def get_all(self, name: str) -> list[str]:
        """The values of all lines of a field; empty when there is none."""
        if name not in self:
            name = name.lower()
        joined = self.get(name)
        if joined is None:
            return []
        values = None if self._several is None else self._several.get(name)
        # If the dictionary entry was changed later, only that value counts.
        return list(values) if values and _joined(name, values) == joined else [joined]

    def set_all(self, name: str, values: Sequence[str]) -> None:
        """Replace the lines of a field; an empty list removes the field."""
        if values:
            self[name] = _joined(name, values)
        else:
            self.pop(name, None)
        if len(values) > 1:
            self._several = {**(self._several or {}), name: tuple(values)}

    def copy(self) -> Self:
        """An independent copy, with all lines."""
        return type(self)(self.lines)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.lines,)


def _joined(name: str, values: Sequence[str]) -> str:
    if name == "set-cookie":
        return values[0]
    return ("; " if name == "cookie" else ", ").join(values)
