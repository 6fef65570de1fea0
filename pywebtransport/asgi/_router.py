"""Routes the ``webtransport`` scope in front of a framework that does not know it."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar
from urllib.parse import quote

from ..exceptions import invalid_config
from ..server import RequestRouter
from ..server.router import check_path
from ..utils._async_functions import why_not_awaitable
from ..utils._checks import check_callable, check_texts
from ..utils._failures import name_of
from ..utils._params import PathParams
from ._application import check_application
from ._session import Session, extension_of
from ._types import AsgiApp, Receive, Scope, Send

__all__ = ["WebTransportRouter"]

_HandlerT = TypeVar("_HandlerT", bound=Callable[..., Awaitable[object]])

_NOT_FOUND = 404
_METHOD_NOT_ALLOWED = 405
# From this draft on, a path without WebTransport is answered with 405.
_DRAFT_405 = 16


class WebTransportRouter:
    """An ASGI application that serves WebTransport paths, and gives the rest to another one.

    Frameworks such as Starlette and FastAPI cannot route the scope ``webtransport``. Put this in
    front of them::

        app = WebTransportRouter(FastAPI())

        @app.route("/chat/{room}")
        async def chat(session):
            async for stream in session.incoming_bidirectional_streams():
                ...

    All other scopes go to the framework. A session whose path has no route is answered with 404,
    or with 405 from draft 16 on.
    """

    def __init__(self, app: AsgiApp) -> None:
        """Create a router without routes.

        Args:
            app: Gets every scope except ``webtransport``.

        Raises:
            ConfigurationError: It is no ASGI application.
        """
        check_application(app)
        self.app = app
        self._router = RequestRouter()

    def add_route(
        self,
        path: str,
        handler: Callable[..., Awaitable[object]],
        *,
        application_protocols: Sequence[str] | None = None,
    ) -> None:
        """Serve the sessions of a path.

        Args:
            path: Starts with ``/`` and may have placeholders, see ``RequestRouter.add_route``. The
                values are in ``scope["path_params"]`` and ``session.path_params``.
            handler: ``async def handler(session)``, which gets an ``asgi.Session`` that is already
                accepted, or ``async def handler(scope, receive, send)``, any ASGI application that
                knows the scope ``webtransport``. When it returns, the session is closed.
            application_protocols: Protocols to choose from, for a handler of sessions.

        Raises:
            ConfigurationError: The path is malformed or has a handler already; the handler can be
                called in neither way; the protocols are not a list of strings.
        """
        protocols: tuple[str, ...] = ()
        if application_protocols is not None:
            protocols = check_texts("application_protocols", application_protocols)
        self._router.add_route(path, _Endpoint(handler, protocols))

    def route(
        self, path: str, *, application_protocols: Sequence[str] | None = None
    ) -> Callable[[_HandlerT], _HandlerT]:
        """Decorator form of ``add_route``; arguments and errors are the same."""
        check_path(path, "path", "@app.route('/path')")

        def register(handler: _HandlerT) -> _HandlerT:
            self.add_route(path, handler, application_protocols=application_protocols)
            return handler

        return register

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a scope, as every ASGI application."""
        if scope["type"] != "webtransport":
            await self.app(scope, receive, send)
            return
        found = self._router.match(_target(scope))
        if found is None:
            draft = extension_of(scope).get("draft") or 0
            status = _METHOD_NOT_ALLOWED if draft >= _DRAFT_405 else _NOT_FOUND
            await receive()
            await send({"type": "webtransport.close", "status": status, "code": status})
            return
        route, params = found
        endpoint = route.handler
        assert isinstance(endpoint, _Endpoint)
        named = {**(scope.get("path_params") or {}), **params.named}
        await endpoint.serve({**scope, "path_params": named}, receive, send, params)


class _Endpoint:
    """A handler of a path.

    Args:
        handler: As for ``add_route``.
        protocols: As for ``add_route``.
    """

    def __init__(self, handler: Callable[..., Awaitable[object]], protocols: Sequence[str]) -> None:
        check_callable("handler", handler)
        self.__qualname__ = name_of(handler)
        self._handler = handler
        self._protocols = protocols
        self._takes_session = _takes_session(handler)

    async def __call__(self, session: Any) -> None:
        """Serve a session that is accepted, as a route of a ``RequestRouter``."""
        await self._handler(session)

    async def serve(self, scope: Scope, receive: Receive, send: Send, params: PathParams) -> None:
        """Serve a scope."""
        if not self._takes_session:
            await self._handler(scope, receive, send)
            return
        session = Session(scope, receive, send)
        session.path_params = params
        offered = session.offered_protocols
        protocol = next((name for name in offered if name in self._protocols), None)
        await session.accept(application_protocol=protocol)
        await self._handler(session)


def _takes_session(handler: Callable[..., Awaitable[object]]) -> bool:
    """Whether a handler is called with a session, and not as an ASGI application."""
    why = why_not_awaitable(handler)
    if why:
        raise invalid_config(key="handler", value=handler, reason=why)
    try:
        signature = inspect.signature(handler, follow_wrapped=False)
    except (TypeError, ValueError):  # Python knows no signature for it
        return False
    if _binds(signature, 3) and sum(map(_is_required, signature.parameters.values())) != 1:
        return False
    if _binds(signature, 1):
        return True
    raise invalid_config(
        key="handler",
        value=handler,
        reason="expected async def handler(session) or async def handler(scope, receive, send)",
    )


def _is_required(parameter: inspect.Parameter) -> bool:
    return parameter.default is parameter.empty and parameter.kind in (
        parameter.POSITIONAL_ONLY,
        parameter.POSITIONAL_OR_KEYWORD,
    )


def _binds(signature: inspect.Signature, count: int) -> bool:
    try:
        signature.bind(*range(count))
    except TypeError:
        return False
    return True


def _target(scope: Scope) -> str:
    """The path below ``root_path``, percent-encoded, perhaps with a query."""
    raw = scope.get("raw_path")
    path = quote(scope["path"]) if raw is None else raw.decode("latin-1")
    root = scope.get("root_path", "").rstrip("/")
    if root and path.startswith(f"{root}/"):
        return path[len(root) :]
    return path
