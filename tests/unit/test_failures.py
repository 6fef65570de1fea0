"""What the application's code raised is told once, whole, and without forged lines."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from pywebtransport.exceptions import (
    ConfigurationError,
    SessionClosedError,
    StreamError,
    StreamResetError,
    StreamStoppedError,
)
from pywebtransport.utils._failures import describe_error, is_normal_end, log_application_error
from pywebtransport.utils._logs import BoundedLog
from pywebtransport.utils._tasks import is_being_cancelled
from tests.support.records import recorded

LOGGER = logging.getLogger("tests.failures")


@pytest.fixture
def records() -> Iterator[list[logging.LogRecord]]:
    with recorded(LOGGER) as found:
        yield found


@dataclass
class Session:
    """What the function wants to know of one."""

    is_closed: bool = False
    session_id: str = "abc-1"
    path: str = '/a"\r\nb'
    remote_address: tuple[str, int] | None = ("192.0.2.1", 4433)


def raised(error: BaseException) -> BaseException:
    try:
        raise error
    except BaseException as caught:
        return caught


@pytest.mark.parametrize("level", ["DEBUG", "INFO", "WARNING", "ERROR"])
def test_an_error_is_told_with_its_traceback_at_every_level(
    records: list[logging.LogRecord], level: str
) -> None:
    LOGGER.setLevel(level)
    error = raised(LookupError("user 42"))
    assert log_application_error(LOGGER, "handler of /a", error, session=Session())
    (record,) = records
    assert record.levelno == logging.ERROR
    assert record.exc_info
    assert record.exc_info[1] is error
    assert record.getMessage() == (
        "handler of /a raised LookupError: user 42 "
        '[session abc-1, path /a\\"\\r\\nb, peer 192.0.2.1 port 4433]'
    )
    text = logging.Formatter().format(record)
    assert "Traceback (most recent call last)" in text
    assert ", in raised\n" in text
    assert record.funcName == "test_an_error_is_told_with_its_traceback_at_every_level"


def test_a_group_is_told_with_its_leaves(records: list[logging.LogRecord]) -> None:
    inner = ExceptionGroup("inner", [raised(LookupError("user 42"))])
    error = raised(BaseExceptionGroup("outer", [inner, raised(ValueError("x")), SystemExit(3)]))
    log_application_error(LOGGER, "handler of /a", error)
    (record,) = records
    message = record.getMessage()
    for leaf in ("LookupError: user 42", "ValueError: x", "SystemExit: 3"):
        assert leaf in message
    text = logging.Formatter().format(record)
    assert text.count(", in raised") >= 3


def test_the_text_of_an_error_forges_no_line(records: list[logging.LogRecord]) -> None:
    nasty = "end\n2030-01-01 ERROR root: forged\r\x1b[31m\u202e\u2028" + 10_000 * "x"
    error = raised(ValueError(nasty))
    error.__cause__ = raised(ExceptionGroup(nasty, [KeyError(nasty), UnicodeError(nasty)]))
    error.add_note(nasty)
    log_application_error(LOGGER, "handler of /a", error)
    (record,) = records
    text = logging.Formatter().format(record)
    assert all(line.isprintable() for line in text.split("\n"))
    assert max(map(len, text.split("\n"))) < 5000


RESET = StreamResetError(stream_id=4, error_code=7)
CLOSED = SessionClosedError(remote=True)


@pytest.mark.parametrize(
    ("error", "alone", "living", "over"),
    [
        (CLOSED, True, False, True),
        (RESET, True, True, True),
        (StreamStoppedError(stream_id=4), True, True, True),
        (StreamError("the stream is closed"), False, False, True),
        (ConfigurationError("wrong"), False, False, False),
        (asyncio.CancelledError(), False, False, True),
        (LookupError(), False, False, False),
        (ExceptionGroup("g", [RESET, ExceptionGroup("h", [CLOSED])]), True, False, True),
        (ExceptionGroup("g", [RESET, LookupError()]), False, False, False),
        (BaseExceptionGroup("g", [CLOSED, KeyboardInterrupt()]), False, False, False),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else str(value),
)
def test_normal_ends(error: BaseException, alone: bool, living: bool, over: bool) -> None:
    assert is_normal_end(error) is alone
    assert is_normal_end(error, Session()) is living
    assert is_normal_end(error, Session(is_closed=True)) is over


def test_a_normal_end_is_no_error(records: list[logging.LogRecord]) -> None:
    assert not log_application_error(LOGGER, "h", CLOSED)
    assert not log_application_error(LOGGER, "h", CLOSED, session=Session(is_closed=True))
    assert log_application_error(LOGGER, "h", RESET, session=Session())
    levels = [record.levelname for record in records]
    assert levels == ["DEBUG", "DEBUG", "WARNING"]
    assert [bool(record.exc_info) for record in records] == [False, False, True]


async def test_whose_a_cancellation_is() -> None:
    own, foreign = [], []
    waits = asyncio.Event()

    async def waits_for_a_cancelled_one() -> None:
        future = asyncio.get_running_loop().create_future()
        future.cancel()
        try:
            await future
        except asyncio.CancelledError:
            own.append(is_being_cancelled())

    async def is_cancelled() -> None:
        waits.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            foreign.append(is_being_cancelled())

    await asyncio.create_task(waits_for_a_cancelled_one())
    task = asyncio.create_task(is_cancelled())
    await waits.wait()
    task.cancel()
    await task
    assert (own, foreign) == ([False], [True])


def test_nobody_cancels_without_a_loop() -> None:
    assert not is_being_cancelled()


def test_lines_of_a_kind_are_bounded_and_counted(records: list[logging.LogRecord]) -> None:
    log = BoundedLog(LOGGER, interval=3600.0)
    for number in range(1000):
        log.tell("limit", logging.INFO, "refused %d", number)
    log.tell("origin", logging.INFO, "refused for its origin")
    assert log.counts == {"limit": 1000, "origin": 1}
    log.flush()
    assert [record.getMessage() for record in records] == [
        "refused 0",
        "refused for its origin",
        "999 more of kind 'limit' in the last 1 s were not shown",
    ]


def test_a_line_says_how_many_were_not_shown(records: list[logging.LogRecord]) -> None:
    log = BoundedLog(LOGGER, interval=3600.0)
    for number in range(3):
        log.tell("limit", logging.INFO, "refused %d", number)
    log._interval = 0.0
    log.tell("limit", logging.INFO, "refused %d", 3)
    assert [record.getMessage() for record in records] == [
        "refused 0",
        "refused 3 (and 2 more of these in the last 1 s were not shown)",
    ]


class _Mute(Exception):
    def __str__(self) -> str:
        raise RuntimeError("it does not say")


def test_a_description_keeps_quotes_and_escapes_lines() -> None:
    assert describe_error(KeyError("token")) == "KeyError: 'token'"
    assert describe_error(ValueError("no\r\nforged \x1b[31m")) == (
        "ValueError: no\\r\\nforged \\x1b[31m"
    )
    assert describe_error(_Mute()) == "_Mute: <_Mute>"
