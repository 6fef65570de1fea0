"""``/room/{name}`` as a path of ``route``: what it matches, which comes first, what is refused."""

from itertools import permutations
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pywebtransport import ServerApp
from pywebtransport.exceptions import ConfigurationError
from pywebtransport.server import RequestRouter
from pywebtransport.session import WebTransportSession


async def handler(session: WebTransportSession) -> None:
    """Never called."""


def router_of(*paths: str) -> RequestRouter:
    router = RequestRouter()
    for path in paths:
        router.add_route(path, handler)
    return router


def named(router: RequestRouter, path: str) -> dict[str, Any] | None:
    found = router.match(path)
    return None if found is None else dict(found[1])


def chosen(router: RequestRouter, path: str) -> str | None:
    found = router.match(path)
    return None if found is None else found[0].path


KEY = "12345678-1234-5678-1234-567812345678"


@pytest.mark.parametrize(
    ("route", "path", "values"),
    [
        ("/room/{name}", "/room/tea", {"name": "tea"}),
        ("/room/{name}", "/room/tea?x=/", {"name": "tea"}),
        ("/room/{name}", "/room/caf%C3%A9", {"name": "café"}),
        ("/room/{name}", "/room/a%2Fb%20c", {"name": "a/b c"}),
        ("/room/{name}", "/room/%7Bx%7D", {"name": "{x}"}),
        ("/room/{name}", "/room/a%0Ab", {"name": "a\nb"}),
        ("/room/{name}", "/room/", None),
        ("/room/{name}", "/room/a/b", None),
        ("/room/{name}", "/room", None),
        ("/room/{name:str}/", "/room/a/", {"name": "a"}),
        ("/{a}/{b}", "/x/y", {"a": "x", "b": "y"}),
        ("/item-{number:int}.json", "/item--5.json", {"number": -5}),
        ("/item-{number:int}.json", "/item-5xjson", None),
        ("/item-{number:int}", "/item-x", None),
        ("/{value:float}", "/1.5", {"value": 1.5}),
        ("/{value:int}", f"/{2**64 - 1}", {"value": 2**64 - 1}),
        ("/{value:int}", f"/-{2**128 - 1}", {"value": 1 - 2**128}),
        ("/{value:int}", "/" + "1" * 40, None),
        ("/{value:float}", "/" + "1" * 39 + "." + "2" * 39, {"value": float("1" * 39 + ".2")}),
        ("/{value:float}", "/" + "1" * 40, None),
        ("/{value:float}", "/1." + "1" * 40, None),
        ("/{key:uuid}", f"/{KEY}", {"key": UUID(KEY)}),
        ("/file/{rest:path}", "/file/a/b%2Fc", {"rest": "a/b/c"}),
        ("/file/{rest:path}", "/file/", None),
        ("/a.b(c)+/{x}", "/a.b(c)+/1", {"x": "1"}),
        ("/a.b/{x}", "/acb/1", None),
        ("/caf%C3%A9/{x}", "/café/1", {"x": "1"}),
        ("/café/{x}", "/caf%c3%a9/1", {"x": "1"}),
        ("/%7B/{x}", "/%7b/1", {"x": "1"}),
        ("/a%2Fb/{x}", "/a%2fb/1", {"x": "1"}),
        ("/a%2Fb/{x}", "/a/b/1", None),
    ],
)
def test_placeholders(route: str, path: str, values: dict[str, Any] | None) -> None:
    router = router_of(route)
    assert named(router, path) == values
    if values is not None:
        found = router.match(path)
        assert found is not None
        assert found[1] == tuple(values.values())


ORDERED = (
    "/room/lobby",
    "/room/old-{name}",
    "/room/{number:int}",
    "/room/{number:float}",
    "/room/{name}",
    "/{kind}/lobby",
    "/{kind}/{name}",
    "/{rest:path}",
)


@pytest.mark.parametrize("order", list(permutations(range(8)))[::2521])
def test_the_more_specific_route_comes_first_in_whatever_order_they_are_added(
    order: tuple[int, ...],
) -> None:
    router = router_of(*(ORDERED[index] for index in order))
    for path, route in {
        "/room/lobby": "/room/lobby",
        "/room/old-5": "/room/old-{name}",
        "/room/5": "/room/{number:int}",
        "/room/5.5": "/room/{number:float}",
        "/room/tea": "/room/{name}",
        "/hall/lobby": "/{kind}/lobby",
        "/hall/tea": "/{kind}/{name}",
        "/hall/tea/5": "/{rest:path}",
        "/": None,
    }.items():
        assert chosen(router, path) == route


def test_the_longer_text_comes_first() -> None:
    for paths in (["/a-{x}", "/a-b-{x}"], ["/a-b-{x}", "/a-{x}"]):
        assert chosen(router_of(*paths), "/a-b-c") == "/a-b-{x}"


def test_patterns_come_after_and_the_default_last() -> None:
    router = RequestRouter()
    router.set_default_handler(handler)
    router.add_pattern_route("/room/([a-z]+)", handler)
    router.add_pattern_route("/hall/{name}", handler)
    router.add_route("/room/{name}", handler)
    assert chosen(router, "/room/tea") == "/room/{name}"
    assert chosen(router, "/hall/tea") == "/hall/{name}"
    assert chosen(router, "/other") == ""
    assert set(router.get_all_routes()) == {"/room/{name}", "/room/([a-z]+)", "/hall/{name}"}
    assert router.get_route_stats()["pattern_routes"] == 3
    assert router.get_route_handler("/room/{name}") is handler
    router.remove_route("/room/{name}")
    assert chosen(router, "/room/tea") == "/room/([a-z]+)"
    assert router.get_route_handler("/room/{name}") is None
    router.add_route("/room/{other}", handler)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("/room/{name}", "/room/{name}"),
        ("/room/{name}", "/room/{other}"),
        ("/room/{name}", "/room/{name:str}"),
        ("/caf%C3%A9/{x}", "/café/{y}"),
        ("/a/b-{x:int}", "/a/b-{y:int}"),
        ("/{x:path}", "/{y:path}"),
    ],
)
def test_what_matches_the_same_paths_is_refused(first: str, second: str) -> None:
    router = router_of(first)
    with pytest.raises(ConfigurationError, match="has a handler already") as caught:
        router.add_route(second, handler)
    assert caught.value.config_key == "path"
    assert (f"as {first!r}" in str(caught.value)) == (first != second)
    assert list(router.get_all_routes()) == [first]


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/{", "a brace without its partner"),
        ("/a}", "a brace without its partner"),
        ("/{a}{b}", "more than one placeholder"),
        ("/{a}-{b}", "more than one placeholder"),
        ("/{{a}}", "write braces of the path itself as %7B and %7D"),
        ("/{}", "'' is not a placeholder name"),
        ("/{1a}", "'1a' is not a placeholder name"),
        ("/{a b}", "'a b' is not a placeholder name"),
        ("/{é}", "is not a placeholder name"),
        ("/{a:}", "unknown type '' of 'a'"),
        ("/{a:colour}", "unknown type 'colour' of 'a'; use one of uuid, int, float, str, path"),
        ("/{a}/{a}", "two placeholders have the name 'a'"),
        ("/{a:path}/b", "nothing can follow it"),
        ("/{a:path}.json", "nothing can follow it"),
        ("/{a}?b=1", "matches no request"),
        ("/{a}#b", "matches no request"),
        ("/{a\x1b[0m}", r"\\x1b"),
    ],
)
def test_a_malformed_path_is_refused_where_it_is_registered(path: str, words: str) -> None:
    app = ServerApp()
    with pytest.raises(ConfigurationError, match=words.replace("?", r"\?")) as caught:
        app.route(path)(handler)
    assert (caught.value.config_key, caught.value.config_value) == ("path", path)
    assert app.router.get_all_routes() == {}


@given(st.text(max_size=20), st.text(max_size=20))
def test_any_text_is_a_path_or_refused(route: str, path: str) -> None:
    router = RequestRouter()
    try:
        router.add_route(f"/{route}", handler)
    except ConfigurationError:
        return
    router.match(f"/{path}")
