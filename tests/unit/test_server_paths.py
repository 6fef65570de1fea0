"""Routes and request paths are compared decoded."""

from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pywebtransport.exceptions import ConfigurationError
from pywebtransport.server import RequestRouter
from pywebtransport.server._paths import canonical_path, decoded_path
from pywebtransport.session import WebTransportSession


async def handler(session: WebTransportSession) -> None:
    """Never called."""


def exact(*paths: str) -> RequestRouter:
    router = RequestRouter()
    for path in paths:
        router.add_route(path, handler)
    return router


def pattern(text: str) -> RequestRouter:
    router = RequestRouter()
    router.add_pattern_route(text, handler)
    return router


def params(router: RequestRouter, path: str) -> tuple[Any, ...] | None:
    found = router.match(path)
    return None if found is None else tuple(found[1])


@pytest.mark.parametrize("route", ["/café", "/caf%C3%A9", "/caf%c3%a9", "/c%61f%C3%A9"])
@pytest.mark.parametrize("request_path", ["/caf%C3%A9", "/caf%c3%a9?x=1", "/%63afé"])
def test_each_spelling_is_the_same_path(route: str, request_path: str) -> None:
    router = exact(route)
    assert router.match(request_path) is not None
    assert router.get_route_handler("/café") is handler
    assert router.match("/cafe") is None
    with pytest.raises(ConfigurationError, match="has a handler already"):
        router.add_route("/café", handler)
    router.remove_route("/caf%C3%A9")
    assert router.match(request_path) is None


@pytest.mark.parametrize(
    ("route", "same", "other"),
    [
        ("/a b", ["/a%20b"], ["/a+b", "/a%2520b"]),
        ("/a%2Fb", ["/a%2fb"], ["/a/b", "/a%252Fb"]),
        ("/a/b", ["/a/b"], ["/a%2Fb", "/a%2fb"]),
        ("/100%", ["/100%", "/100%25"], ["/100"]),
        ("/%zz", ["/%zz", "/%25zz"], ["/zz"]),
        ("/%ff", ["/%FF", "/%ff"], ["/%EF%BF%BD", "/%fe"]),
        ("/a%3Fb", ["/a%3fb"], ["/a?b"]),
        ("/~a:@!$&'()*+,;=", ["/%7Ea%3A%40%21$&'()*+,;="], ["/~a"]),
        ("/%00", ["/%00"], ["/"]),
    ],
)
def test_exact_routes(route: str, same: list[str], other: list[str]) -> None:
    router = exact(route)
    for path in same:
        assert router.match(path) is not None, path
    for path in other:
        assert router.match(path) is None, path


@pytest.mark.parametrize(
    ("route", "path", "values"),
    [
        ("/{name}", "/caf%C3%A9", ("café",)),
        ("/{name}", "/a%2Fb", ("a/b",)),
        ("/{name}", "/a%252Fb", ("a%2Fb",)),
        ("/{name}", "/a/b", None),
        ("/{a}/{b}", "/x%2F%2f/y%20z", ("x//", "y z")),
        ("/café/{x}", "/caf%C3%A9/1", ("1",)),
        ("/caf%C3%A9/{x}", "/caf%c3%a9/1", ("1",)),
        ("/a%2Fb/{x}", "/a%2fb/1", ("1",)),
        ("/a%2Fb/{x}", "/a/b/1", None),
        ("/a%2Eb/{x}", "/a.b/1", ("1",)),
        ("/a%2Eb/{x}", "/acb/1", None),
        ("/{n:int}", "/%31%32", (12,)),
        ("/file/{path:path}", "/file/a%0Ab/c%2Fd", ("a\nb/c/d",)),
        ("/room/([^/]+)", "/room/a%2Fb", ("a/b",)),
        (r"/room/(\w+)", "/room/%C3%A9t%C3%A9", ("été",)),
        ("/room/(a)?(b)", "/room/b", (None, "b")),
        ("/{x}", "/%zz%", ("%zz%",)),
        ("/{x}", "/%ff", ("\ufffd",)),
        ("/{x}", "/%ED%B0%AF", ("\ufffd\ufffd\ufffd",)),
    ],
)
def test_patterns(route: str, path: str, values: tuple[Any, ...] | None) -> None:
    assert params(pattern(route), path) == values


def test_parameters_by_name_are_decoded() -> None:
    found = pattern("/{room}/{user:str}").match("/r%C3%A4um/a%2Fb?q=%20")
    assert found is not None
    assert found[1].named == {"room": "räum", "user": "a/b"}


@given(st.text(st.characters(codec="utf-8"), min_size=1, max_size=20))
def test_what_is_encoded_arrives_as_it_was(text: str) -> None:
    assert params(pattern("/x/{name}"), f"/x/{quote(text, safe='')}") == (text,)


@given(st.text(max_size=20), st.text(max_size=20))
def test_any_path_is_compared(one: str, other: str) -> None:
    """Nothing raises, and what is equal once stays equal."""
    for text in (one, f"%{one}", f"%{one}%2f%ff{other}"):
        assert canonical_path(canonical_path(text)) == canonical_path(text)
        assert decoded_path(canonical_path(text)) == decoded_path(text) or not text.isascii()
        router = pattern("/{a}/{b:path}")
        router.match(f"/{text}/{other}")
        exact("/a").match(text)


@pytest.mark.parametrize("bad", ["/a?b", "/a#b", "/a/{name}?b"])
def test_what_no_path_has_is_refused(bad: str) -> None:
    with pytest.raises(ConfigurationError, match="matches no request"):
        exact(bad)
