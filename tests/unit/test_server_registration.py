"""What cannot serve is refused where it is registered, with what to write instead."""

from __future__ import annotations

import functools
import re
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from pywebtransport import ServerApp, ServerConfig
from pywebtransport.exceptions import ConfigurationError
from pywebtransport.forwarder import WebTransportForwarder
from pywebtransport.server import (
    RateLimiter,
    RequestRouter,
    ServerCluster,
    WebTransportServer,
    create_auth_middleware,
    create_cors_middleware,
    create_echo_server_app,
    create_logging_middleware,
    create_rate_limit_middleware,
    echo_handler,
    run_workers,
)
from pywebtransport.server.middleware import MiddlewareManager


async def good(session: Any) -> bool:
    return True


async def with_default(session: Any, other: int = 1) -> bool:
    return True


async def many(*args: Any, **kwargs: Any) -> bool:
    return True


async def bound_first(other: int, session: Any) -> bool:
    return True


class Callable_:
    async def __call__(self, session: Any) -> bool:
        return True

    async def method(self, session: Any) -> bool:
        return True

    @classmethod
    async def class_method(cls, session: Any) -> bool:
        return True

    @staticmethod
    async def static_method(session: Any) -> bool:
        return True


def with_extra_argument(function: Callable[..., Awaitable[bool]]) -> Callable[..., Awaitable[bool]]:
    """A decorator that gives the function what its callers do not."""

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs, extra=1)

    return wrapper


@with_extra_argument
async def decorated(session: Any, extra: int) -> bool:
    return True


def annotated(session: Any) -> Awaitable[bool]:
    return good(session)


def repr_id(value: Any) -> str:
    """A name that is the same in every process."""
    return getattr(value, "__name__", None) or str(value)


GOOD = {
    "function": good,
    "default": with_default,
    "many": many,
    "partial": functools.partial(bound_first, 1),
    "partial of a partial": functools.partial(functools.partial(bound_first, 1)),
    "object": Callable_(),
    "method": Callable_().method,
    "class method": Callable_.class_method,
    "static method": Callable_.static_method,
    "partial of a method": functools.partial(Callable_().method),
    "decorated": decorated,
    "annotated": annotated,
    "lambda": lambda session: good(session),
    "cors": create_cors_middleware(["https://a.example"]),
    "logging": create_logging_middleware(),
    "limiter": RateLimiter(),
    "auth": create_auth_middleware(lambda headers: good(headers)),
}
KEYWORD_ONLY = {"cors", "logging", "auth"}


def no_parameter_plain() -> None: ...
async def no_parameter() -> None: ...
async def two(session: Any, other: Any) -> None: ...
async def keyword_only(*, request: Any) -> None: ...
async def two_keywords(*, session: Any, other: Any) -> None: ...
def plain(session: Any) -> None: ...
async def generator(session: Any) -> Any:
    yield session


class PlainObject:
    def __call__(self, session: Any) -> None: ...


BAD: dict[str, tuple[Any, str]] = {
    "no parameter": (no_parameter, "parameters are"),
    "plain without parameter": (no_parameter_plain, "parameters are"),
    "two parameters": (two, "missing a required argument"),
    "keyword-only": (keyword_only, "parameters are"),
    "two keywords": (two_keywords, "parameters are|missing"),
    "plain": (plain, "not an async function"),
    "plain object": (PlainObject(), "not an async function"),
    "partial of plain": (functools.partial(plain), "not an async function"),
    "generator": (generator, "yield"),
    "class": (Callable_, "is a class"),
    "None": (None, "cannot be called"),
    "text": ("good", "it is a string"),
    "number": (5, "cannot be called"),
}


def places() -> dict[str, Callable[[Any], object]]:
    app = ServerApp()
    router = RequestRouter()
    return {
        "route": app.route("/a"),
        "pattern_route": app.pattern_route("/b/{name}"),
        "set_default_handler": router.set_default_handler,
        "add_route": lambda handler: router.add_route("/c", handler),
        "add_pattern_route": lambda handler: router.add_pattern_route("/d/.*", handler),
        "middleware": app.middleware,
        "add_middleware": app.add_middleware,
        "MiddlewareManager": MiddlewareManager().add_middleware,
        "config": lambda middleware: ServerApp(config=ServerConfig(middleware=[middleware])),
    }


@pytest.mark.parametrize("place", places())
@pytest.mark.parametrize("name", GOOD)
def test_what_can_serve_is_taken(place: str, name: str) -> None:
    if name in KEYWORD_ONLY and "iddleware" not in place and place != "config":
        return  # a handler is given its session by position
    places()[place](GOOD[name])


@pytest.mark.parametrize("place", places())
@pytest.mark.parametrize("name", BAD)
def test_what_cannot_serve_is_refused(place: str, name: str) -> None:
    given, words = BAD[name]
    with pytest.raises(ConfigurationError) as caught:
        places()[place](given)
    if place == "config" and not callable(given):
        assert "callable" in str(caught.value)  # the configuration sees that much itself
        return
    assert re.search(words, str(caught.value))
    assert "write 'async def" in str(caught.value)


@pytest.mark.parametrize("place", sorted(places().keys() - {"config"}))
def test_a_coroutine_is_refused_and_closed(place: str) -> None:
    """Without a warning that it was never awaited."""
    with pytest.raises(ConfigurationError, match=r"without \(\)"):
        places()[place](good(None))


def test_nothing_is_registered_by_a_refusal() -> None:
    app = ServerApp()
    with pytest.raises(ConfigurationError):
        app.route("/a")(plain)
    with pytest.raises(ConfigurationError):
        app.add_middleware(plain)
    assert app.router.get_all_routes() == {}
    assert app._middleware.get_middleware_count() == 0
    app.route("/a")(good)


def test_a_forwarder_and_the_echo_are_handlers() -> None:
    app = ServerApp()
    app.route("/a")(echo_handler)
    app.route("/b")(WebTransportForwarder.__new__(WebTransportForwarder))


@pytest.mark.parametrize("name", ["route", "pattern_route"])
@pytest.mark.parametrize("path", [good, None, 5, b"/a"])
def test_a_route_without_a_path(name: str, path: Any) -> None:
    """``@app.route`` directly above a function, most of all."""
    with pytest.raises(ConfigurationError, match=rf"must start with '/'.*; write @app\.{name}\("):
        getattr(ServerApp(), name)(path)


@pytest.mark.parametrize("name", ["route", "pattern_route"])
def test_a_path_without_a_slash(name: str) -> None:
    with pytest.raises(ConfigurationError, match="must start with '/', got 'chat'; write '/chat'"):
        getattr(ServerApp(), name)("chat")


@pytest.mark.parametrize("name", ["on_startup", "on_shutdown"])
@pytest.mark.parametrize("hook", [good, two, None, "x", 5], ids=repr_id)
def test_a_hook_takes_no_arguments(name: str, hook: Any) -> None:
    with pytest.raises(ConfigurationError, match="hook"):
        getattr(ServerApp(), name)(hook)


@pytest.mark.parametrize("handler", [None, "x", good, plain, no_parameter, {}], ids=repr_id)
def test_auth_middleware_needs_an_auth_handler(handler: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"auth_handler.*headers"):
        create_auth_middleware(handler)


@pytest.mark.parametrize("origins", ["https://x", None, 5, [1], ["a", 2]], ids=str)
def test_cors_middleware_needs_a_list(origins: Any) -> None:
    with pytest.raises(ConfigurationError, match="allowed_origins"):
        create_cors_middleware(origins)


@pytest.mark.parametrize("field", ["max_requests", "window_seconds", "cleanup_interval"])
@pytest.mark.parametrize("value", ["x", "5", None, 0, -1, True, float("nan"), float("inf"), [1]])
def test_rate_limits_are_numbers(field: str, value: Any) -> None:
    with pytest.raises(ConfigurationError, match=field):
        create_rate_limit_middleware(**{field: value})


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"port": "4433"}, "port = '4433': expected a number, not a string; write 4433"),
        ({"port": "https"}, "port = 'https'"),
        ({"port": 1.5}, "port = 1.5"),
        ({"port": True}, "port = True"),
        ({"host": 5}, "host = 5"),
        ({"host": b"localhost"}, "host = b'localhost'"),
    ],
    ids=str,
)
async def test_where_to_listen_is_checked_before_anything_starts(
    arguments: dict[str, Any], words: str
) -> None:
    app = ServerApp()
    started: list[str] = []
    app.on_startup(lambda: started.append("up"))
    for begin in (app.listen, app.serve, app.server.listen):
        with pytest.raises(ConfigurationError) as caught:
            await begin(**arguments)
        assert words in str(caught.value)
    assert started == []


def test_where_to_run_is_checked() -> None:
    with pytest.raises(ConfigurationError, match="write 4433"):
        ServerApp().run(port="4433")
    with pytest.raises(ConfigurationError, match="loop_factory"):
        ServerApp().run(loop_factory="uvloop")
    with pytest.raises(ConfigurationError, match="write 4433"):
        run_workers(no_parameter, config=ServerConfig(), port="4433")


@pytest.mark.parametrize(
    "make",
    [
        lambda: ServerApp(config={"bind_port": 1}),
        lambda: WebTransportServer(config=5),
        lambda: ServerCluster(5),
        lambda: ServerCluster([None]),
        lambda: ServerCluster([{}]),
        lambda: ServerCluster([ServerConfig()], app=5),
        lambda: create_echo_server_app("x"),
    ],
)
def test_a_server_is_made_with_a_configuration(make: Callable[[], object]) -> None:
    with pytest.raises(ConfigurationError, match="expected a"):
        make()


@pytest.mark.parametrize("seconds", ["x", -1, float("nan"), [1]])
async def test_a_close_that_is_refused_closes_nothing(seconds: Any) -> None:
    server = WebTransportServer()
    with pytest.raises(ConfigurationError, match="drain_timeout"):
        await server.close(drain_timeout=seconds)
    assert not server._closing
    await server.close()


async def test_no_server_has_a_text_for_a_port() -> None:
    with pytest.raises(ConfigurationError, match="write 4433"):
        await ServerCluster([]).remove_server(host="localhost", port="4433")
