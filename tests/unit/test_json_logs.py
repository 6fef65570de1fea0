"""Logs as lines of JSON."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import pytest

from pywebtransport.exceptions import ConfigurationError
from pywebtransport.utils import JsonFormatter, setup_logging
from pywebtransport.utils._failures import log_application_error


@pytest.fixture
def stream() -> Iterator[tuple[logging.Logger, io.StringIO]]:
    """A logger of its own, and what it prints."""
    name = "pywebtransport_test_json"
    logger = setup_logging(level="DEBUG", logger_name=name, json_lines=True)
    (handler,) = logger.handlers
    assert isinstance(handler, logging.StreamHandler)
    handler.setStream(text := io.StringIO())
    yield logger, text
    logger.removeHandler(handler)
    handler.close()
    logger.setLevel(logging.NOTSET)
    logger.propagate = True


def lines(text: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.getvalue().splitlines()]


def test_each_record_is_a_line_with_its_fields(
    stream: tuple[logging.Logger, io.StringIO],
) -> None:
    logger, text = stream
    logger.info("hello %s\nand more \u2028 \x1b[31m", "you")
    assert text.getvalue().isascii()
    (found,) = lines(text)
    moment = datetime.fromisoformat(found.pop("time"))
    assert moment.tzinfo is not None
    assert found.pop("process") > 0
    assert found == {
        "level": "INFO",
        "logger": logger.name,
        "message": "hello you\nand more \u2028 \x1b[31m",
    }


def test_extra_becomes_fields_that_json_can_hold(
    stream: tuple[logging.Logger, io.StringIO],
) -> None:
    logger, text = stream
    extra = {"status": 404, "when": float("nan"), "where": (1, b"\xff"), "what": object, "time": 1}
    logger.warning("x", extra=extra)
    (found,) = lines(text)
    assert (found["status"], found["when"], found["where"]) == (404, "nan", [1, "ff"])
    assert found["what"] == "<class 'object'>"
    assert found["time"] != 1  # ours stay
    assert "args" not in found


def test_exceptions_have_their_traceback(stream: tuple[logging.Logger, io.StringIO]) -> None:
    logger, text = stream
    try:
        raise ValueError("from a peer \x1b[31m")
    except ValueError as error:
        logger.exception("it failed", stack_info=True)
        log_application_error(logger, "handler of /x", error)
    first, second = lines(text)
    assert first["exception"].startswith("Traceback (most recent call last):")
    assert first["stack"].startswith("Stack (most recent call last):")
    assert "handler of /x raised ValueError" in second["message"]
    assert "\\x1b" in second["exception"]
    assert "\x1b" not in second["exception"]


def test_it_is_a_formatter_for_any_handler() -> None:
    record = logging.LogRecord("a", logging.ERROR, __file__, 1, "%d of %d", (1, 2), None)
    assert json.loads(JsonFormatter().format(record))["message"] == "1 of 2"


def test_two_formats_are_refused() -> None:
    name = "pywebtransport_test_nothing"
    with pytest.raises(ConfigurationError, match="json_lines has a format of its own"):
        setup_logging(logger_name=name, format_string="%(message)s", json_lines=True)
    with pytest.raises(ConfigurationError, match="json_lines = 1"):
        setup_logging(logger_name=name, json_lines=1)  # type: ignore[arg-type]
    assert logging.getLogger(name).handlers == []
