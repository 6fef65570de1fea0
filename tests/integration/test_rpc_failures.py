"""What goes wrong in a remote call is told: to the caller, and to the log with a traceback."""

from __future__ import annotations

import asyncio
import datetime
import decimal
import logging
import math
import uuid
from dataclasses import dataclass, field
from typing import Any

import pytest

from pywebtransport import ConfigurationError, SerializationError
from pywebtransport.rpc import (
    InvalidParamsError,
    RpcCall,
    RpcError,
    RpcErrorCode,
    RpcManager,
    RpcTimeoutError,
)
from pywebtransport.rpc.call import Proceed
from pywebtransport.serializer import JSONSerializer, MsgPackSerializer
from tests.integration.test_rpc import Managers, Waiting, idle, managers
from tests.support.endpoints import PairOfSessions
from tests.support.leaks import ExpectedLogs
from tests.support.messages import Colour, Everything, Rights, everything
from tests.support.random_types import Place, Shade
from tests.support.steps import until

pytestmark = pytest.mark.loops("virtual")

__all__ = ["managers"]


class Halt(BaseException):
    """No Exception, and no end of the program."""


def cancelled() -> None:
    raise asyncio.CancelledError("by itself")


async def waits_for_what_is_cancelled() -> None:
    future = asyncio.get_running_loop().create_future()
    future.cancel("not us")
    await future


async def a_group() -> None:
    raise ExceptionGroup("several", [ValueError("first leaf"), ExceptionGroup("", [KeyError("k")])])


async def halts() -> None:
    raise Halt("no exception")


@pytest.mark.parametrize(
    ("handler", "logged"),
    [
        (cancelled, "raised CancelledError: by itself"),
        (waits_for_what_is_cancelled, "raised CancelledError"),
        (a_group, "ValueError: first leaf; KeyError: 'k'|ValueError: first leaf; KeyError"),
        (halts, "raised Halt: no exception"),
    ],
)
async def test_whatever_a_handler_raises_answers_the_caller_and_is_logged(
    managers: Managers,
    expected_logs: ExpectedLogs,
    caplog: pytest.LogCaptureFixture,
    handler: Any,
    logged: str,
) -> None:
    expected_logs(f"handler of '{handler.__name__}' raised .*")
    async with managers() as (near, far):
        far.register(handler)
        with pytest.raises(RpcError, match="internal error") as caught:
            await near.call(handler.__name__)
        assert (caught.value.error_code, caught.value.remote) == (RpcErrorCode.INTERNAL_ERROR, True)
        assert far.active_calls["incoming"] == 0
        await idle(near, far)
    (record,) = [one for one in caplog.records if one.levelno == logging.ERROR]
    assert any(words in record.getMessage() for words in logged.split("|"))
    # Where, at every level; and whose session it was.
    assert handler.__name__ in (record.exc_text or "")
    assert f"session {far.session.session_id}, path /" in record.getMessage()


async def test_a_handler_cancelled_by_its_caller_is_no_error(managers: Managers) -> None:
    async with managers() as (near, far):
        waiting = far.register(Waiting(), name="wait")
        call = asyncio.create_task(near.call("wait"))
        await waiting.started.wait()
        call.cancel()
        await asyncio.wait([call])
        await waiting.cancelled.wait()
        await idle(near, far)


async def test_a_notification_that_fails_is_logged(
    managers: Managers, expected_logs: ExpectedLogs
) -> None:
    expected_logs("handler of 'cancelled' raised CancelledError")
    async with managers() as (near, far):
        far.register(cancelled)
        done = far.register(Waiting(), name="done")
        await near.notify("cancelled")
        await near.notify("done")
        await done.started.wait()
        done.go_on.set()
        await idle(near, far)


async def test_an_interceptor_s_own_cancellation_is_an_error_of_the_call(
    managers: Managers, expected_logs: ExpectedLogs
) -> None:
    async def outgoing(call: RpcCall, proceed: Proceed) -> Any:
        if call.direction == "outgoing":
            raise asyncio.CancelledError
        return await proceed()

    async def incoming(call: RpcCall, proceed: Proceed) -> Any:
        raise asyncio.CancelledError

    expected_logs("handler of 'f' raised CancelledError")
    async with managers(near={"interceptors": [outgoing]}) as (near, _):
        with pytest.raises(RpcError, match="interceptor was cancelled from within") as caught:
            await near.call("f")
        assert caught.value.remote is False
    async with managers(far={"interceptors": [incoming]}) as (near, _):
        with pytest.raises(RpcError, match="internal error"):
            await near.call("f")


def plain(call: RpcCall, proceed: Proceed) -> int:
    return 5


async def test_an_interceptor_that_is_no_coroutine_function_is_named(managers: Managers) -> None:
    async with managers(near={"interceptors": [plain]}) as (near, _):
        with pytest.raises(ConfigurationError, match="expected 'async def'"):
            await near.call("f")


# -------------------------------------------------------------------------- limits


async def test_a_call_whose_time_is_up_says_what_it_waited_for(managers: Managers) -> None:
    async with managers(near={"concurrency_limit": 1}) as (near, far):
        waiting = far.register(Waiting(), name="wait")
        with pytest.raises(RpcTimeoutError, match="the peer's answer") as caught:
            await near.call("wait", timeout=0.1)
        first = asyncio.create_task(near.call("wait"))
        await until(lambda: near.active_calls["outgoing"] == 1)
        with pytest.raises(RpcTimeoutError, match=r"one of 1 calls .*concurrency_limit") as caught:
            await near.call("wait", timeout=0.1)
        assert "concurrency_limit" in caught.value.details["waited_for"]
        waiting.go_on.set()
        await first


async def test_a_stream_limit_is_named_by_the_timeout(managers: Managers) -> None:
    async with managers(server={"initial_max_streams_bidi": 1}) as (near, far):
        waiting = far.register(Waiting(), name="wait")
        first = asyncio.create_task(near.call("wait"))
        await waiting.started.wait()
        with pytest.raises(RpcTimeoutError, match="a stream limit, of the peer"):
            await near.call("wait", timeout=0.1)
        with pytest.raises(RpcTimeoutError, match=r"not sent .* stream limit"):
            await near.notify("wait", timeout=0.1)
        waiting.go_on.set()
        await first


async def test_the_caller_of_an_answer_that_is_too_large_hears_the_limit(
    managers: Managers, expected_logs: ExpectedLogs
) -> None:
    expected_logs("an answer cannot be sent: the Result message .*method 'large'")
    async with managers(far={"max_message_size": 1000}) as (near, far):
        far.register(lambda: "x" * 1000, name="large")
        with pytest.raises(RpcError, match="larger than max_message_size=1000") as caught:
            await near.call("large")
        assert caught.value.error_code == RpcErrorCode.INTERNAL_ERROR


# --------------------------------------------------------------------------- types

DAY = datetime.date(2026, 1, 2)


@dataclass(frozen=True)
class Wide:
    """What a parameter or result may be made of."""

    when: datetime.datetime | str
    by_number: dict[int, str] = field(default_factory=dict)
    by_day: dict[datetime.date, uuid.UUID] = field(default_factory=dict)
    by_pair: dict[tuple[int, str], frozenset[int]] = field(default_factory=dict)
    took: datetime.timedelta = datetime.timedelta(days=-1, microseconds=3)
    place: Place | None = None
    shade: Shade | str = Shade.DARK
    raw: bytearray = field(default_factory=lambda: bytearray(b"\x00"))


WIDE = Wide(
    datetime.datetime(2026, 1, 2, 3, tzinfo=datetime.UTC),
    {1: "a", -(2**60): "b"},
    {DAY: uuid.UUID(int=3)},
    {(1, "x"): frozenset({1, 2})},
    place=Place("p", (1.0, 2.0), DAY),
)

VALUES: list[tuple[Any, Any]] = [
    (Wide, WIDE),
    (Everything, everything()),
    (list[Wide], [WIDE, Wide("text")]),
    (dict[int, str], {1: "a"}),
    (dict[datetime.date, int], {DAY: 1}),
    (dict[tuple[int, ...], set[int]], {(1, 2): {3}}),
    (datetime.date, DAY),
    (datetime.datetime | str, "tomorrow"),
    (datetime.datetime | str, datetime.datetime(2026, 1, 2)),
    (datetime.timedelta | None, datetime.timedelta(1)),
    (decimal.Decimal, decimal.Decimal("1.50")),
    (Colour, Colour.PAIR),
    (Rights, Rights.READ | Rights.WRITE),
    (Place, Place("p", (1.0, 2.0))),
    (bytes, b"\x00\xff"),
    (frozenset[uuid.UUID], frozenset({uuid.UUID(int=1)})),
    (int, 2**63),
    (str, "2026-01-02"),
]


@pytest.mark.loops("asyncio")
@pytest.mark.parametrize("serializer", [JSONSerializer, MsgPackSerializer])
async def test_parameters_and_results_come_as_they_were(
    managers: Managers, serializer: Any
) -> None:
    options = {"serializer": serializer()}
    async with managers(near=options, far=options) as (near, far):
        for number, (kind, value) in enumerate(VALUES):
            received: list[Any] = []

            def method(one: Any, *, other: Any, received: list[Any] = received) -> Any:
                received += [one, other]
                return one

            method.__annotations__.update(one=kind, other=kind)
            far.register(method, name=f"method{number}")
            result = await near.call(
                f"method{number}", value, named_params={"other": value}, result_type=kind
            )
            assert [*received, result] == [value] * 3
            assert {type(one) for one in (*received, result)} == {type(value)}


async def test_what_cannot_be_sent_is_refused_before_anything_is_sent(managers: Managers) -> None:
    async with managers() as (near, far):
        far.register(lambda value: value, name="echo")
        for value, words in (
            (object(), r"Request.params\[0\]: .* no plain form"),
            (math.nan, r"Request.params\[0\]"),
            ([1, {"a": "\ud800"}], r"Request.params\[0\]\[1\]\['a'\]: .*surrogates"),
            (10**5000, "4300 digits"),
            (Wide(5), r"Request.params\[0\].when: expected"),  # type: ignore[arg-type]
            (Wide("2026-01-02T00:00:00"), r"when: .* would be read as datetime"),
        ):
            with pytest.raises(SerializationError, match=words):
                await near.call("echo", value)
        assert await near.call("echo", 1) == 1
        with pytest.raises(InvalidParamsError):
            await near.call("echo", 1, 2)


async def test_the_text_of_an_error_may_be_anything(
    managers: Managers, expected_logs: ExpectedLogs
) -> None:
    expected_logs(r"an answer cannot be sent: .*Failure.code: expected int, got str")
    async with managers() as (near, far):

        @far.register
        def broken(code: Any, text: Any) -> None:
            raise RpcError(text, error_code=code)

        with pytest.raises(RpcError, match="5") as caught:
            await near.call("broken", 7, 5)
        assert caught.value.error_code == 7
        with pytest.raises(RpcError, match="internal error"):
            await near.call("broken", "x", "text")


# ----------------------------------------------------------------- wrong arguments


@pytest.mark.parametrize(
    "options",
    [
        {"interceptors": 5},
        {"interceptors": "ab"},
        {"interceptors": [5]},
        {"interceptors": [lambda call: None]},
        {"serializer": 5},
        {"serializer": JSONSerializer},
        {"default_timeout": math.nan},
        {"default_timeout": "5"},
        {"default_timeout": True},
        {"request_timeout": -1},
        {"request_timeout": None},
        {"max_message_size": 1.5},
        {"concurrency_limit": "5"},
        {"concurrency_limit": True},
    ],
    ids=lambda options: str(options).partition(" at 0x")[0],
)
@pytest.mark.loops("asyncio")
async def test_wrong_options_of_a_manager(pair: PairOfSessions, options: dict[str, Any]) -> None:
    async with pair() as (client, _):
        with pytest.raises(ConfigurationError, match=next(iter(options))):
            RpcManager(client, **options)
        assert not client.is_closed


@pytest.mark.loops("asyncio")
async def test_what_is_no_session_is_refused() -> None:
    for session in (None, 5, "session", RpcManager):
        with pytest.raises(ConfigurationError, match="session"):
            RpcManager(session)  # type: ignore[arg-type]


@pytest.mark.loops("asyncio")
async def test_wrong_arguments_of_calls(managers: Managers) -> None:
    async with managers() as (near, far):
        calls = far.register(Waiting(), name="wait")
        for options in (
            {"timeout": -1},
            {"timeout": math.nan},
            {"timeout": "5"},
            {"timeout": math.inf},
            {"named_params": [1]},
            {"named_params": {1: 2}},
            {"named_params": "x"},
            {"metadata": 5},
            {"metadata": {"a": 1}},
            {"metadata": {str(number): "" for number in range(65)}},
            {"result_type": 5},
            {"result_type": "int"},
        ):
            with pytest.raises(ConfigurationError, match=next(iter(options))):
                await near.call("wait", **options)  # type: ignore[arg-type]
            if "result_type" not in options:
                with pytest.raises(ConfigurationError, match=next(iter(options))):
                    await near.notify("wait", **options)  # type: ignore[arg-type]
        for method in ("", None, 5, "x" * 257, "a\nb", b"wait"):
            with pytest.raises(RpcError, match="method must be"):
                await near.call(method)  # type: ignore[arg-type]
            with pytest.raises(ConfigurationError, match="name"):
                far.register(len, name=method if method is not None else 5)  # type: ignore[arg-type]
        for function in (5, "f", object()):
            with pytest.raises(ConfigurationError, match="func"):
                far.register(function, name="f")  # type: ignore[type-var]

        def odd(value: Any) -> None: ...

        odd.__annotations__["value"] = 5
        with pytest.raises(ConfigurationError, match="parameter value"):
            far.register(odd)
        far.unregister([])  # type: ignore[arg-type]
        assert far.methods == ("wait",)
        assert calls.most == 0
        assert (await near.session.get_session_stats())["streams_created"] == 0
