"""Header fields: a dictionary that knows the lines."""

import copy
import pickle
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pywebtransport import _header_map
from pywebtransport.exceptions import SessionRejectedError
from pywebtransport.types import HeaderMap

names = st.sampled_from(["a", "b", "cookie", "set-cookie"])
pairs = st.lists(st.tuples(names, st.text(max_size=5)), max_size=12)


@given(pairs)
def test_nothing_is_lost(lines: list[tuple[str, str]]) -> None:
    headers = HeaderMap(lines)
    for name in ("a", "b", "cookie", "set-cookie"):
        assert headers.get_all(name) == [value for key, value in lines if key == name]
    assert sorted(headers.lines) == sorted(lines)
    for twin in (headers.copy(), copy.copy(headers), pickle.loads(pickle.dumps(headers))):
        assert isinstance(twin, HeaderMap)
        assert twin == headers == dict(headers)
        assert twin.lines == headers.lines


def test_the_dictionary_rules() -> None:
    headers = HeaderMap([("a", "1"), ("a", "2"), ("set-cookie", "x"), ("set-cookie", "y")])
    assert headers == {"a": "1, 2", "set-cookie": "x"}
    headers["a"] = "3"
    headers.update({"set-cookie": "z"})
    headers["b"] = "4"
    assert headers.lines == [("a", "3"), ("set-cookie", "z"), ("b", "4")]
    headers.set_all("b", ["5", "6"])
    assert headers["b"] == "5, 6"
    headers.set_all("b", [])
    del headers["a"]
    assert headers == {"set-cookie": "z"}
    assert headers.get_all("a") == headers.get_all("b") == []


def test_a_copy_is_independent() -> None:
    headers = HeaderMap([("a", "1"), ("a", "2")])
    twin = headers.copy()
    twin.set_all("a", ["3", "4", "5"])
    assert headers.get_all("a") == ["1", "2"]


def test_a_rejection_keeps_the_lines() -> None:
    error = SessionRejectedError(headers=HeaderMap([("set-cookie", "a"), ("set-cookie", "b")]))
    for twin in (error, pickle.loads(pickle.dumps(error)), copy.copy(error)):
        assert isinstance(twin.headers, HeaderMap)
        assert twin.headers.get_all("set-cookie") == ["a", "b"]
        assert twin.headers == {"set-cookie": "a"}
    error = SessionRejectedError(headers={"Retry-After": 3, "set-cookie": ["a", "b"]})
    assert error.headers == {"Retry-After": "3", "set-cookie": "a"}
    assert error.headers.get_all("set-cookie") == ["a", "b"]
    assert HeaderMap.of({"x": ["a", None]}) == {"x": ["a", None]}  # type: ignore[list-item]


def test_many_lines_of_one_name_are_joined_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A peer chooses how many: joining all of them for each one would take its square."""
    handled = 0
    joined = _header_map._joined

    def count(name: str, values: Sequence[str]) -> str:
        nonlocal handled
        handled += len(values)
        return joined(name, values)

    monkeypatch.setattr(_header_map, "_joined", count)
    HeaderMap([("a", "1")] * 250 + [("b", "2"), ("c", "3"), ("c", "4")])
    assert handled == 252
