"""Helpers for data, checks, time, tasks and logging."""

import asyncio
import builtins
import hashlib
import io
import logging
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pywebtransport import utils
from pywebtransport.exceptions import ConfigurationError, TimeoutError

# ------------------------------------------------------------------------ data


@pytest.mark.parametrize(
    "data", [b"\xc3\xa4", bytearray(b"\xc3\xa4"), memoryview(b"\xc3\xa4"), "ä"]
)
def test_bytes_and_text(data: Any) -> None:
    assert utils.ensure_bytes(data) == b"\xc3\xa4"
    assert type(utils.ensure_bytes(data)) is bytes
    assert utils.ensure_str(data=data) == "ä"


def test_encoding_is_respected() -> None:
    assert utils.ensure_bytes("ä", encoding="latin-1") == b"\xe4"


@pytest.mark.parametrize("data", [3, None, [1]])
def test_other_types_are_refused(data: Any) -> None:
    with pytest.raises(ConfigurationError, match=type(data).__name__):
        utils.ensure_bytes(data)
    with pytest.raises(ConfigurationError):
        utils.ensure_str(data)


def test_checksum() -> None:
    assert utils.calculate_checksum(b"x") == hashlib.sha256(b"x").hexdigest()
    assert utils.calculate_checksum(data=b"x", algorithm="md5") == hashlib.md5(b"x").hexdigest()


@pytest.mark.parametrize("algorithm", ["crc32", "shake_128"])
def test_unknown_checksum_is_refused(algorithm: str) -> None:
    with pytest.raises(ConfigurationError, match="sha256"):
        utils.calculate_checksum(b"x", algorithm=algorithm)


@given(st.binary(max_size=200), st.integers(1, 50))
def test_chunks_join_to_the_whole(data: bytes, size: int) -> None:
    chunks = utils.chunked_read(data, chunk_size=size)
    assert b"".join(chunks) == data
    assert all(len(chunk) == size for chunk in chunks[:-1])
    assert all(0 < len(chunk) <= size for chunk in chunks)


def test_chunk_size_must_be_positive() -> None:
    with pytest.raises(ConfigurationError, match="chunk_size = 0"):
        utils.chunked_read(b"x", chunk_size=0)


def test_format_bytes() -> None:
    assert utils.format_bytes(b"abc") == "b'abc'"
    assert utils.format_bytes(data=b"abcdef", max_length=3) == "b'abc'... (6 bytes)"


def test_merge_configs_merges_dictionaries_inside() -> None:
    base = {"a": 1, "b": {"c": 2, "d": 3}, "e": {"f": 4}}
    merged = utils.merge_configs(base_config=base, override_config={"b": {"c": 5}, "e": 6, "g": 7})
    assert merged == {"a": 1, "b": {"c": 5, "d": 3}, "e": 6, "g": 7}
    assert base["b"] == {"c": 2, "d": 3}


def test_normalize_headers() -> None:
    headers = {"X-Number": 3, "X-Bytes": b"\xc3\xa4", "X-Latin": b"\xe4", "X-Text": " a "}
    assert utils.normalize_headers(headers) == {
        "x-number": "3",
        "x-bytes": "ä",
        "x-latin": "ä",
        "x-text": "a",
    }


@pytest.mark.parametrize(
    ("make", "length"),
    [
        (utils.generate_connection_id, 16),
        (utils.generate_request_id, 16),
        (utils.generate_session_id, 32),
    ],
)
def test_identifiers_are_hex_and_different(make: Any, length: int) -> None:
    made = {make() for _ in range(100)}
    assert len(made) == 100
    assert all(len(bytes.fromhex(item)) * 2 == length for item in made)


# ---------------------------------------------------------------------- checks

NOT_INTEGERS = (None, "1", 1.0, True, b"1")


@given(st.integers(0, 2**32 - 1))
def test_application_codes_of_32_bits_are_accepted(code: int) -> None:
    utils.validate_error_code(code)


@given(st.integers().filter(lambda code: not 0 <= code < 2**32))
def test_other_application_codes_are_refused(code: int) -> None:
    with pytest.raises(ConfigurationError, match="0 to 4294967295"):
        utils.validate_error_code(code)


@pytest.mark.parametrize("value", NOT_INTEGERS)
@pytest.mark.parametrize(
    "check", [utils.validate_error_code, utils.validate_port, utils.validate_stream_id]
)
def test_checks_want_integers(check: Any, value: Any) -> None:
    with pytest.raises(ConfigurationError) as caught:
        check(value)
    assert caught.value.config_value == value


def test_port_and_stream_ranges() -> None:
    utils.validate_port(port=1)
    utils.validate_port(65535)
    utils.validate_stream_id(stream_id=0)
    utils.validate_stream_id(2**62 - 1)
    for check, value in (
        (utils.validate_port, 0),
        (utils.validate_port, 65536),
        (utils.validate_stream_id, -1),
        (utils.validate_stream_id, 2**62),
    ):
        with pytest.raises(ConfigurationError, match=str(value)):
            check(value)


def test_addresses() -> None:
    utils.validate_address(("localhost", 0))
    utils.validate_address(address=("::1", 65535))
    for value in (None, "a:1", ("a",), ("", 1), ("a", "1"), ("a", 65536), ("a", True), ["a", 1]):
        with pytest.raises(ConfigurationError, match="address"):
            utils.validate_address(value)


def test_session_ids() -> None:
    utils.validate_session_id(session_id="4")
    for value in (None, "", 4, "a\nb"):
        with pytest.raises(ConfigurationError, match="session_id"):
            utils.validate_session_id(value)


# ------------------------------------------------------------------------ time


def test_timer_measures_from_start_to_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([1.0, 3.5, 10.0, 12.0, 13.0])
    monkeypatch.setattr("time.perf_counter", lambda: next(clock))
    timer = utils.Timer(name="upload")
    assert timer.elapsed == 0.0
    timer.start()
    assert timer.stop() == 2.5
    assert timer.elapsed == 2.5
    with timer:
        assert timer.elapsed == 2.0
    assert (timer.start_time, timer.end_time, timer.elapsed) == (10.0, 13.0, 3.0)


def test_timer_must_be_started() -> None:
    with pytest.raises(RuntimeError, match="'upload' was not started"):
        utils.Timer(name="upload").stop()


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0.0us"),
        (0.00085, "850.0us"),
        (0.0123, "12.3ms"),
        (1.26, "1.3s"),
        (61, "1m 1s"),
        (3723.9, "1h 2m 3s"),
        (-61, "-1m 1s"),
    ],
)
def test_format_duration(seconds: float, text: str) -> None:
    assert utils.format_duration(seconds) == text


def test_format_timestamp() -> None:
    assert utils.format_timestamp(timestamp=0.5) == "1970-01-01T00:00:00.500+00:00"


def test_timestamp_is_the_time_of_day(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.time", lambda: 12.5)
    assert utils.get_timestamp() == 12.5


# ----------------------------------------------------------------------- tasks


async def give(value: int) -> int:
    await asyncio.sleep(0)
    return value


async def raise_own_timeout() -> int:
    raise builtins.TimeoutError("own")


async def forever() -> int:
    await asyncio.Event().wait()
    return 0


async def test_run_with_timeout() -> None:
    assert await utils.run_with_timeout(give(1), timeout=60) == 1
    assert await utils.run_with_timeout(coro=forever(), timeout=0) is None
    assert await utils.run_with_timeout(forever(), timeout=0, default_value=7) == 7
    with pytest.raises(builtins.TimeoutError, match="own"):
        await utils.run_with_timeout(raise_own_timeout(), timeout=60)


async def test_create_task_with_timeout() -> None:
    task = await utils.create_task_with_timeout(give(1), timeout=60, name="mine")
    assert task.get_name() == "mine"
    assert await task == 1
    assert await (await utils.create_task_with_timeout(coro=give(2))) == 2
    late = await utils.create_task_with_timeout(forever(), timeout=0, name="mine")
    with pytest.raises(TimeoutError, match="mine took longer than 0 seconds"):
        await late
    own = await utils.create_task_with_timeout(raise_own_timeout(), timeout=60)
    with pytest.raises(builtins.TimeoutError, match="own"):
        await own


async def test_task_that_is_cancelled_before_it_starts_leaves_no_coroutine() -> None:
    coroutine = give(1)
    task = await utils.create_task_with_timeout(coroutine, timeout=60)
    task.cancel()
    await asyncio.wait({task})
    assert task.cancelled()
    with pytest.raises(RuntimeError, match="cannot reuse"):
        coroutine.send(None)


class Clock:
    """Virtual time for ``wait_for_condition``: sleeping only moves the clock."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        self.pauses: list[float] = []
        monkeypatch.setattr(asyncio, "sleep", self.sleep)

    async def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.now += seconds


@pytest.mark.loops("asyncio")  # the clock of this one can be replaced
async def test_wait_for_condition_asks_once_per_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)

    monkeypatch.setattr(asyncio.get_running_loop(), "time", lambda: clock.now)
    await utils.wait_for_condition(lambda: clock.now >= 0.5, interval=0.2)
    assert clock.pauses == [0.2, 0.2, 0.2]
    clock.pauses.clear()
    await utils.wait_for_condition(condition=lambda: True, timeout=0)
    assert clock.pauses == []


@pytest.mark.loops("asyncio")  # the clock of this one can be replaced
async def test_wait_for_condition_ends_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    asked = 0

    def condition() -> bool:
        nonlocal asked
        asked += 1
        return False

    monkeypatch.setattr(asyncio.get_running_loop(), "time", lambda: clock.now)
    with pytest.raises(TimeoutError, match=r"not met within 0\.5 seconds") as caught:
        await utils.wait_for_condition(condition, timeout=0.5, interval=0.25)
    assert (caught.value.timeout_duration, clock.now) == (0.5, 0.5)
    assert clock.pauses == [0.25, 0.25]
    assert asked == 3


@pytest.mark.parametrize("interval", [0, -1, float("nan")])
def test_wait_for_condition_does_not_spin(interval: float) -> None:
    with pytest.raises(ConfigurationError, match="interval"):
        asyncio.run(utils.wait_for_condition(lambda: False, interval=interval))


# --------------------------------------------------------------------- logging


@pytest.fixture
def logger_name() -> Iterator[str]:
    name = "pywebtransport_test_logging"
    yield name
    logger = logging.getLogger(name)
    for handler in list(logger.handlers):
        logger.removeHandler(handler)
        handler.close()
    logger.setLevel(logging.NOTSET)
    logger.propagate = True


def test_setup_logging_touches_its_logger_only(logger_name: str) -> None:
    root = logging.getLogger()
    before = (root.level, list(root.handlers))
    logger = utils.setup_logging("debug", logger_name=logger_name)
    assert logger is utils.get_logger(logger_name)
    assert (logger.level, len(logger.handlers)) == (logging.DEBUG, 1)
    assert (root.level, list(root.handlers)) == before


def test_setup_logging_again_changes_instead_of_adding(logger_name: str) -> None:
    utils.setup_logging(logger_name=logger_name)
    other = logging.NullHandler()
    utils.get_logger(logger_name).addHandler(other)
    logger = utils.setup_logging("ERROR", format_string="<%(message)s>", logger_name=logger_name)
    assert len(logger.handlers) == 2
    assert other in logger.handlers
    own = next(item for item in logger.handlers if isinstance(item, logging.StreamHandler))
    own.setStream(stream := io.StringIO())
    logger.error("once")
    logger.info("not shown")
    assert stream.getvalue() == "<once>\n"


def test_setup_logging_refuses_the_root_and_unknown_levels() -> None:
    for name in ("", "root"):
        with pytest.raises(ConfigurationError, match="root logger"):
            utils.setup_logging(logger_name=name)
    for level in ("loud", 10):
        with pytest.raises(ConfigurationError, match="DEBUG, INFO"):
            utils.setup_logging(level)  # type: ignore[arg-type]


def test_get_logger_configures_nothing(logger_name: str) -> None:
    logger = utils.get_logger(name=logger_name)
    assert (logger.name, logger.handlers, logger.level) == (logger_name, [], logging.NOTSET)
