"""The exception tree: bases, attributes, pickling, and the helper functions."""

import builtins
import copy
import errno
import importlib
import inspect
import json
import pickle
import pkgutil
import re
import socket
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import pywebtransport
from pywebtransport import exceptions
from pywebtransport.constants import ErrorCodes
from pywebtransport.exceptions import (
    AuthenticationError,
    CertificateError,
    CertificateHashError,
    ClientError,
    ConfigurationError,
    DatagramError,
    DatagramTooLargeError,
    FlowControlError,
    HandshakeError,
    IdleTimeoutError,
    ProtocolError,
    ProxyError,
    SerializationError,
    ServerError,
    SessionClosedError,
    SessionError,
    SessionRejectedError,
    StreamError,
    StreamLimitError,
    StreamResetError,
    StreamStoppedError,
    UnreachableError,
    WebTransportError,
    WebTransportNotSupportedError,
)
from pywebtransport.types import SessionState, StreamState

EXPORTS: list[Any] = [getattr(exceptions, name) for name in exceptions.__all__]
CLASSES: list[type[WebTransportError]] = [
    value for value in EXPORTS if isinstance(value, type) and issubclass(value, WebTransportError)
]

REFERENCE = Path(__file__).parents[2] / "docs/reference/exceptions.md"

# Every class with each of its own arguments, so that nothing can get lost unseen.
FILLED: list[WebTransportError] = [
    WebTransportError("m", error_code=1, details={"k": [1]}, reason="r", remote=True),
    AuthenticationError("m", error_code=1, auth_method="token", details={"k": 1}),
    CertificateError("m", certificate_path="/a.crt", certificate_error="expired"),
    CertificateHashError("m", certificate_path="/a.crt", certificate_error="no match"),
    ClientError("m", target_url="https://a/", error_code=5),
    ConfigurationError("m", config_key="k", config_value=[1, 2]),
    exceptions.ClientArgumentError("m", config_key="timeout", config_value=-1),
    exceptions.DatagramArgumentError("m", config_key="priority", config_value=3),
    exceptions.SessionArgumentError("m", config_key="status_code", config_value=200),
    exceptions.StreamArgumentError("m", config_key="code", config_value=-1),
    exceptions.ConnectionError("m", remote_address=("a", 1), error_code=2, remote=True),
    ProxyError(
        "m", proxy_url="https://p/", target="a:1", status_code=403, headers={"proxy-status": "x"}
    ),
    DatagramError("m", datagram_size=3, max_size=2),
    DatagramTooLargeError(datagram_size=3, max_size=2),
    FlowControlError("m", stream_id=4, limit_exceeded=10, current_value=11),
    HandshakeError("m", handshake_stage="tls"),
    IdleTimeoutError("m", remote_address=("a", 1)),
    ProtocolError("m", frame_type=0x41, error_code=0x105),
    SerializationError("m", original_exception=ValueError("inner")),
    ServerError("m", bind_address=("::", 4433)),
    SessionClosedError(code=7, reason="bye", remote=True, session_id="4"),
    SessionError("m", session_id="4", session_state=SessionState.DRAINING),
    SessionRejectedError(status_code=429, headers={"retry-after": "1"}, target_url="https://a/"),
    StreamError("m", stream_id=4, stream_state=StreamState.OPEN, error_code=9),
    StreamLimitError("m", stream_id=4),
    StreamResetError(stream_id=4, error_code=9, details={"code": 0x52E4A40FA8E4}),
    StreamStoppedError(stream_id=4, error_code=None, details={"code": 0x10C}),
    exceptions.TimeoutError("m", timeout_duration=1.5, operation="read"),
    UnreachableError("m", remote_address=("a", 1)),
    WebTransportNotSupportedError("m", target_url="https://a/"),
]


def name_of(value: Any) -> str:
    return value.__name__ if inspect.isclass(value) else type(value).__name__


def facts(error: WebTransportError) -> dict[str, Any]:
    """Everything the exception knows, in a form that compares by value."""
    values = dict(vars(error))
    if isinstance(values.get("original_exception"), Exception):
        values["original_exception"] = repr(values["original_exception"])
    return values


def test_every_class_is_covered() -> None:
    assert {type(error) for error in FILLED} == set(CLASSES)


@pytest.mark.parametrize("error", FILLED, ids=name_of)
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_pickle_keeps_everything(error: WebTransportError, protocol: int) -> None:
    again = pickle.loads(pickle.dumps(error, protocol))
    assert type(again) is type(error)
    assert facts(again) == facts(error)
    assert (str(again), repr(again), again.args) == (str(error), repr(error), error.args)


def every_class() -> list[type[WebTransportError]]:
    """Those of the whole package, such as of remote calls."""
    for module in pkgutil.walk_packages(pywebtransport.__path__, "pywebtransport."):
        if module.name.rsplit(".", 1)[-1] != "__main__":
            importlib.import_module(module.name)
    found: list[type[WebTransportError]] = []
    waiting = [WebTransportError]
    while waiting:
        cls = waiting.pop()
        waiting += cls.__subclasses__()
        if cls.__module__.startswith("pywebtransport"):
            found.append(cls)
    return sorted(set(found), key=lambda cls: cls.__qualname__)


@pytest.mark.parametrize("cls", every_class(), ids=name_of)
def test_every_class_crosses_processes_with_all_it_knows(cls: type[WebTransportError]) -> None:
    if cls.__name__.startswith("_"):
        return  # has no instances
    error = cls("what happened")
    for number, name in enumerate(vars(error)):
        if name not in ("message", "details"):
            setattr(error, name, number)
    error.details["attempts"] = [{"address": "a", "retriable": False}]
    error.add_note("more")
    for again in (pickle.loads(pickle.dumps(error)), copy.copy(error), copy.deepcopy(error)):
        assert type(again) is cls
        assert vars(again) == vars(error)
        assert str(again) == str(error)


@pytest.mark.parametrize("error", FILLED, ids=name_of)
def test_copies_are_equal_and_deep_copies_independent(error: WebTransportError) -> None:
    assert facts(copy.copy(error)) == facts(error)
    deep = copy.deepcopy(error)
    assert facts(deep) == facts(error)
    deep.details["new"] = 1
    assert "new" not in error.details


@pytest.mark.parametrize("error", FILLED, ids=name_of)
def test_to_dict_is_json_and_holds_the_attributes(error: WebTransportError) -> None:
    result = error.to_dict()
    assert json.loads(json.dumps(result)) == result
    assert result["type"] == type(error).__name__
    assert result["message"] == error.message
    assert result["error_code"] == error.error_code
    assert set(vars(error)) <= set(result)


@pytest.mark.parametrize("cls", CLASSES, ids=name_of)
def test_attributes_exist_with_a_message_alone(cls: type[WebTransportError]) -> None:
    error = cls("what happened")
    assert str(error) == error.message == "what happened"
    assert error.args == ("what happened",)
    assert error.error_code is None
    assert error.reason == ""
    assert error.remote in (None, True)
    assert isinstance(error.details, dict)


@pytest.mark.parametrize("cls", CLASSES, ids=name_of)
def test_an_unknown_argument_is_refused(cls: type[WebTransportError]) -> None:
    with pytest.raises(TypeError, match="colour"):
        cls("m", colour="blue")  # type: ignore[call-arg]


def test_the_reference_draws_the_tree() -> None:
    """Each class stands in the drawing one level below its base."""
    levels: list[str] = []
    drawn: dict[str, str | None] = {}
    for line in REFERENCE.read_text().splitlines():
        name = next((word for word in line.split() if word.endswith("Error")), None)
        if name is None or not line.startswith("    "):
            continue
        level = (line.index(name) - 4) // 4
        levels[level:] = [name]
        drawn[name] = levels[level - 1] if level else None
    expected = {cls.__name__: None for cls in CLASSES}
    for cls in CLASSES:
        base = next(
            item
            for item in cls.__bases__
            if item in (*CLASSES, Exception) or item.__name__.startswith("_")
        )
        while base.__name__.startswith("_"):
            base = base.__bases__[0]
        expected[cls.__name__] = base.__name__ if base in CLASSES else None  # type: ignore[assignment]
    assert drawn == expected


def test_the_reference_lists_the_categories() -> None:
    listed = re.search(r"^The `category` of .*?\n\n", REFERENCE.read_text(), re.S | re.M)
    assert listed is not None
    categories = sorted({cls.category for cls in every_class()})
    assert sorted(set(re.findall(r"`(\w+)`", listed[0])) - {"category"}) == categories


def test_standard_bases() -> None:
    assert issubclass(exceptions.ConnectionError, builtins.ConnectionError)
    assert issubclass(exceptions.ConnectionError, OSError)
    assert issubclass(exceptions.TimeoutError, builtins.TimeoutError)
    assert issubclass(ConfigurationError, ValueError)
    assert not issubclass(IdleTimeoutError, builtins.TimeoutError)


def test_oserror_attributes_stay_empty() -> None:
    error = exceptions.ConnectionError("lost", remote_address=("a", 1))
    assert (error.errno, error.strerror, error.filename) == (None, None, None)


def test_str_shows_the_code() -> None:
    assert str(StreamError("reset", error_code=0x10C)) == "reset (code 0x10c)"
    assert str(StreamError("reset", error_code=0)) == "reset (code 0x0)"


@pytest.mark.parametrize("message", ["closed with application code 0x100: bye", "with code 256"])
def test_str_shows_a_code_once(message: str) -> None:
    assert str(exceptions.ConnectionError(message, error_code=0x100)) == message
    for code, shown in ((0x10, "0x10"), (0x1000, "0x1000"), (25, "0x19"), (0, "0x0")):
        error = exceptions.ConnectionError(message, error_code=code)
        assert str(error) == f"{message} (code {shown})"
    assert str(StreamError("reset", error_code="seven")) == "reset (code 'seven')"  # type: ignore[arg-type]


def test_repr_shows_what_is_set() -> None:
    error = DatagramError("big", max_size=5, details={"k": 1})
    assert repr(error) == "DatagramError('big', max_size=5, details={'k': 1})"


def test_details_are_copied() -> None:
    details = {"k": 1}
    error = WebTransportError("m", details=details)
    details["k"] = 2
    assert error.details == {"k": 1}


def test_rejection_reports_status_and_headers() -> None:
    error = SessionRejectedError(status_code=405, headers={"allow": "GET"})
    assert "405" in str(error)
    assert (error.status_code, error.headers) == (405, {"allow": "GET"})
    assert error.details == {"status_code": 405, "headers": {"allow": "GET"}}
    assert SessionRejectedError().status_code == 403


def test_rejection_names_the_url_if_it_knows_it() -> None:
    error = SessionRejectedError(status_code=404, target_url="https://a/\n" + "x" * 100_000)
    assert str(error).startswith("The session with https://a/\\n")
    assert "was rejected with HTTP status 404 (Not Found); check the path" in str(error)
    assert len(str(error)) < 400
    assert SessionRejectedError(status_code=599).message.endswith("HTTP status 599")


def test_session_closed_says_who_and_why() -> None:
    remote = SessionClosedError(code=7, reason="bye", remote=True)
    assert str(remote) == "the session was closed by the peer: bye (code 0x7)"
    assert (remote.code, remote.error_code, remote.reason, remote.remote) == (7, 7, "bye", True)
    assert str(SessionClosedError(remote=False)) == "the session was closed by this end"
    assert str(SessionClosedError()) == "the session was closed"
    assert SessionClosedError().session_state is SessionState.CLOSED
    assert SessionClosedError(code=7, error_code=8).error_code == 8


def test_reset_without_application_code_has_none() -> None:
    error = StreamResetError(details={"code": 0x10C})
    assert error.error_code is None
    assert error.remote is True
    assert str(error) == "the peer reset the stream"
    assert str(StreamStoppedError("own words")) == "own words"


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (DatagramTooLargeError(datagram_size=9, max_size=5), "of 9 bytes is larger than the 5 b"),
        (DatagramTooLargeError(max_size=5), "a datagram is larger than the 5 bytes that fit"),
        (DatagramTooLargeError(), "a datagram is larger than what fit"),
        (DatagramTooLargeError("own words", max_size=5), "own words"),
    ],
)
def test_too_large_datagram_names_the_sizes(error: WebTransportError, text: str) -> None:
    assert text in str(error)


@given(
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers()
        | st.integers(5000, 6000).map(lambda digits: 10**digits)
        | st.floats()
        | st.text()
        | st.binary()
        | st.builds(object),
        lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.integers(), inner),
        max_leaves=10,
    )
)
def test_to_dict_of_anything_is_json(value: Any) -> None:
    error = exceptions.invalid_config(key="k", value=value, reason="r")
    assert str(error).isprintable() or not isinstance(value, str)
    assert len(str(error)) < 300
    error.details["d"] = value
    json.loads(json.dumps(error.to_dict(), allow_nan=False))


def test_to_dict_of_what_has_no_end() -> None:
    cycle: list[Any] = []
    cycle.append(cycle)
    json.dumps(ConfigurationError("m", config_value=cycle).to_dict(), allow_nan=False)


def test_to_dict_of_odd_values() -> None:
    error = ConfigurationError(
        "m",
        config_value={1: b"\x01", "s": {2}, "o": object, "m": memoryview(b"\x02")},
        details={"e": ErrorCodes.H3_NO_ERROR, "t": (1, None)},
    )
    value = error.to_dict()["config_value"]
    assert value["1"] == "01"
    assert value["m"] == "02"
    assert value["s"] == [2]
    assert value["o"] == repr(object)
    assert error.to_dict()["details"] == {"e": 0x100, "t": [1, None]}


RETRIABLE = [
    exceptions.ConnectionError("m"),
    IdleTimeoutError("m"),
    UnreachableError("m"),
    exceptions.TimeoutError("m"),
    StreamLimitError("m"),
    SessionRejectedError(status_code=503),
    SessionRejectedError(status_code=429),
    ConnectionResetError(),
    builtins.TimeoutError(),
    OSError(errno.ENETUNREACH, "unreachable"),
    socket.gaierror(socket.EAI_AGAIN, "try again"),
]
FATAL = [
    AuthenticationError("m"),
    CertificateHashError("m"),
    ConfigurationError("m"),
    HandshakeError("m"),
    ProtocolError("m"),
    WebTransportNotSupportedError("m"),
    SessionRejectedError(status_code=403),
    SessionRejectedError(status_code=404),
]
NEITHER = [
    StreamResetError(),
    DatagramTooLargeError(),
    SessionClosedError(),
    SerializationError("m"),
    OSError(errno.ENOENT, "no file"),
    socket.gaierror(socket.EAI_NONAME, "no such name"),
    ValueError("m"),
]


@pytest.mark.parametrize(
    ("error", "retriable", "fatal"),
    [
        *((error, True, False) for error in RETRIABLE),
        *((error, False, True) for error in FATAL),
        *((error, False, False) for error in NEITHER),
    ],
    ids=lambda value: name_of(value) if isinstance(value, Exception) else "",
)
def test_retriable_and_fatal(error: Exception, retriable: bool, fatal: bool) -> None:
    assert exceptions.is_retriable_error(exception=error) is retriable
    assert exceptions.is_fatal_error(exception=error) is fatal


@given(st.integers(300, 599))
def test_every_rejection_is_either_retriable_or_fatal(status: int) -> None:
    error = SessionRejectedError(status_code=status)
    assert exceptions.is_retriable_error(exception=error) is not exceptions.is_fatal_error(
        exception=error
    )


@pytest.mark.parametrize(
    ("error", "category"),
    [
        (WebTransportError("m"), "webtransport"),
        (AuthenticationError("m"), "authentication"),
        (CertificateHashError("m"), "certificate"),
        (SessionRejectedError(), "client"),
        (ConfigurationError("m"), "configuration"),
        (UnreachableError("m"), "connection"),
        (DatagramTooLargeError(), "datagram"),
        (FlowControlError("m"), "flow_control"),
        (HandshakeError("m"), "handshake"),
        (ProtocolError("m"), "protocol"),
        (SerializationError("m"), "serialization"),
        (ServerError("m"), "server"),
        (SessionClosedError(), "session"),
        (StreamStoppedError(), "stream"),
        (exceptions.TimeoutError("m"), "timeout"),
        (builtins.TimeoutError(), "timeout"),
        (BrokenPipeError(), "connection"),
        (ValueError("m"), "unknown"),
    ],
    ids=lambda value: name_of(value) if isinstance(value, Exception) else "",
)
def test_category(error: Exception, category: str) -> None:
    assert exceptions.get_error_category(exception=error) == category


@pytest.mark.parametrize(
    "kind", [ClientError, DatagramError, SessionError, StreamError], ids=name_of
)
def test_a_wrong_argument_is_a_configuration_error_of_its_kind(
    kind: type[WebTransportError],
) -> None:
    cls = getattr(exceptions, kind.__name__.replace("Error", "ArgumentError"))
    error = cls("m", config_key="key", config_value=-1)
    assert isinstance(error, kind)
    assert isinstance(error, ConfigurationError)
    assert isinstance(error, ValueError)
    assert exceptions.get_error_category(exception=error) == "configuration"
    assert exceptions.is_fatal_error(exception=error)
    assert {"config_key": "key", "config_value": -1}.items() <= error.to_dict().items()


def test_helpers_fill_the_attributes() -> None:
    missing = exceptions.certificate_not_found(path="/a.crt")
    assert missing.certificate_path == "/a.crt"
    assert "/a.crt" in str(missing)
    late = exceptions.connection_timeout(timeout_duration=2.0)
    assert (late.timeout_duration, late.operation) == (2.0, "connect")
    assert str(late) == "connect timed out after 2 seconds"
    big = exceptions.datagram_too_large(size=9, max_size=5)
    assert (big.datagram_size, big.max_size) == (9, 5)
    bad = exceptions.invalid_config(key="port", value=-1, reason="expected 1 to 65535")
    assert (bad.config_key, bad.config_value) == ("port", -1)
    assert str(bad) == "port = -1: expected 1 to 65535"
    broken = exceptions.protocol_violation(message="bad frame", frame_type=2)
    assert (broken.error_code, broken.frame_type) == (ErrorCodes.PROTOCOL_VIOLATION, 2)
    early = exceptions.session_not_ready(session_id="4", current_state=SessionState.CONNECTING)
    assert (early.session_id, early.session_state) == ("4", SessionState.CONNECTING)
    assert "'connecting'" in str(early)
    gone = exceptions.stream_closed(stream_id=8)
    assert (gone.stream_id, gone.stream_state) == (8, StreamState.CLOSED)


def test_a_long_value_is_shortened_in_the_message() -> None:
    error = exceptions.invalid_config(key="k", value="x" * 5000, reason="too long")
    assert len(str(error)) < 300
    assert error.config_value == "x" * 5000


@given(st.one_of(st.none(), st.integers(0, 2**62 - 1)), st.text(), st.booleans())
def test_code_reason_and_origin_survive(code: int | None, reason: str, remote: bool) -> None:
    error = StreamResetError(error_code=code, reason=reason, remote=remote)
    again = pickle.loads(pickle.dumps(error))
    assert (again.error_code, again.reason, again.remote) == (code, reason, remote)
