"""Finds the handler of a session by the path of its request."""

from __future__ import annotations

import re
from bisect import insort
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import TYPE_CHECKING, Any

from ..exceptions import ConfigurationError
from ..utils._checks import check_texts
from ..utils._params import NO_PATH_PARAMS, PathParams
from ..utils._text import printable
from ._callables import check_handler
from ._paths import canonical_path, decoded_path, decoded_pattern, decoded_value
from ._templates import TYPES, Rank, has_placeholders, parse_template

if TYPE_CHECKING:
    from ..session import WebTransportSession

__all__ = ["PathParams", "RequestRouter", "Route", "SessionHandler"]

SessionHandler = Callable[["WebTransportSession"], Awaitable[None]]

# Characters that end a path: a path contains them only percent-encoded.
_NO_PATH = re.compile(r"[?#]")

# Placeholders of a template pattern such as "/room/{room_id:int}".
_PLACEHOLDER = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)(?::([a-z]+))?\}")


@dataclass(frozen=True, slots=True)
class Route:
    """A handler and the options of its path."""

    path: str
    handler: SessionHandler
    application_protocols: tuple[str, ...] | None = None
    allowed_origins: tuple[str, ...] | None = None
    pattern: re.Pattern[str] | None = None
    converters: Mapping[str, Callable[[str], Any]] = field(default_factory=dict)
    rank: Rank = ()


class RequestRouter:
    """Maps paths to handlers.

    A path without placeholders comes first, then the paths with placeholders, the most specific
    first, then pattern routes in the order in which they were added, then the default.
    """

    def __init__(self) -> None:
        """Create a router without routes."""
        self._exact: dict[str, Route] = {}
        self._templates: list[Route] = []
        self._patterns: list[Route] = []
        self._default: Route | None = None

    def add_route(
        self,
        path: str,
        handler: SessionHandler,
        *,
        application_protocols: Sequence[str] | None = None,
        allowed_origins: Sequence[str] | None = None,
    ) -> None:
        """Serve ``path``; the query of a request is ignored.

        Args:
            path: Starts with ``/``. Percent-encoding makes no difference, here and in requests:
                ``/café`` and ``/caf%C3%A9`` are the same path. The only exception is ``%2F``, which
                is not the same as ``/``. It may have placeholders, one per segment:
                ``/room/{name}`` and ``/item-{number:int}``; the types are str, int, float, uuid and
                path, which takes the rest of the path. A number has at most 39 digits, and as many
                after the point; another path is not found. The values are in
                ``session.path_params``, decoded. If several routes match, literal text has
                precedence over a placeholder, and a placeholder with a type over one without.
            handler: ``async def handler(session)``.
            application_protocols: Protocols to choose from on this path.
            allowed_origins: Origins allowed on this path.

        Raises:
            ConfigurationError: The path is malformed; it has a handler already, perhaps
                with other placeholder names; an argument is not a list of strings; the
                handler cannot be called with a session.
        """
        check_path(path, "path")
        check_handler(handler)
        if _NO_PATH.search(path):
            raise ConfigurationError(
                f"path = {path!r} matches no request: write it without a query, with '?' and '#' "
                f"percent-encoded, as {canonical_path(path.partition('?')[0])!r}",
                config_key="path",
                config_value=path,
            )
        route = Route(
            path,
            handler,
            _several("application_protocols", application_protocols),
            _several("allowed_origins", allowed_origins),
        )
        if has_placeholders(path):
            pattern, converters, rank = parse_template(path)
            route = replace(route, pattern=pattern, converters=converters, rank=rank)
            _check_free(path, next((each for each in self._templates if each.rank == rank), None))
            insort(self._templates, route, key=lambda each: each.rank)
        else:
            key = canonical_path(path)
            _check_free(path, self._exact.get(key))
            self._exact[key] = route

    def add_pattern_route(
        self,
        pattern: str,
        handler: SessionHandler,
        *,
        application_protocols: Sequence[str] | None = None,
        allowed_origins: Sequence[str] | None = None,
    ) -> None:
        """Serve every path that ``pattern`` matches as a whole.

        Args:
            pattern: A regular expression (``/room/([a-z]+)``), or a template with placeholders
                ``{name}`` or ``{name:type}``, type being str, int, float, uuid or path. It is
                matched against the decoded path, in which an encoded slash (``%2F``) is not a
                separator. The decoded groups are in ``session.path_params``; ``session.path`` is
                the path as sent. A decoded value may contain anything, such as ``/``, ``..`` or a
                line break.
            handler: ``async def handler(session)``.
            application_protocols: Protocols to choose from on these paths.
            allowed_origins: Origins allowed on these paths.

        Raises:
            ConfigurationError: The pattern is malformed; an argument is not a list of strings;
                the handler cannot be called with a session.
        """
        check_path(pattern, "pattern")
        check_handler(handler)
        compiled, converters = _compile(pattern)
        self._patterns.append(
            Route(
                pattern,
                handler,
                _several("application_protocols", application_protocols),
                _several("allowed_origins", allowed_origins),
                compiled,
                converters,
            )
        )

    def set_default_handler(self, handler: SessionHandler) -> None:
        """Serve every path that has no route.

        Raises:
            ConfigurationError: It cannot be called as ``await handler(session)``.
        """
        check_handler(handler)
        self._default = Route("", handler)

    def remove_route(self, path: str) -> None:
        """Remove the route that was added as ``path``; nothing happens if there is none."""
        self._exact.pop(canonical_path(path), None)
        self._templates = [route for route in self._templates if route.path != path]
        self._patterns = [route for route in self._patterns if route.path != path]

    def match(self, path: str) -> tuple[Route, PathParams] | None:
        """Return the route for a request path (with query) and its captured values, or None."""
        bare = path.partition("?")[0]
        route = self._exact.get(bare) or self._exact.get(canonical_path(bare))
        if route is not None:
            return route, NO_PATH_PARAMS
        decoded = decoded_path(bare) if self._templates or self._patterns else ""
        for route in chain(self._templates, self._patterns):
            assert route.pattern is not None
            found = route.pattern.fullmatch(decoded)
            if found is not None:
                return route, _captured(route, found)
        return (self._default, NO_PATH_PARAMS) if self._default is not None else None

    def route_request(self, session: WebTransportSession) -> SessionHandler | None:
        """Set ``session.path_params`` and return the handler; None if no route matches."""
        found = self.match(session.path)
        if found is None:
            return None
        route, params = found
        session.path_params = params
        return route.handler

    def get_route_handler(self, path: str) -> SessionHandler | None:
        """Return the handler of the route added as ``path``, or None; ignores pattern routes."""
        route = self._exact.get(canonical_path(path))
        if route is None:
            route = next((each for each in self._templates if each.path == path), None)
        return None if route is None else route.handler

    def get_all_routes(self) -> dict[str, SessionHandler]:
        """Return every route with its handler, except the default handler."""
        routes = (*self._exact.values(), *self._templates, *self._patterns)
        return {route.path: route.handler for route in routes}

    def get_route_stats(self) -> dict[str, Any]:
        """Return the number of routes of each kind; those with placeholders count as patterns."""
        return {
            "exact_routes": len(self._exact),
            "pattern_routes": len(self._templates) + len(self._patterns),
            "has_default_handler": self._default is not None,
        }


def check_path(path: Any, key: str, example: str = "") -> None:
    """Check the beginning of a path, or of a pattern.

    Args:
        path: The argument.
        key: The name of the parameter.
        example: An example call, for a parameter that is easily forgotten.

    Raises:
        ConfigurationError: It is not a string that starts with ``/``.
    """
    if isinstance(path, str) and path.lstrip("^" if key == "pattern" else "").startswith("/"):
        return
    if isinstance(path, str):
        text = printable(path)
        what = f"{key} must start with '/', got '{text}'; write '/{text}'"
    else:
        what = f"{key} must start with '/', got {printable(type(path).__name__)}"
        if example:
            what += f"; write {example}"
    raise ConfigurationError(what, config_key=key, config_value=path)


def _check_free(path: str, taken: Route | None) -> None:
    """Raise if there already is a route that matches the same requests."""
    if taken is not None:
        known_as = "" if taken.path == path else f", as {taken.path!r}"
        raise ConfigurationError(
            f"path {path!r} has a handler already{known_as}; remove_route() it first",
            config_key="path",
            config_value=path,
        )


def _several(key: str, values: Sequence[str] | None) -> tuple[str, ...] | None:
    return None if values is None else check_texts(key, values)


def _compile(pattern: str) -> tuple[re.Pattern[str], dict[str, Callable[[str], Any]]]:
    converters: dict[str, Callable[[str], Any]] = {}

    def placeholder(found: re.Match[str]) -> str:
        name, kind = found[1], found[2] or "str"
        if kind not in TYPES:
            raise ConfigurationError(
                f"pattern {pattern!r}: unknown type {kind!r} of {name!r}; "
                f"use one of {', '.join(TYPES)}",
                config_key="pattern",
                config_value=pattern,
            )
        expression, converters[name] = TYPES[kind]
        return f"(?P<{name}>{expression})"

    try:
        return re.compile(_PLACEHOLDER.sub(placeholder, decoded_pattern(pattern))), converters
    except re.error as error:
        raise ConfigurationError(
            f"pattern {pattern!r} is not a valid expression: {error}",
            config_key="pattern",
            config_value=pattern,
        ) from error


def _captured(route: Route, found: re.Match[str]) -> PathParams:
    assert route.pattern is not None
    names = {index: name for name, index in route.pattern.groupindex.items()}
    values: list[Any] = []
    for index, value in enumerate(found.groups(), start=1):
        convert = route.converters.get(names.get(index, ""), str)
        values.append(None if value is None else convert(decoded_value(value)))
    named = {name: values[index - 1] for index, name in names.items()}
    return PathParams(values, named)
