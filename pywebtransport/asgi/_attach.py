"""HTTP/3 and WebTransport beside another ASGI server: ``attach(app, config)``."""

from __future__ import annotations

import logging
from typing import Any

from ..config import ServerConfig
from ..exceptions import ServerError, WebTransportError, invalid_config
from ..server import ServerApp, WebTransportServer
from ..server._tcp import alt_svc
from ..utils._checks import check_instance
from ..utils._failures import describe_error, log_application_error
from ._application import check_application
from ._tcp import with_alt_svc
from ._types import AsgiApp, Message, Receive, Scope, Send

__all__ = ["AttachedApp", "attach"]

_STARTUP = "lifespan.startup"
_SHUTDOWN = "lifespan.shutdown"
# Messages with the headers of an answer.
_HEADS = ("http.response.start", "websocket.accept", "websocket.http.response.start")

_logger = logging.getLogger("pywebtransport.asgi")


def attach(app: AsgiApp, config: ServerConfig) -> AttachedApp:
    """Serve an ASGI application over HTTP/3 in the process of another server, such as uvicorn.

    ::

        config = ServerConfig.create(
            certfile="a.crt", keyfile="a.key", bind_host="0.0.0.0", bind_port=443
        )
        app = attach(FastAPI(), config)  # then: uvicorn shop:app --port 443 --ssl-certfile ...

    The other server goes on to answer over TCP. When it starts the application (``lifespan``), this
    one listens on its UDP port, and hands the application its HTTP requests and WebTransport
    sessions. Answers over TCP get an ``alt-svc`` header, which sends browsers to HTTP/3. When the
    other server shuts down, this one drains first, as ``ServerApp.shutdown`` does.

    The other server needs ``lifespan``, and one process: two cannot share the UDP port. For more
    processes use ``pywebtransport serve``.

    Args:
        app: The application. For sessions, put ``WebTransportRouter`` before it.
        config: ``bind_host``, ``bind_port``, the certificate, and the limits.

    Returns:
        The application to give to the other server.

    Raises:
        ConfigurationError: ``app`` is no ASGI application, or ``config`` cannot be used.
    """
    check_application(app)
    check_instance("config", config, ServerConfig)
    config.validate()
    if config.workers != 1:
        raise invalid_config(
            key="workers",
            value=config.workers,
            reason="the processes are those of the other server, and there can be one",
        )
    if config.websocket:
        raise invalid_config(
            key="websocket", value=True, reason="the TCP port is that of the other server"
        )
    return AttachedApp(app, config)


class AttachedApp:
    """What ``attach`` returns: an ASGI application.

    Attributes:
        app: The application inside.
    """

    def __init__(self, app: AsgiApp, config: ServerConfig) -> None:
        self.app = app
        self._config = config.copy()
        self._served: ServerApp | None = None
        self._state: dict[str, Any] = {}
        self._port: int | None = None  # of HTTP/3, while it accepts
        self._has_lifespan = False

    @property
    def server(self) -> WebTransportServer | None:
        """The server for HTTP/3; None while the application does not run."""
        return None if self._served is None else self._served.server

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the application, as the other server asks for it."""
        if scope["type"] == "lifespan":
            self._has_lifespan = True
            await _Lifespan(self, scope, receive, send).run()
            return
        if not self._has_lifespan:
            self._has_lifespan = True
            _logger.warning(
                "HTTP/3 is not served: the other server does not use lifespan, which has to be on"
            )
        if self._served is None:
            await self.app(scope, receive, send)
            return

        async def send_with_alt_svc(message: Message) -> None:
            if message["type"] in _HEADS:
                lines = with_alt_svc(message.get("headers", ()), alt_svc(self._port))
                message = {**message, "headers": lines}
            await send(message)

        await self.app(scope, receive, send_with_alt_svc)

    async def start(self, state: dict[str, Any]) -> None:
        """Advanced: listen, once the application has started.

        Args:
            state: What it left for its requests.

        Raises:
            ServerError: It serves already; or as ``ServerApp.listen``.
        """
        if self._served is not None:
            raise ServerError(
                "another server has started this application already, and has not shut it down; "
                "attach it once for each server"
            )
        served = ServerApp(config=self._config)
        served.mount(self._over_quic, lifespan="off", tcp=False)
        self._state = state
        self._served = served
        try:
            await served.listen()
            self._port = served.server.port
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        """Advanced: drain, and close. Idempotent."""
        self._port = None
        served = self._served
        if served is not None:
            await served.shutdown()
            self._served = None

    async def _over_quic(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope["state"] = self._state.copy()
        await self.app(scope, receive, send)


class _Lifespan:
    """Stands between the other server and the application during ``lifespan``.

    Args:
        attached: The application around.
        scope: Of the other server.
        receive: Of the other server.
        send: Of the other server.
    """

    def __init__(self, attached: AttachedApp, scope: Scope, receive: Receive, send: Send) -> None:
        self._attached = attached
        self._scope = scope
        self._receive = receive
        self._send = send
        self._has_asked = False  # the application, for an event
        self._is_answered = False  # the other server, about the start
        self._has_started = False  # this one: another lifespan may have, of the same application
        self._failure: str | None = None

    async def run(self) -> None:
        """Run the application, or what stands in for one that does not know ``lifespan``."""
        try:
            try:
                await self._attached.app(self._scope, self.receive, self.send)
            except Exception as error:
                if self._has_asked:
                    if self._failure is None:
                        raise
                    log_application_error(_logger, "lifespan of the application", error)
                elif not self._is_answered:
                    _logger.info(
                        "the application does not support lifespan: %s", describe_error(error)
                    )
            if self._failure is not None:
                await self._fail()
            elif not self._is_answered:
                await self._stand_in()
        finally:
            await self._stop()

    async def receive(self) -> Message:
        """The next event for the application."""
        self._has_asked = True
        if self._failure is not None:
            return {"type": _SHUTDOWN}  # it has started, and has to clean up
        message = await self._receive()
        if message["type"] == _SHUTDOWN:
            await self._stop()
        return message

    async def send(self, message: Message) -> None:
        """Take a message of the application."""
        kind = message["type"]
        if self._failure is not None:
            await self._fail()
            return
        if kind == f"{_STARTUP}.complete":
            await self._start()
            if self._failure is not None:
                return
        self._is_answered = True
        await self._send(message)

    async def _start(self) -> None:
        try:
            await self._attached.start(self._scope.get("state", {}))
            self._has_started = True
        except WebTransportError as error:
            self._failure = (
                f"HTTP/3 cannot be served: {error}. If the other server has several processes, "
                "only one of them can have the UDP port"
            )

    async def _stop(self) -> None:
        if self._has_started:
            await self._attached.stop()

    async def _fail(self) -> None:
        """Tell the other server, once the application has shut down."""
        if not self._is_answered:
            self._is_answered = True
            _logger.error("%s", self._failure)
            await self._send({"type": f"{_STARTUP}.failed", "message": self._failure})

    async def _stand_in(self) -> None:
        """The application has returned without an answer: it does not use ``lifespan``."""
        if not self._has_asked:
            await self._receive()
        await self._start()
        if self._failure is not None:
            await self._fail()
            return
        self._is_answered = True
        await self._send({"type": f"{_STARTUP}.complete"})
        await self._receive()
        await self._stop()
        await self._send({"type": f"{_SHUTDOWN}.complete"})
