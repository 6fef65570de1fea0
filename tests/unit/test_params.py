"""Queries of paths, and what routes capture."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pywebtransport.server.router import PathParams
from pywebtransport.utils._params import QueryParams


@pytest.mark.parametrize(
    ("path", "values"),
    [
        ("/", {}),
        ("/?", {}),
        ("/?a=1", {"a": ["1"]}),
        ("/?a=1&b=2&a=3", {"a": ["1", "3"], "b": ["2"]}),
        ("/?a", {"a": [""]}),
        ("/?a=&=b", {"a": [""], "": ["b"]}),
        ("/?a=x+y&b=x%20y&c=%2B", {"a": ["x y"], "b": ["x y"], "c": ["+"]}),
        ("/?caf%C3%A9=%E2%82%AC&bad=%ff", {"café": ["€"], "bad": ["\ufffd"]}),
        ("/?a=1;b=2", {"a": ["1;b=2"]}),
        ("/?a=1?b=2&c==", {"a": ["1?b=2"], "c": ["="]}),
        ("/?%=%zz&&", {"%": ["%zz"]}),
        ("/a=1", {}),
    ],
)
def test_queries(path: str, values: dict[str, list[str]]) -> None:
    query = QueryParams(path)
    assert {name: query.get_all(name) for name in query} == values
    assert query == {name: several[0] for name, several in values.items()}
    assert len(query) == len(values)
    assert query.get("missing") is None
    assert query.get_all("missing") == []
    with pytest.raises(KeyError):
        query["missing"]


def test_a_list_of_a_query_is_the_callers_own() -> None:
    query = QueryParams("/?a=1")
    query.get_all("a").append("2")
    assert query.get_all("a") == ["1"]
    assert repr(query) == "QueryParams({'a': ['1']})"


@given(st.text(max_size=50))
def test_any_query_is_read(text: str) -> None:
    assert dict(QueryParams(f"/?{text}")) == {
        name: QueryParams(f"/?{text}").get_all(name)[0] for name in QueryParams(f"/?{text}")
    }


def test_path_params_are_a_tuple_and_a_mapping_of_names() -> None:
    params = PathParams(("ada", 5, "x"), {"name": "ada", "number": 5})
    assert params == ("ada", 5, "x")
    assert params[0] == params["name"] == params.get("name") == "ada"
    assert params[1:] == (5, "x")
    assert dict(params) == {"name": "ada", "number": 5} == params.named
    assert dict(**params) == dict(params.items())
    assert list(params.keys()) == ["name", "number"]
    assert list(params.values()) == ["ada", 5]
    assert params.get("other") is None
    with pytest.raises(KeyError):
        params["other"]
    with pytest.raises(TypeError):
        params.named["name"] = "bob"  # type: ignore[index]
