"""Fields of the exceptions are keywords and attributes whose names and types are known."""

from typing import Any, assert_type

from pywebtransport._header_map import HeaderMap
from pywebtransport.exceptions import (
    ClientArgumentError,
    ConnectionError,
    DatagramTooLargeError,
    ProxyError,
    SessionClosedError,
    SessionRejectedError,
    StreamLimitError,
    StreamResetError,
    WebTransportError,
)
from pywebtransport.pubsub import TopicForbiddenError
from pywebtransport.rpc import RpcTimeoutError
from pywebtransport.types import SessionState, StreamState


class OwnError(StreamLimitError):
    """An application's own, with a constructor of its own."""

    attempts: list[str] = []  # noqa: RUF012

    def __init__(self, room: str) -> None:
        super().__init__(f"room {room} is full", operation="enter", details=None)
        self.room = room


class PlainError(ConnectionError):
    """An application's own, with nothing of its own."""

    places: int


def right() -> None:
    error = WebTransportError("m", error_code=1, details=None, reason="r", remote=None)
    assert_type(error.message, str)
    assert_type(error.error_code, int | None)
    assert_type(error.details, dict[str, Any])
    assert_type(error.remote, bool | None)
    WebTransportError(message="m", details={"k": 1})
    rejected = SessionRejectedError(status_code=404, headers={"a": ["1", "2"]}, target_url="u")
    assert_type(rejected.message, str)
    assert_type(rejected.headers, HeaderMap)
    assert_type(rejected.status_code, int)
    SessionRejectedError("m", headers=None, reason="r")
    SessionRejectedError(None)
    assert_type(ProxyError("m", headers=None, target="t").headers, dict[str, str])
    assert_type(DatagramTooLargeError(max_size=5).max_size, int | None)
    closed = SessionClosedError(code=5, session_id="4", session_state=None)
    assert_type(closed.session_state, SessionState | None)
    assert_type(StreamResetError(stream_id=4).message, str)


def right_of_several() -> None:
    limit = StreamLimitError("m", stream_id=4, timeout_duration=1.5)
    assert_type(limit.stream_state, StreamState | None)
    assert_type(limit.timeout_duration, float | None)
    wrong = ClientArgumentError("m", config_key="k", config_value=5, target_url="u")
    assert_type(wrong.target_url, str | None)
    late = RpcTimeoutError("m", method="add", data=5, timeout_duration=1)
    assert_type(late.method, str | None)
    assert_type(TopicForbiddenError("m", topic="t", method="m").topic, str | None)


def right_of_applications() -> None:
    assert_type(OwnError("blue").operation, str | None)
    assert_type(PlainError("m", remote_address=("a", 1)).places, int)


def wrong_names() -> None:
    WebTransportError("m", errorcode=1)  # type: ignore[call-arg]
    WebTransportError("m", _details={})  # type: ignore[call-arg]
    SessionRejectedError(status=404)  # type: ignore[call-arg]
    StreamResetError(code=5)  # type: ignore[call-arg]
    StreamLimitError("m", duration=5)  # type: ignore[call-arg]
    RpcTimeoutError("m", topic="t")  # type: ignore[call-arg]
    OwnError("blue", operation="leave")  # type: ignore[call-arg]
    PlainError("m", places=5)  # type: ignore[call-arg]


def wrong_positions() -> None:
    WebTransportError()  # type: ignore[call-arg]
    WebTransportError("m", 5)  # type: ignore[call-arg]
    SessionRejectedError("m", 404)  # type: ignore[call-arg]


def wrong_types() -> None:
    WebTransportError("m", error_code="5")  # type: ignore[arg-type]
    WebTransportError("m", details=[1])  # type: ignore[arg-type]
    SessionRejectedError(headers=5)  # type: ignore[arg-type]
    StreamLimitError("m", timeout_duration="1")  # type: ignore[arg-type]
