"""Exceptions: what they carry, how they are told apart."""

from __future__ import annotations

import builtins

import pytest

from pywebtransport import (
    AuthenticationError,
    CertificateError,
    ClientError,
    ConfigurationError,
    ConnectionError,
    DatagramError,
    FlowControlError,
    HandshakeError,
    ProtocolError,
    SerializationError,
    ServerError,
    SessionError,
    SessionState,
    StreamError,
    StreamState,
    TimeoutError,
    WebTransportError,
)
from pywebtransport.constants import ErrorCodes
from pywebtransport.exceptions import (
    certificate_not_found,
    connection_timeout,
    datagram_too_large,
    get_error_category,
    invalid_config,
    is_fatal_error,
    is_retriable_error,
    protocol_violation,
    session_not_ready,
    stream_closed,
)

ERRORS: list[WebTransportError] = [
    WebTransportError("m", error_code=ErrorCodes.INTERNAL_ERROR, details={"a": 1}),
    AuthenticationError("m", auth_method="token", details={"a": 1}),
    CertificateError("m", certificate_path="/c", certificate_error="old", details={"a": 1}),
    ClientError("m", target_url="https://h/", details={"a": 1}),
    ConfigurationError("m", config_key="k", config_value=3, details={"a": 1}),
    ConnectionError("m", remote_address=("h", 1), details={"a": 1}),
    DatagramError("m", datagram_size=9, max_size=8, details={"a": 1}),
    FlowControlError("m", stream_id=4, limit_exceeded=5, current_value=6, details={"a": 1}),
    HandshakeError("m", handshake_stage="tls", details={"a": 1}),
    ProtocolError("m", frame_type=7, details={"a": 1}),
    SerializationError("m", original_exception=ValueError("v"), details={"a": 1}),
    ServerError("m", bind_address=("h", 1), details={"a": 1}),
    SessionError("m", session_id="s", session_state=SessionState.CLOSED, details={"a": 1}),
    StreamError("m", stream_id=4, stream_state=StreamState.CLOSED, details={"a": 1}),
    TimeoutError("m", timeout_duration=1.5, operation="read", details={"a": 1}),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_a_program_logs_what_it_caught(error: WebTransportError) -> None:
    with pytest.raises(WebTransportError) as caught:
        raise error
    described = caught.value.to_dict()
    assert described["message"] == error.message == "m"
    assert described["details"] == error.details == {"a": 1}
    assert described["error_code"] == error.error_code
    own = set(vars(error)) - {"message", "details", "error_code", "reason", "remote"}
    assert {name for name in own if not name.startswith("_")} <= set(described)
    assert "m" in str(error)
    assert get_error_category(exception=error)
    assert not (is_fatal_error(exception=error) and is_retriable_error(exception=error))


def test_attributes() -> None:
    by_type = {type(error).__name__: error for error in ERRORS}
    carried: dict[str, dict[str, object]] = {
        "AuthenticationError": {"auth_method": "token"},
        "CertificateError": {"certificate_path": "/c", "certificate_error": "old"},
        "ClientError": {"target_url": "https://h/"},
        "ConfigurationError": {"config_key": "k", "config_value": 3},
        "ConnectionError": {"remote_address": ("h", 1)},
        "DatagramError": {"datagram_size": 9, "max_size": 8},
        "FlowControlError": {"stream_id": 4, "limit_exceeded": 5, "current_value": 6},
        "HandshakeError": {"handshake_stage": "tls"},
        "ProtocolError": {"frame_type": 7},
        "ServerError": {"bind_address": ("h", 1)},
        "SessionError": {"session_id": "s", "session_state": SessionState.CLOSED},
        "StreamError": {"stream_id": 4, "stream_state": StreamState.CLOSED},
        "TimeoutError": {"timeout_duration": 1.5, "operation": "read"},
    }
    for name, attributes in carried.items():
        for attribute, value in attributes.items():
            assert getattr(by_type[name], attribute) == value
    assert isinstance(by_type["TimeoutError"], builtins.TimeoutError)
    assert isinstance(by_type["ConnectionError"], builtins.ConnectionError)
    assert isinstance(by_type["ConfigurationError"], ValueError)
    original = by_type["SerializationError"]
    assert isinstance(original, SerializationError)
    assert str(original.original_exception) == "v"


def test_errors_made_by_name() -> None:
    assert certificate_not_found(path="/c.pem").certificate_path == "/c.pem"
    assert connection_timeout(timeout_duration=2.0).operation == "connect"
    assert datagram_too_large(size=10, max_size=5).max_size == 5
    assert invalid_config(key="k", value=1, reason="r").config_key == "k"
    assert protocol_violation(message="m", frame_type=3).frame_type == 3
    state = session_not_ready(session_id="s", current_state=SessionState.CONNECTING).session_state
    assert state is SessionState.CONNECTING
    assert stream_closed(stream_id=8, reason="r").stream_id == 8
    assert is_retriable_error(exception=connection_timeout(timeout_duration=2.0))
    assert is_fatal_error(exception=certificate_not_found(path="/c.pem"))
    assert get_error_category(exception=stream_closed(stream_id=8)) == "stream"
