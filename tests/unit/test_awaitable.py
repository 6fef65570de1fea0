"""A result that is a bool at once, and when awaited."""

from __future__ import annotations

import asyncio
import inspect
import json
import pickle

import pytest

from pywebtransport.utils._awaitable import NO, YES, AwaitableBool


@pytest.mark.parametrize(("result", "value"), [(YES, True), (NO, False)])
async def test_it_acts_like_the_bool_that_it_stands_for(result: AwaitableBool, value: bool) -> None:
    assert bool(result) is value
    assert result == value
    assert result != (not value)
    assert result == AwaitableBool(value)
    assert hash(result) == hash(value)
    assert {value: "found"}[result] == "found"
    assert (str(result), repr(result), f"{result}") == (str(value), repr(value), f"{value}")
    assert sum([result, result, value]) == 3 * value
    assert ["no", "yes"][result] == ["no", "yes"][value]
    assert bool(result & True) is value
    assert json.loads(json.dumps([result])) == [value]
    assert pickle.loads(pickle.dumps(result)) == value


@pytest.mark.parametrize("value", [True, False])
async def test_it_can_be_awaited_any_number_of_times(value: bool) -> None:
    result = YES if value else NO
    assert await result is value
    assert await result is value
    assert inspect.isawaitable(result)
    assert await asyncio.create_task(result) is value
    assert await asyncio.wait_for(result, 10) is value
    assert await asyncio.gather(result, result) == [value, value]
