"""The order of interceptors, and what they may do."""

import functools
from typing import Any, cast

import pytest

from pywebtransport import ConfigurationError
from pywebtransport.rpc import Proceed, RpcCall, RpcDirection
from pywebtransport.rpc._call import check_interceptor, run_intercepted
from pywebtransport.session import WebTransportSession


def make_call() -> RpcCall:
    session = cast("WebTransportSession", object())
    return RpcCall(session=session, direction=RpcDirection.OUTGOING, method="f", params=(1,))


async def test_the_first_one_is_outermost() -> None:
    steps: list[str] = []

    def noting(name: str) -> Any:
        async def interceptor(call: RpcCall, proceed: Proceed) -> Any:
            steps.append(f"{name} in")
            result = await proceed()
            steps.append(f"{name} out")
            return result + name

        return interceptor

    async def innermost() -> str:
        steps.append("call")
        return "r"

    assert await run_intercepted([noting("a"), noting("b")], make_call(), innermost) == "rba"
    assert steps == ["a in", "b in", "call", "b out", "a out"]


async def test_without_interceptors_there_is_only_the_call() -> None:
    async def innermost() -> int:
        return 5

    assert await run_intercepted([], make_call(), innermost) == 5


async def test_an_interceptor_may_answer_or_refuse_by_itself() -> None:
    async def innermost() -> None:
        raise AssertionError("not reached")

    async def answer(call: RpcCall, proceed: Proceed) -> Any:
        return call.params[0] + 1

    async def refuse(call: RpcCall, proceed: Proceed) -> Any:
        raise PermissionError(call.method)

    assert await run_intercepted([answer, refuse], make_call(), innermost) == 2
    with pytest.raises(PermissionError, match="f"):
        await run_intercepted([refuse, answer], make_call(), innermost)


def test_an_interceptor_is_judged_by_its_own_parameters() -> None:
    """Not by those of what a decorator wraps."""

    def with_a_name(function: Any) -> Any:
        @functools.wraps(function)
        async def interceptor(call: RpcCall, proceed: Proceed) -> Any:
            return await function(call, proceed, "name")

        return interceptor

    @with_a_name
    async def three(call: RpcCall, proceed: Proceed, name: str) -> Any:
        return await proceed()

    check_interceptor(three)

    def spoiled(function: Any) -> Any:
        @functools.wraps(function)
        async def interceptor(call: RpcCall) -> Any: ...

        return interceptor

    @spoiled
    async def two(call: RpcCall, proceed: Proceed) -> Any: ...

    with pytest.raises(ConfigurationError, match=r"async def interceptor\(call, proceed\)"):
        check_interceptor(two)
