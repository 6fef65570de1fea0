"""Binding received parameters to functions."""

from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest

from pywebtransport.exceptions import ConfigurationError
from pywebtransport.rpc import InvalidParamsError
from pywebtransport.rpc._method import Method


@dataclass
class Point:
    x: int
    y: int = 0


@dataclass
class Line:
    points: list[Point]


async def run(function: Any, *params: Any, **named: Any) -> Any:
    return await Method("f", function)(params, named)


async def test_plain_and_async_functions() -> None:
    async def later(value: int) -> int:
        return value + 1

    def now(value: int) -> int:
        return value + 1

    assert await run(later, 1) == await run(now, 1) == 2


async def test_dataclasses_are_rebuilt_however_deep() -> None:
    def total(line: Line, others: list[Point], best: Point | None = None) -> int:
        assert isinstance(line.points[0], Point)
        assert all(isinstance(point, Point) for point in others)
        assert best is None or isinstance(best, Point)
        return sum(point.x for point in [*line.points, *others])

    line = {"points": [{"x": 1}, {"x": 2, "y": 5}]}
    assert await run(total, line, [{"x": 4}]) == 7
    assert await run(total, line, others=[], best={"x": 3}) == 3


async def test_types_of_variable_parameters() -> None:
    def collect(*points: Point, scale: int = 1, **named: Point) -> list[int]:
        return [point.x * scale for point in (*points, *named.values())]

    assert await run(collect, {"x": 1}, {"x": 2}, scale=2, a={"x": 3}) == [2, 4, 6]
    assert await run(collect) == []


async def test_parameters_without_types_stay_as_they_came() -> None:
    def give(a, b: Any, c: object) -> Any:  # type: ignore[no-untyped-def]
        return [a, b, c]

    assert await run(give, {"x": 1}, [1], None) == [{"x": 1}, [1], None]


@pytest.mark.parametrize(
    ("params", "named", "message"),
    [
        ((), {}, "missing a required argument: 'a'"),
        ((1, 2, 3), {}, "too many positional arguments"),
        ((1,), {"c": 1}, "unexpected keyword argument 'c'"),
        ((1,), {"a": 1}, "multiple values for argument 'a'"),
        (("1",), {}, "parameter 'a': int: expected int, got str '1'"),
        ((1,), {"b": {"x": 1, "z": 2}}, "parameter 'b': .*unknown field 'z'"),
        ((1,), {"b": {}}, "parameter 'b': .*missing field x"),
    ],
)
async def test_parameters_that_do_not_fit(
    params: tuple[Any, ...], named: dict[str, Any], message: str
) -> None:
    called = []

    def function(a: int, b: Point | None = None) -> None:
        called.append(a)

    with pytest.raises(InvalidParamsError, match=message) as caught:
        await run(function, *params, **named)
    assert caught.value.remote is None  # so that it is passed on to the caller
    assert called == []


async def test_type_errors_of_the_function_itself_are_its_own() -> None:
    def broken(value: int) -> int:
        return value + "1"  # type: ignore[operator]

    with pytest.raises(TypeError, match="unsupported operand"):
        await run(broken, 1)


async def test_methods_of_objects_and_partials() -> None:
    class Calculator:
        def add(self, a: int, b: int) -> int:
            return a + b

        def __call__(self, a: int) -> int:
            return a

    assert await run(Calculator().add, 1, 2) == 3
    assert await run(Calculator(), 4) == 4
    assert await run(partial(Calculator().add, 5), 6) == 11


def test_functions_without_a_readable_signature_are_refused() -> None:
    def wrong(value: "NoSuchType") -> None:  # type: ignore[name-defined] # noqa: F821
        raise AssertionError

    with pytest.raises(ConfigurationError, match="NoSuchType") as caught:
        Method("wrong", wrong)
    assert caught.value.config_key == "func"
