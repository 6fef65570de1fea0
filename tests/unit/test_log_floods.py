"""Lines that a peer can cause are summed up, in one place: ``utils.logs``."""

from __future__ import annotations

import ast
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from pywebtransport.utils import _logs as logs
from pywebtransport.utils._failures import log_application_error
from pywebtransport.utils._logs import SHARED_BURST, BoundedLog, shared_log
from tests.support.records import recorded

PACKAGE = Path(logs.__file__).resolve().parents[1]
LOUD = {"warning", "error", "exception", "critical", "log"}
# Direct calls of a logger, and why no peer makes many of them.
ALLOWED = {
    "asgi/_attach.py": "once, and at the start of a server",
    "asgi/_lifespan.py": "at the start and the end of a server",
    "connection/load_balancer.py": "a target is set aside once, until it answers again",
    "connection/utils.py": "one line for each target that the caller named",
    "client/reconnecting.py": "once, when it gives up",
    "events/_bus.py": "the first of a bus only",
    "events/_kept.py": "once for each loss of the connection, which has pauses",
    "events/_nats.py": "once for each gap, which lasts a second",
    "server/app.py": "one line for each SIGHUP",
    "server/_loops.py": "once, when a process begins to serve",
    "server/_certificates.py": "a few a day, about files",
    "server/_exiting.py": "once, as the last line of a process",
    "server/_shared_secret.py": "about files, at the start and for each SIGHUP",
    "server/_tcp.py": "at the start of a server",
    "server/_supervisor.py": "about worker processes, whose restarts have pauses",
    "server/_worker.py": "about the supervisor, and one line for each SIGHUP",
    "utils/_logs.py": "the place itself",
    "utils/_sampling.py": "an alert once, until it is over",
}

LOGGER = logging.getLogger("tests.floods")


@pytest.fixture
def records() -> Iterator[list[logging.LogRecord]]:
    with recorded(LOGGER) as found:
        yield found
    logs._shared.pop(LOGGER.name, None)


def raised(error: Exception) -> Exception:
    """The error with a traceback."""
    try:
        raise error
    except Exception as caught:
        return caught


def loud_calls(source: str) -> list[str]:
    """Calls of a logger's methods above INFO."""
    return [
        ast.unparse(node.func)
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in LOUD
        and "log" in ast.unparse(node.func.value).lower()
    ]


def test_only_what_no_peer_can_repeat_logs_directly() -> None:
    """Everything else goes through a ``BoundedLog``, or through ``log_application_error``."""
    found = {
        str(path.relative_to(PACKAGE))
        for path in sorted(PACKAGE.rglob("*.py"))
        if loud_calls(path.read_text())
    }
    assert found == set(ALLOWED)


def test_the_check_above_sees_loud_calls() -> None:
    assert loud_calls("_logger.warning('x')\nself._session._logger.exception('y')\n")
    assert not loud_calls("logger.info('x')\nlog.tell('k', 30, 'x')\nmath.log(2)\n")[1:]


def test_a_flood_is_a_burst_and_a_number(records: list[logging.LogRecord]) -> None:
    log = BoundedLog(LOGGER, interval=3600.0, burst=5)
    for number in range(1000):
        log.tell("limit", logging.WARNING, "refused %d", number)
    assert len(records) == 5
    log.flush()
    assert records[-1].getMessage() == ("995 more of kind 'limit' in the last 1 s were not shown")


def test_lines_come_back_with_time(records: list[logging.LogRecord]) -> None:
    log = BoundedLog(LOGGER, interval=1000.0, burst=2)
    for _ in range(10):
        log.tell("limit", logging.WARNING, "refused")
    log._kinds["limit"].at -= 1000.0
    log._kinds["limit"].hidden_since -= 90.0
    for _ in range(10):
        log.tell("limit", logging.WARNING, "refused")
    assert [record.getMessage() for record in records] == [
        "refused",
        "refused",
        "refused (and 8 more of these in the last 91 s were not shown)",
    ]


def test_kinds_are_bounded_and_none_goes_without_a_word(
    records: list[logging.LogRecord], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logs, "_MAX_KINDS", 3)
    log = BoundedLog(LOGGER, interval=3600.0)
    for _ in range(5):
        log.tell("first", logging.WARNING, "first")
    for number in range(100):
        log.tell(f"kind {number}", logging.WARNING, "other")
    assert len(log._kinds) == len(log.counts) == 3
    assert "4 more of kind 'first' in the last 1 s were not shown" in [
        record.getMessage() for record in records
    ]


def test_the_same_error_over_and_over_is_few_tracebacks(records: list[logging.LogRecord]) -> None:
    """Another error, or the same at another line, is another kind."""
    for number in range(1000):
        error = raised(ValueError(f"from a peer: {number}"))
        assert log_application_error(LOGGER, f"handler of /{number}", error)
    assert SHARED_BURST <= len(records) <= SHARED_BURST + 60
    before = len(records)
    assert log_application_error(LOGGER, "handler of /x", raised(KeyError("once")))
    assert len(records) == before + 1
    assert records[-1].exc_text is not None


def test_one_log_for_all_objects_of_a_logger(records: list[logging.LogRecord]) -> None:
    for _ in range(10):
        for _ in range(SHARED_BURST):
            shared_log(LOGGER).tell("dropped", logging.WARNING, "dropped")
    assert SHARED_BURST <= len(records) <= SHARED_BURST + 60
