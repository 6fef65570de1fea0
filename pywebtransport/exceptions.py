"""The exceptions of the package.

::

    WebTransportError
    |-- AuthenticationError
    |-- CertificateError
    |   `-- CertificateHashError
    |-- ClientError
    |   |-- SessionRejectedError
    |   `-- WebTransportNotSupportedError
    |-- ConfigurationError              (also ValueError)
    |   |-- ClientArgumentError         (also ClientError)
    |   |-- DatagramArgumentError       (also DatagramError)
    |   |-- SessionArgumentError        (also SessionError)
    |   `-- StreamArgumentError         (also StreamError)
    |-- ConnectionError                 (also builtins.ConnectionError)
    |   |-- IdleTimeoutError
    |   |-- ProxyError
    |   `-- UnreachableError
    |-- DatagramError
    |   `-- DatagramTooLargeError
    |-- FlowControlError
    |-- HandshakeError
    |-- ProtocolError
    |-- SerializationError
    |-- ServerError
    |-- SessionError
    |   `-- SessionClosedError
    |-- StreamError
    |   |-- StreamLimitError            (also TimeoutError)
    |   |-- StreamResetError
    |   `-- StreamStoppedError
    `-- TimeoutError                    (also builtins.TimeoutError)

Every exception has ``message``, ``error_code`` (the code from the protocol or the peer, or None),
``reason`` (the text that came with the code), ``remote`` (True: the peer caused it, False: this end
did, None: neither or unknown) and ``details`` (a dictionary with more information). All of them can
be pickled and copied. ``asyncio.CancelledError`` is never wrapped.
"""

from __future__ import annotations

import builtins
import errno
import socket
from collections.abc import Mapping
from typing import Any, ClassVar, TypedDict, Unpack

from ._header_map import HeaderMap
from ._plain import one_line, plain, printable, rejection_text, shorten
from ._states import HeadersToSend, SessionState, StreamState
from .constants import ErrorCodes

__all__ = [
    "AuthenticationError",
    "CertificateError",
    "CertificateHashError",
    "ClientArgumentError",
    "ClientError",
    "ConfigurationError",
    "ConnectionError",
    "DatagramArgumentError",
    "DatagramError",
    "DatagramTooLargeError",
    "FlowControlError",
    "HandshakeError",
    "IdleTimeoutError",
    "ProtocolError",
    "ProxyError",
    "SerializationError",
    "ServerError",
    "SessionArgumentError",
    "SessionClosedError",
    "SessionError",
    "SessionRejectedError",
    "StreamArgumentError",
    "StreamError",
    "StreamLimitError",
    "StreamResetError",
    "StreamStoppedError",
    "TimeoutError",
    "UnreachableError",
    "WebTransportError",
    "WebTransportNotSupportedError",
    "certificate_not_found",
    "connection_timeout",
    "datagram_too_large",
    "get_error_category",
    "invalid_config",
    "is_fatal_error",
    "is_request_rejected",
    "is_retriable_error",
    "protocol_violation",
    "session_not_ready",
    "stream_closed",
]

# HTTP statuses that ask to try again later (RFC 9110, RFC 8470).
_RETRIABLE_STATUSES = frozenset({408, 425, 429, 500, 502, 503, 504})
_RETRIABLE_ERRNOS = frozenset(
    {
        errno.EAGAIN,
        errno.EINTR,
        errno.EHOSTDOWN,
        errno.EHOSTUNREACH,
        errno.ENETDOWN,
        errno.ENETUNREACH,
        errno.ENOBUFS,
    }
)


class ErrorOrigin(TypedDict, total=False):
    """The arguments that every exception accepts; see ``WebTransportError``."""

    error_code: int | None
    details: dict[str, Any] | None
    reason: str
    remote: bool | None


class WebTransportError(Exception):
    """Base class of all exceptions of this library.

    Args:
        message: What happened, with which value, and what to do. It is stored as one line of
            at most 2000 characters; characters that are not printable are escaped.
        error_code: The error code of the protocol or the application, if there is one.
        details: More information; copied.
        reason: The text that came with the code.
        remote: True when the peer caused it, False when this end did.
    """

    category: ClassVar[str] = "webtransport"
    _fields: ClassVar[tuple[str, ...]] = ()

    def __init__(
        self,
        message: str,
        *,
        error_code: int | None = None,
        details: dict[str, Any] | None = None,
        reason: str = "",
        remote: bool | None = None,
    ) -> None:
        # It may contain text from the peer, which must not forge a log line or fill the log.
        message = one_line(message)
        super().__init__(message)
        self.message = message
        self.error_code = error_code
        self.reason = reason
        self.remote = remote
        self.details: dict[str, Any] = dict(details) if details else {}

    def to_dict(self) -> dict[str, Any]:
        """Return all fields as values that can be written as JSON."""
        result: dict[str, Any] = {
            "type": type(self).__name__,
            "category": self.category,
            "message": self.message,
            "error_code": self.error_code,
            "reason": self.reason,
            "remote": self.remote,
            "details": plain(self.details),
        }
        for name in self._fields:
            result[name] = plain(getattr(self, name))
        return result

    def __str__(self) -> str:
        if self.error_code is None:
            return self.message
        return f"{self.message} (code 0x{self.error_code:x})"

    def __repr__(self) -> str:
        parts = [repr(self.message)]
        for name in ("error_code", "reason", "remote", *self._fields, "details"):
            value = getattr(self, name)
            if value is not None and value != "" and value != {}:
                parts.append(f"{name}={shorten(value, 1000)}")
        return f"{type(self).__name__}({', '.join(parts)})"


class AuthenticationError(WebTransportError):
    """The peer could not be authenticated."""

    category = "authentication"
    _fields: ClassVar[tuple[str, ...]] = ("auth_method",)

    def __init__(
        self, message: str, *, auth_method: str | None = None, **origin: Unpack[ErrorOrigin]
    ) -> None:
        super().__init__(message, **origin)
        self.auth_method = auth_method


class CertificateError(WebTransportError):
    """A certificate or key is missing, unusable, expired, or not trusted."""

    category = "certificate"
    _fields: ClassVar[tuple[str, ...]] = ("certificate_path", "certificate_error")

    def __init__(
        self,
        message: str,
        *,
        certificate_path: str | None = None,
        certificate_error: str | None = None,
        **origin: Unpack[ErrorOrigin],
    ) -> None:
        super().__init__(message, **origin)
        self.certificate_path = certificate_path
        self.certificate_error = certificate_error


class CertificateHashError(CertificateError):
    """The server's certificate matches none of ``server_certificate_hashes``.

    Also raised when it matches but breaks the rules for certificates accepted
    by hash (no RSA key, valid now, total validity of at most 14 days).
    """


class ClientError(WebTransportError):
    """A client operation failed."""

    category = "client"
    _fields: ClassVar[tuple[str, ...]] = ("target_url",)

    def __init__(
        self, message: str, *, target_url: str | None = None, **origin: Unpack[ErrorOrigin]
    ) -> None:
        super().__init__(message, **origin)
        self.target_url = target_url


class SessionRejectedError(ClientError):
    """A session was refused with an HTTP status.

    Raise it in server middleware to answer with a status and headers. On the client, it reports
    them. ``details`` contains both, too.

    Args:
        message: Defaults to a sentence that names the status, the URL and what to do.
        status_code: HTTP status, 300 to 599.
        headers: Header fields of the response; a whole number becomes its digits, and a list of
            values becomes several lines.
        remote: True if the peer sent this answer: then it is not checked. Otherwise, the arguments
            are checked now, not only when the answer is sent.

    Raises:
        ConfigurationError: ``status_code`` or ``headers`` cannot be sent.
    """

    _fields: ClassVar[tuple[str, ...]] = (*ClientError._fields, "status_code", "headers")

    def __init__(
        self,
        message: str | None = None,
        *,
        status_code: int = 403,
        headers: HeadersToSend | None = None,
        target_url: str | None = None,
        **origin: Unpack[ErrorOrigin],
    ) -> None:
        if not origin.get("remote"):
            headers = _checked_answer(status_code, headers)
        if message is None:
            message = rejection_text(status_code, headers, target_url)
        super().__init__(message, target_url=target_url, **origin)
        self.status_code = status_code
        self.headers = HeaderMap.of(headers or {})
        self.details.setdefault("status_code", status_code)
        self.details.setdefault("headers", dict(self.headers))


class WebTransportNotSupportedError(ClientError):
    """The server speaks HTTP/3, but not WebTransport, or none of the configured dialects."""


class ConfigurationError(WebTransportError, ValueError):
    """An argument is wrong, or a configuration field is unknown or has a bad value.

    The call had no effect. Some methods raise a subclass, such as ``StreamArgumentError``, which is
    also a ``StreamError``.
    """

    category = "configuration"
    _fields: ClassVar[tuple[str, ...]] = ("config_key", "config_value")

    def __init__(
        self,
        message: str,
        *,
        config_key: str | None = None,
        config_value: Any | None = None,
        **origin: Unpack[ErrorOrigin],
    ) -> None:
        super().__init__(message, **origin)
        self.config_key = config_key
        self.config_value = config_value


class ConnectionError(WebTransportError, builtins.ConnectionError):
    """The QUIC connection could not be established, or it was lost."""

    category = "connection"
    _fields: ClassVar[tuple[str, ...]] = ("remote_address",)

    def __init__(
        self,
        message: str,
        *,
        remote_address: tuple[str, int] | None = None,
        **origin: Unpack[ErrorOrigin],
    ) -> None:
        super().__init__(message, **origin)
        self.remote_address = remote_address


class IdleTimeoutError(ConnectionError):
    """The peer was silent for longer than the idle timeout.

    This is not a :class:`TimeoutError`: the connection is gone, so do not wait again.
    """


class UnreachableError(ConnectionError):
    """The address cannot be reached: name not found, port closed, or no route.

    If packets get no answer at all, for instance because a firewall drops UDP, you get a
    :class:`TimeoutError` with the operation ``handshake`` instead.
    """


class ProxyError(ConnectionError):
    """A tunnel through a proxy could not be opened, or it was lost.

    Args:
        message: Names the proxy and the target.
        proxy_url: URL of the proxy.
        target: ``host:port`` at the far end of the tunnel.
        status_code: HTTP status with which the proxy refused; None if there was no such answer.
        headers: Header fields of that response, such as ``proxy-status`` (RFC 9209).
    """

    _fields: ClassVar[tuple[str, ...]] = (
        *ConnectionError._fields,
        "proxy_url",
        "target",
        "status_code",
        "headers",
    )

    def __init__(
        self,
        message: str,
        *,
        proxy_url: str = "",
        target: str = "",
        status_code: int | None = None,
        headers: Mapping[str, str] | None = None,
        remote_address: tuple[str, int] | None = None,
        **origin: Unpack[ErrorOrigin],
    ) -> None:
        super().__init__(message, remote_address=remote_address, **origin)
        self.proxy_url = proxy_url
        self.target = target
        self.status_code = status_code
        self.headers: dict[str, str] = dict(headers) if headers else {}


class DatagramError(WebTransportError):
    """A datagram could not be sent or received."""

    category = "datagram"
    _fields: ClassVar[tuple[str, ...]] = ("datagram_size", "max_size")

    def __init__(
        self,
        message: str,
        *,
        datagram_size: int | None = None,
        max_size: int | None = None,
        **origin: Unpack[ErrorOrigin],
    ) -> None:
        super().__init__(message, **origin)
        self.datagram_size = datagram_size
        self.max_size = max_size


class DatagramTooLargeError(DatagramError):
    """A datagram is larger than the current maximum; nothing was sent.

    Args:
        message: Defaults to a sentence that names both sizes.
        datagram_size: Size of the datagram in bytes.
        max_size: Current maximum in bytes; it depends on the network path.
    """

    def __init__(
        self,
        message: str | None = None,
        *,
        datagram_size: int | None = None,
        max_size: int | None = None,
        **origin: Unpack[ErrorOrigin],
    ) -> None:
        if message is None:
            size = "" if datagram_size is None else f" of {datagram_size} bytes"
            limit = "what" if max_size is None else f"the {max_size} bytes that"
            message = f"a datagram{size} is larger than {limit} fit now; send less or use a stream"
        super().__init__(message, datagram_size=datagram_size, max_size=max_size, **origin)


class FlowControlError(WebTransportError):
    """A limit on bytes or streams was exceeded."""

    category = "flow_control"
    _fields: ClassVar[tuple[str, ...]] = ("stream_id", "limit_exceeded", "current_value")

    def __init__(
        self,
        message: str,
        *,
        stream_id: int | None = None,
        limit_exceeded: int | None = None,
        current_value: int | None = None,
        **origin: Unpack[ErrorOrigin],
    ) -> None:
        super().__init__(message, **origin)
        self.stream_id = stream_id
        self.limit_exceeded = limit_exceeded
        self.current_value = current_value


class HandshakeError(WebTransportError):
    """The QUIC or TLS handshake, or the exchange of SETTINGS, failed."""

    category = "handshake"
    _fields: ClassVar[tuple[str, ...]] = ("handshake_stage",)

    def __init__(
        self, message: str, *, handshake_stage: str | None = None, **origin: Unpack[ErrorOrigin]
    ) -> None:
        super().__init__(message, **origin)
        self.handshake_stage = handshake_stage


class ProtocolError(WebTransportError):
    """One end broke the rules of QUIC, HTTP/3 or WebTransport."""

    category = "protocol"
    _fields: ClassVar[tuple[str, ...]] = ("frame_type",)

    def __init__(
        self, message: str, *, frame_type: int | None = None, **origin: Unpack[ErrorOrigin]
    ) -> None:
        super().__init__(message, **origin)
        self.frame_type = frame_type


class SerializationError(WebTransportError):
    """An object could not be turned into bytes, or bytes into an object."""

    category = "serialization"
    _fields: ClassVar[tuple[str, ...]] = ("original_exception",)

    def __init__(
        self,
        message: str,
        *,
        original_exception: Exception | None = None,
        **origin: Unpack[ErrorOrigin],
    ) -> None:
        super().__init__(message, **origin)
        self.original_exception = original_exception


class ServerError(WebTransportError):
    """A server operation failed, for instance binding its address."""

    category = "server"
    _fields: ClassVar[tuple[str, ...]] = ("bind_address",)

    def __init__(
        self,
        message: str,
        *,
        bind_address: tuple[str, int] | None = None,
        **origin: Unpack[ErrorOrigin],
    ) -> None:
        super().__init__(message, **origin)
        self.bind_address = bind_address


class SessionError(WebTransportError):
    """An operation on a session failed."""

    category = "session"
    _fields: ClassVar[tuple[str, ...]] = ("session_id", "session_state")

    def __init__(
        self,
        message: str,
        *,
        session_id: str | None = None,
        session_state: SessionState | None = None,
        **origin: Unpack[ErrorOrigin],
    ) -> None:
        super().__init__(message, **origin)
        self.session_id = session_id
        self.session_state = session_state


class SessionClosedError(SessionError):
    """The session ended before or during the operation.

    Args:
        message: Defaults to a sentence made of the other arguments.
        code: The application's code; None if the session ended without one.
        reason: The text that came with the code.
        remote: True when the peer ended it.
    """

    _fields: ClassVar[tuple[str, ...]] = (*SessionError._fields, "code")

    def __init__(
        self,
        message: str | None = None,
        *,
        code: int | None = None,
        reason: str = "",
        remote: bool | None = None,
        session_id: str | None = None,
        error_code: int | None = None,
        session_state: SessionState | None = SessionState.CLOSED,
        details: dict[str, Any] | None = None,
    ) -> None:
        if message is None:
            by = {True: " by the peer", False: " by this end", None: ""}[remote]
            message = f"the session was closed{by}" + (f": {printable(reason)}" if reason else "")
        super().__init__(
            message,
            session_id=session_id,
            error_code=code if error_code is None else error_code,
            session_state=session_state,
            details=details,
            reason=reason,
            remote=remote,
        )
        self.code = code


class StreamError(WebTransportError):
    """An operation on a stream failed."""

    category = "stream"
    _fields: ClassVar[tuple[str, ...]] = ("stream_id", "stream_state")

    def __init__(
        self,
        message: str,
        *,
        stream_id: int | None = None,
        stream_state: StreamState | None = None,
        **origin: Unpack[ErrorOrigin],
    ) -> None:
        super().__init__(message, **origin)
        self.stream_id = stream_id
        self.stream_state = stream_state


class _PeerStreamError(StreamError):
    """A stream error with a code from the peer; see the two public subclasses."""

    _sentence: ClassVar[str]

    def __init__(
        self,
        message: str | None = None,
        *,
        stream_id: int | None = None,
        error_code: int | None = None,
        stream_state: StreamState | None = None,
        details: dict[str, Any] | None = None,
        reason: str = "",
        remote: bool | None = True,
    ) -> None:
        super().__init__(
            self._sentence if message is None else message,
            stream_id=stream_id,
            error_code=error_code,
            stream_state=stream_state,
            details=details,
            reason=reason,
            remote=remote,
        )


class StreamResetError(_PeerStreamError):
    """A read failed because the peer reset the stream (RESET_STREAM).

    ``error_code`` is the application's code, None when the peer's code stands
    for none; ``details["code"]`` is the code on the wire.
    """

    _sentence = "the peer reset the stream"


class StreamStoppedError(_PeerStreamError):
    """A write failed because the peer stopped reading the stream (STOP_SENDING).

    ``error_code`` is the application's code, None when the peer's code stands
    for none; ``details["code"]`` is the code on the wire, if it is known.
    """

    _sentence = "the peer stopped reading the stream"


class TimeoutError(WebTransportError, builtins.TimeoutError):
    """An operation took longer than its timeout."""

    category = "timeout"
    _fields: ClassVar[tuple[str, ...]] = ("timeout_duration", "operation")

    def __init__(
        self,
        message: str,
        *,
        timeout_duration: float | None = None,
        operation: str | None = None,
        **origin: Unpack[ErrorOrigin],
    ) -> None:
        super().__init__(message, **origin)
        self.timeout_duration = timeout_duration
        self.operation = operation


class StreamLimitError(StreamError, TimeoutError):
    """No stream could be opened: a stream limit of the peer, or a local one, was reached.

    Also a :class:`TimeoutError`, whether or not the call waited: streams that end make room, so the
    same call may succeed later.

    Args:
        message: Names the limit.
        timeout_duration: Seconds that the call waited; None if it did not wait.
    """

    category = "stream"
    _fields: ClassVar[tuple[str, ...]] = (*StreamError._fields, *TimeoutError._fields)

    def __init__(
        self,
        message: str,
        *,
        stream_id: int | None = None,
        stream_state: StreamState | None = None,
        timeout_duration: float | None = None,
        operation: str | None = "open stream",
        **origin: Unpack[ErrorOrigin],
    ) -> None:
        WebTransportError.__init__(self, message, **origin)
        self.stream_id = stream_id
        self.stream_state = stream_state
        self.timeout_duration = timeout_duration
        self.operation = operation


class ClientArgumentError(ConfigurationError, ClientError):
    """An argument of a client method is wrong."""

    _fields: ClassVar[tuple[str, ...]] = (*ConfigurationError._fields, *ClientError._fields)


class DatagramArgumentError(ConfigurationError, DatagramError):
    """An argument of a datagram method is wrong."""

    _fields: ClassVar[tuple[str, ...]] = (*ConfigurationError._fields, *DatagramError._fields)


class SessionArgumentError(ConfigurationError, SessionError):
    """An argument of a session method is wrong."""

    _fields: ClassVar[tuple[str, ...]] = (*ConfigurationError._fields, *SessionError._fields)


class StreamArgumentError(ConfigurationError, StreamError):
    """An argument of a stream method is wrong."""

    _fields: ClassVar[tuple[str, ...]] = (*ConfigurationError._fields, *StreamError._fields)


def certificate_not_found(path: str) -> CertificateError:
    """Create the error for a certificate file that does not exist."""
    return CertificateError(
        f"certificate file {shorten(path)} was not found",
        certificate_path=path,
        certificate_error="file_not_found",
    )


def connection_timeout(timeout_duration: float, *, operation: str = "connect") -> TimeoutError:
    """Create the error for an operation that reached its timeout (seconds)."""
    return TimeoutError(
        f"{operation} timed out after {timeout_duration:g} seconds",
        timeout_duration=timeout_duration,
        operation=operation,
    )


def datagram_too_large(*, size: int, max_size: int) -> DatagramTooLargeError:
    """Create the error for a datagram of ``size`` bytes when at most ``max_size`` fit."""
    return DatagramTooLargeError(datagram_size=size, max_size=max_size)


def invalid_config(*, key: str, value: Any, reason: str) -> ConfigurationError:
    """Create the error for a bad value of a configuration field."""
    return ConfigurationError(
        f"{key} = {shorten(value)}: {reason}", config_key=key, config_value=value, reason=reason
    )


def protocol_violation(message: str, *, frame_type: int | None = None) -> ProtocolError:
    """Create the error for a peer that broke the protocol; the code is PROTOCOL_VIOLATION."""
    return ProtocolError(message, error_code=0x0A, frame_type=frame_type)


def session_not_ready(*, session_id: str, current_state: SessionState) -> SessionError:
    """Create the error for an operation on a session that is not connected."""
    return SessionError(
        f"session {session_id} is not ready: its state is {plain(current_state)!r}",
        session_id=session_id,
        session_state=current_state,
    )


def stream_closed(stream_id: int, *, reason: str = "Stream was closed") -> StreamError:
    """Create the error for an operation on a closed stream."""
    return StreamError(
        f"stream {stream_id}: {printable(reason)}",
        stream_id=stream_id,
        stream_state=StreamState.CLOSED,
        reason=reason,
    )


def _checked_answer(status: Any, headers: Any) -> HeaderMap:
    """The header fields of a local answer, with whole numbers converted to strings."""
    if isinstance(status, bool) or not isinstance(status, int) or not 300 <= status <= 599:
        raise invalid_config(key="status_code", value=status, reason="expected 300 to 599")
    if not isinstance(headers, Mapping | None):
        raise invalid_config(key="headers", value=headers, reason="expected names with values")
    fields = HeaderMap.of(headers or {})
    for name, value in tuple[tuple[Any, Any], ...](fields.items()):
        if isinstance(value, int) and not isinstance(value, bool):
            fields[name] = str(value)
        elif not isinstance(name, str) or not isinstance(value, str):
            wrong, reason = {name: value}, "expected strings or whole numbers"
            raise invalid_config(key="headers", value=wrong, reason=reason)
    return fields


def is_retriable_error(exception: Exception) -> bool:
    """Tell whether the same operation may succeed if you try it again later.

    True for lost and refused connections, timeouts, reached stream limits, requests
    that the server did not process (H3_REQUEST_REJECTED, RFC 9114 section 8.1), and
    rejections whose status says so (408, 425, 429, 500, 502, 503, 504); also
    for the matching errors of the standard library. An error that stands for
    several (``details["attempts"]``) is retriable only if all of them are.

    Args:
        exception: Any exception.
    """
    attempts = _attempts(exception)
    if attempts:
        return all(attempt.get("retriable") is True for attempt in attempts)
    match exception:
        case SessionRejectedError():
            return exception.status_code in _RETRIABLE_STATUSES
        case ProxyError() if exception.status_code is not None:
            return exception.status_code in _RETRIABLE_STATUSES
        case builtins.ConnectionError() | builtins.TimeoutError():
            return True
        case WebTransportError() if is_request_rejected(exception):
            return True
        case socket.gaierror():
            return exception.errno == socket.EAI_AGAIN
        case OSError():
            return exception.errno in _RETRIABLE_ERRNOS
        case _:
            return False


def is_request_rejected(exception: BaseException) -> bool:
    """Tell whether a server did not process a session request (H3_REQUEST_REJECTED).

    The request had no effect, so you may send it again at once on another connection (RFC 9114
    section 4.1.1).

    Args:
        exception: Any exception. Application codes are not HTTP/3 codes.
    """
    return (
        isinstance(exception, ClientError | SessionError)
        and not isinstance(exception, SessionClosedError | SessionRejectedError)
        and exception.error_code == ErrorCodes.H3_REQUEST_REJECTED
    )


def is_fatal_error(exception: Exception) -> bool:
    """Tell whether trying again is pointless until something is changed.

    True for configuration, certificate, authentication, handshake and protocol
    errors, for servers without WebTransport, and for rejections with a status
    that does not ask to try again. Errors of one stream, datagram or message
    are not fatal: the session goes on.

    Args:
        exception: Any exception.
    """
    match exception:
        case SessionRejectedError():
            return exception.status_code not in _RETRIABLE_STATUSES
        case ProxyError():
            return exception.status_code not in {None, *_RETRIABLE_STATUSES}
        case (
            AuthenticationError()
            | CertificateError()
            | ConfigurationError()
            | HandshakeError()
            | ProtocolError()
            | WebTransportNotSupportedError()
        ):
            return True
        case _:
            return False


def get_error_category(exception: Exception) -> str:
    """Return the category of an error, for logs and metrics.

    Args:
        exception: Any exception.

    Returns:
        ``authentication``, ``certificate``, ``client``, ``configuration``,
        ``connection``, ``datagram``, ``flow_control``, ``handshake``,
        ``protocol``, ``serialization``, ``server``, ``session``, ``stream``,
        ``timeout``, ``webtransport`` (the base class itself), or ``unknown``.
    """
    match exception:
        case WebTransportError():
            return exception.category
        case builtins.TimeoutError():
            return "timeout"
        case OSError():
            return "connection"
        case _:
            return "unknown"


def _attempts(exception: Exception) -> list[Mapping[str, Any]]:
    """The attempts that an error stands for (``details["attempts"]``); empty for most."""
    found = exception.details.get("attempts") if isinstance(exception, WebTransportError) else None
    return [item for item in found if isinstance(item, Mapping)] if isinstance(found, list) else []
