"""The exceptions of the package; docs/reference/exceptions.md draws their tree.

Every exception has the fields of ``WebTransportError``. All of them can be pickled and copied.
``asyncio.CancelledError`` is never wrapped.
"""

from __future__ import annotations

import builtins
import re
import socket
from collections.abc import Mapping
from errno import EAGAIN, EHOSTDOWN, EHOSTUNREACH, EINTR, ENETDOWN, ENETUNREACH, ENOBUFS
from typing import Any, ClassVar

from ._declared import declared, field, fields_of
from ._header_map import HeaderMap
from ._plain import one_line, plain, printable, rejection_text, shorten
from ._states import HeadersToSend, SessionState, StreamState
from .constants import ErrorCodes

__all__ = ["AuthenticationError", "CertificateError", "CertificateHashError", "ClientArgumentError"]
__all__ += ["ClientError", "ConfigurationError", "ConnectionError", "DatagramArgumentError"]
__all__ += ["DatagramError", "DatagramTooLargeError", "FlowControlError", "HandshakeError"]
__all__ += ["IdleTimeoutError", "ProtocolError", "ProxyError", "SerializationError", "ServerError"]
__all__ += ["SessionArgumentError", "SessionClosedError", "SessionError", "SessionRejectedError"]
__all__ += ["StreamArgumentError", "StreamError", "StreamLimitError", "StreamResetError"]
__all__ += ["StreamStoppedError", "TimeoutError", "UnreachableError", "WebTransportError"]
__all__ += ["WebTransportNotSupportedError"]
__all__ += ["certificate_not_found", "connection_timeout", "datagram_too_large"]
__all__ += ["get_error_category", "invalid_config", "is_fatal_error", "is_request_rejected"]
__all__ += ["is_retriable_error", "protocol_violation", "session_not_ready", "stream_closed"]

# HTTP statuses that ask to try again later (RFC 9110, RFC 8470).
_RETRIABLE_STATUSES = frozenset({408, 425, 429, 500, 502, 503, 504})
_RETRIABLE_ERRNOS = {EAGAIN, EHOSTDOWN, EHOSTUNREACH, EINTR, ENETDOWN, ENETUNREACH, ENOBUFS}


@declared
class WebTransportError(Exception):
    """Base class of all exceptions of this library.

    The fields of this class and of each subclass are keyword arguments and attributes. The message
    may also be given by position: what happened, with which value, and what to do. It is stored as
    one line of at most 2000 characters; characters that are not printable are escaped.
    """

    category: ClassVar[str] = "webtransport"
    message: str = field(kw_only=False)
    error_code: int | None = None  #: The code from the protocol or the peer; None: there is none.
    reason: str = ""  #: The text that came with the code.
    remote: bool | None = None  #: True: the peer caused it; False: this end did; None: unknown.
    details: dict[str, Any] = field(init=False)  #: More information; a copy of what was given.
    _details: dict[str, Any] | None = field(default=None, alias="details")

    def __init_subclass__(cls, category: str = "", **others: Any) -> None:
        super().__init_subclass__(**others)
        if category:
            cls.category = category

    def _complete(self) -> None:
        """Convert the arguments, which were stored as the attributes that have their names."""
        message = self._sentence() if self.message is None else self.message
        # It may contain text from the peer, which must not forge a log line or fill the log.
        self.message = one_line(message)
        self.details = dict(self.details) if self.details else {}
        super().__init__(self.message)

    def _sentence(self) -> str:
        """The message of a subclass that can do without one, made of the other fields."""
        return ""

    def to_dict(self) -> dict[str, Any]:
        """Return all fields as values that can be written as JSON."""
        values = {name: plain(getattr(self, name)) for name in fields_of(type(self))}
        return {"type": type(self).__name__, "category": self.category, **values}

    def __str__(self) -> str:
        code = self.error_code
        if code is None:
            return self.message
        if not isinstance(code, int):
            return f"{self.message} (code {shorten(code)})"
        if re.search(rf"\bcode (0x{code:x}|{code:d})\b", self.message):
            return self.message  # it says so itself
        return f"{self.message} (code 0x{code:x})"

    def __repr__(self) -> str:
        parts = [repr(self.message)]
        names = [name for name in fields_of(type(self)) if name not in ("message", "details")]
        for name in (*names, "details"):
            value = getattr(self, name)
            if value is not None and value != "" and value != {}:
                parts.append(f"{name}={shorten(value, 1000)}")
        return f"{type(self).__name__}({', '.join(parts)})"


@declared
class AuthenticationError(WebTransportError, category="authentication"):
    """The peer could not be authenticated."""

    auth_method: str | None = None  #: How it had to prove who it is, such as ``token``.


@declared
class CertificateError(WebTransportError, category="certificate"):
    """A certificate or key is missing, unusable, expired, or not trusted."""

    certificate_path: str | None = None  #: The file, if it is one.
    certificate_error: str | None = None  #: What is wrong, such as ``file_not_found``.


class CertificateHashError(CertificateError):
    """The server's certificate matches none of ``server_certificate_hashes``.

    Also raised when it matches, but has an RSA key, is not valid now, or is valid for over 14 days.
    """


@declared
class ClientError(WebTransportError, category="client"):
    """A client operation failed."""

    target_url: str | None = None  #: The URL of the session.


@declared
class SessionRejectedError(ClientError):
    """A session was refused with an HTTP status.

    Raise it in server middleware to answer with a status and headers. On the client, it reports
    them. ``details`` contains both, too. The default message names the status, the URL and what to
    do. An answer that did not come from the peer (``remote=True``) is checked when you create it.

    Raises:
        ConfigurationError: ``status_code`` or ``headers`` cannot be sent.
    """

    message: str = field(init=False)
    _message: str | None = field(default=None, kw_only=False, alias="message")
    status_code: int = 403  #: HTTP status, 300 to 599.
    #: Header fields of the response. Numbers become their digits, lists become several lines.
    headers: HeaderMap = field(init=False)
    _headers: HeadersToSend | None = field(default=None, alias="headers")

    def _complete(self) -> None:
        if self.remote:
            self.headers = HeaderMap.of(self.headers or {})
        else:
            self.headers = _checked_answer(self.status_code, self.headers)
        super()._complete()
        self.details.setdefault("status_code", self.status_code)
        self.details.setdefault("headers", dict(self.headers))

    def _sentence(self) -> str:
        return rejection_text(self.status_code, self.headers, self.target_url)


class WebTransportNotSupportedError(ClientError):
    """The server speaks HTTP/3, but not WebTransport, or none of the configured dialects."""


@declared
class ConfigurationError(WebTransportError, ValueError, category="configuration"):
    """An argument is wrong, or a configuration field is unknown or has a bad value.

    The call had no effect. Some methods raise a subclass, such as ``StreamArgumentError``, which is
    also a ``StreamError``.
    """

    config_key: str | None = None  #: The argument or field.
    config_value: Any | None = None  #: What was given for it.


@declared
class ConnectionError(WebTransportError, builtins.ConnectionError, category="connection"):
    """The QUIC connection could not be established, or it was lost."""

    remote_address: tuple[str, int] | None = None  #: Host and UDP port of the peer.


class IdleTimeoutError(ConnectionError):
    """The peer was silent for longer than the idle timeout.

    This is not a :class:`TimeoutError`: the connection is gone, so do not wait again.
    """


class UnreachableError(ConnectionError):
    """The address cannot be reached: name not found, port closed, or no route.

    If packets get no answer at all, for instance because a firewall drops UDP, you get a
    :class:`TimeoutError` with the operation ``handshake`` instead.
    """


@declared
class ProxyError(ConnectionError):
    """A tunnel through a proxy could not be opened, or it was lost."""

    proxy_url: str = ""  #: URL of the proxy.
    target: str = ""  #: ``host:port`` at the far end of the tunnel.
    status_code: int | None = None  #: HTTP status of a refusal; None if there was no such answer.
    headers: dict[str, str] = field(init=False)  #: Of it, such as ``proxy-status`` (RFC 9209).
    _headers: Mapping[str, str] | None = field(default=None, alias="headers")

    def _complete(self) -> None:
        super()._complete()
        self.headers = dict(self.headers) if self.headers else {}


@declared
class DatagramError(WebTransportError, category="datagram"):
    """A datagram could not be sent or received."""

    datagram_size: int | None = None  #: Bytes of the datagram.
    max_size: int | None = None  #: Bytes that fit; they depend on the network path.


@declared
class DatagramTooLargeError(DatagramError):
    """A datagram is larger than the current maximum; nothing was sent.

    The default message names both sizes.
    """

    message: str = field(init=False)
    _message: str | None = field(default=None, kw_only=False, alias="message")

    def _sentence(self) -> str:
        size = "" if self.datagram_size is None else f" of {self.datagram_size} bytes"
        limit = "what" if self.max_size is None else f"the {self.max_size} bytes that"
        return f"a datagram{size} is larger than {limit} fit now; send less or use a stream"


@declared
class FlowControlError(WebTransportError, category="flow_control"):
    """A limit on bytes or streams was exceeded."""

    stream_id: int | None = None  #: The stream, if it is a limit of one.
    limit_exceeded: int | None = None  #: The limit, in bytes or streams.
    current_value: int | None = None  #: What would have been used, in the same unit.


@declared
class HandshakeError(WebTransportError, category="handshake"):
    """The QUIC or TLS handshake, or the exchange of SETTINGS, failed."""

    handshake_stage: str | None = None  #: The step that failed, such as ``tls``.


@declared
class ProtocolError(WebTransportError, category="protocol"):
    """One end broke the rules of QUIC, HTTP/3 or WebTransport."""

    frame_type: int | None = None  #: Type of the frame that did, if it was one.


@declared
class SerializationError(WebTransportError, category="serialization"):
    """An object could not be turned into bytes, or bytes into an object."""

    original_exception: Exception | None = None  #: What the serializer raised.


@declared
class ServerError(WebTransportError, category="server"):
    """A server operation failed, for instance binding its address."""

    bind_address: tuple[str, int] | None = None  #: Host and UDP port of the server.


@declared
class SessionError(WebTransportError, category="session"):
    """An operation on a session failed."""

    session_id: str | None = None  #: ``session_id`` of the session.
    session_state: SessionState | None = None  #: State of the session at that time.


@declared
class SessionClosedError(SessionError):
    """The session ended before or during the operation.

    The default message tells ``remote`` and ``reason``; ``error_code`` defaults to ``code``.
    """

    message: str = field(init=False)
    _message: str | None = field(default=None, kw_only=False, alias="message")
    code: int | None = None  #: The application's code; None if the session ended without one.
    session_state: SessionState | None = SessionState.CLOSED

    def _complete(self) -> None:
        super()._complete()
        if self.error_code is None:
            self.error_code = self.code

    def _sentence(self) -> str:
        by = {True: " by the peer", False: " by this end", None: ""}[self.remote]
        why = f": {printable(self.reason)}" if self.reason else ""
        return f"the session was closed{by}{why}"


@declared
class StreamError(WebTransportError, category="stream"):
    """An operation on a stream failed."""

    stream_id: int | None = None  #: The QUIC stream ID.
    stream_state: StreamState | None = None  #: State of the stream at that time.


@declared
class StreamResetError(StreamError):
    """A read failed because the peer reset the stream (RESET_STREAM).

    ``error_code`` is the application's code, None when the peer's code stands
    for none; ``details["code"]`` is the code on the wire.
    """

    message: str = field(init=False)
    _message: str | None = field(default=None, kw_only=False, alias="message")
    remote: bool | None = True

    def _sentence(self) -> str:
        return "the peer reset the stream"


@declared
class StreamStoppedError(StreamError):
    """A write failed because the peer stopped reading the stream (STOP_SENDING).

    ``error_code`` is the application's code, None when the peer's code stands
    for none; ``details["code"]`` is the code on the wire, if it is known.
    """

    message: str = field(init=False)
    _message: str | None = field(default=None, kw_only=False, alias="message")
    remote: bool | None = True

    def _sentence(self) -> str:
        return "the peer stopped reading the stream"


@declared
class TimeoutError(WebTransportError, builtins.TimeoutError, category="timeout"):
    """An operation took longer than its timeout."""

    timeout_duration: float | None = None  #: Seconds.
    operation: str | None = None  #: What took too long, such as ``connect``.


@declared
class StreamLimitError(StreamError, TimeoutError):
    """No stream could be opened: a stream limit of the peer, or a local one, was reached.

    Also a :class:`TimeoutError`, whether or not the call waited: streams that end make room, so the
    same call may succeed later. ``timeout_duration`` is None if it did not wait.
    """

    operation: str | None = "open stream"


@declared
class ClientArgumentError(ConfigurationError, ClientError):
    """An argument of a client method is wrong."""


@declared
class DatagramArgumentError(ConfigurationError, DatagramError):
    """An argument of a datagram method is wrong."""


@declared
class SessionArgumentError(ConfigurationError, SessionError):
    """An argument of a session method is wrong."""


@declared
class StreamArgumentError(ConfigurationError, StreamError):
    """An argument of a stream method is wrong."""


def certificate_not_found(path: str) -> CertificateError:
    """Create the error for a certificate file that does not exist."""
    message, error = f"certificate file {shorten(path)} was not found", "file_not_found"
    return CertificateError(message, certificate_path=path, certificate_error=error)


def connection_timeout(timeout_duration: float, *, operation: str = "connect") -> TimeoutError:
    """Create the error for an operation that reached its timeout (seconds)."""
    message = f"{operation} timed out after {timeout_duration:g} seconds"
    return TimeoutError(message, timeout_duration=timeout_duration, operation=operation)


def datagram_too_large(*, size: int, max_size: int) -> DatagramTooLargeError:
    """Create the error for a datagram of ``size`` bytes when at most ``max_size`` fit."""
    return DatagramTooLargeError(datagram_size=size, max_size=max_size)


def invalid_config(*, key: str, value: Any, reason: str) -> ConfigurationError:
    """Create the error for a bad value of a configuration field."""
    message = f"{key} = {shorten(value)}: {reason}"
    return ConfigurationError(message, config_key=key, config_value=value, reason=reason)


def protocol_violation(message: str, *, frame_type: int | None = None) -> ProtocolError:
    """Create the error for a peer that broke the protocol; the code is PROTOCOL_VIOLATION."""
    return ProtocolError(message, error_code=0x0A, frame_type=frame_type)


def session_not_ready(*, session_id: str, current_state: SessionState) -> SessionError:
    """Create the error for an operation on a session that is not connected."""
    message = f"session {session_id} is not ready: its state is {plain(current_state)!r}"
    return SessionError(message, session_id=session_id, session_state=current_state)


def stream_closed(stream_id: int, *, reason: str = "Stream was closed") -> StreamError:
    """Create the error for an operation on a closed stream."""
    message, state = f"stream {stream_id}: {printable(reason)}", StreamState.CLOSED
    return StreamError(message, stream_id=stream_id, stream_state=state, reason=reason)


def is_retriable_error(exception: Exception) -> bool:
    """Tell whether the same operation may succeed if you try it again later.

    True for lost and refused connections, timeouts, reached stream limits, requests that the server
    did not process (H3_REQUEST_REJECTED, RFC 9114 section 8.1), rejections whose status says so
    (408, 425, 429, 500, 502, 503, 504), and the matching errors of the standard library. An error
    that stands for several (``details["attempts"]``) is retriable only if all of them are.
    """
    match exception:
        case WebTransportError(details={"attempts": [{}, *_] as attempts}):
            return all(isinstance(it, Mapping) and it.get("retriable") is True for it in attempts)
        case SessionRejectedError(status_code=int(status)) | ProxyError(status_code=int(status)):
            return status in _RETRIABLE_STATUSES
        case builtins.ConnectionError() | builtins.TimeoutError():
            return True
        case socket.gaierror():
            return exception.errno == socket.EAI_AGAIN
        case OSError():
            return exception.errno in _RETRIABLE_ERRNOS
        case _:
            return is_request_rejected(exception)


def is_request_rejected(exception: BaseException) -> bool:
    """Tell whether a server did not process a session request (H3_REQUEST_REJECTED).

    The request had no effect, so you may send it again at once on another connection (RFC 9114
    section 4.1.1). Application codes are not HTTP/3 codes.
    """
    return (
        isinstance(exception, ClientError | SessionError)
        and not isinstance(exception, SessionClosedError | SessionRejectedError)
        and exception.error_code == ErrorCodes.H3_REQUEST_REJECTED
    )


def is_fatal_error(exception: Exception) -> bool:
    """Tell whether trying again is pointless until something is changed.

    True for configuration, certificate, authentication, handshake and protocol errors, for servers
    without WebTransport, and for rejections with a status that does not ask to try again. Errors of
    one stream, datagram or message are not fatal: the session goes on.
    """
    if isinstance(exception, SessionRejectedError | ProxyError):
        return exception.status_code not in {None, *_RETRIABLE_STATUSES}
    wrong = AuthenticationError | CertificateError | ConfigurationError | HandshakeError
    return isinstance(exception, wrong | ProtocolError | WebTransportNotSupportedError)


def get_error_category(exception: Exception) -> str:
    """Return the category of an error, for logs and metrics.

    Returns:
        The ``category`` of the class; for timeouts and other errors of the operating system
        ``timeout`` and ``connection``, for any other exception ``unknown``.
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
