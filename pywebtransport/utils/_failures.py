"""Logs the exceptions that code of the application raises."""

from __future__ import annotations

import asyncio
import functools
import logging
import traceback
from collections.abc import Iterator
from typing import Any, Protocol, runtime_checkable

from ..exceptions import (
    ConfigurationError,
    SessionClosedError,
    StreamResetError,
    StreamStoppedError,
    WebTransportError,
)
from ._hosts import host_and_port
from ._logs import shared_log
from ._text import one_line, printable, printable_line, printable_path

__all__ = [
    "describe_error",
    "error_kind",
    "error_leaves",
    "is_normal_end",
    "log_application_error",
    "name_of",
    "session_among",
]

# Errors of a group that are named in the message; the traceback has all of them.
_NAMED_LEAVES = 5
# Characters of the text of one error.
_TEXT = 500
_TRACEBACK_TEXT = 2000
# The beginning of traceback pieces that are not the text of an exception.
_FRAMES = ('File "', "Traceback (", "Exception Group Traceback (", "During handling", "The above")


@runtime_checkable
class _Session(Protocol):
    """The attributes of a session that are logged."""

    @property
    def session_id(self) -> str: ...
    @property
    def path(self) -> str: ...
    @property
    def remote_address(self) -> tuple[str, int] | None: ...
    @property
    def is_closed(self) -> bool: ...


def log_application_error(
    logger: logging.Logger,
    what: str,
    error: BaseException,
    *,
    session: _Session | None = None,
) -> bool:
    """Log that a handler, middleware, listener, hook or method of the application raised.

    Creates one ERROR record with type and text of the error (for a group, those of its leaves),
    session, path and peer, and the traceback, whatever the log level. Text from outside is escaped,
    even in the traceback.

    A peer may be able to cause the same error again and again. So the same kind of error, raised at
    the same line, is logged 20 times, and then once a second, with the number of skipped ones.

    A normal end (see ``is_normal_end``) is logged as one line at DEBUG. A stream that the peer
    reset or stopped while its session continues is not an error of the application, but it ended
    the code that used it: that is a WARNING.

    Args:
        logger: The logger.
        what: What raised, such as ``handler of /chat``; text from outside in it is
            escaped by ``printable``.
        error: The exception, which may be a ``CancelledError``.
        session: The session that the code served.

    Returns:
        False if it was a normal end.
    """
    normal = is_normal_end(error, session)
    if normal:
        # If its session continues, this is not the end.
        level = logging.DEBUG if session is None or session.is_closed else logging.WARNING
    else:
        level = logging.ERROR
    if not logger.isEnabledFor(level):
        return level > logging.DEBUG
    note: str | None = ""
    if level > logging.DEBUG:
        note = shared_log(logger).admit(error_kind(error))
        if note is None:
            return True
    where = ""
    fields: dict[str, object] | None = None
    if session is not None:
        remote = session.remote_address
        path = printable_path(session.path)
        where = (
            f" [session {session.session_id}, path {path}, "
            f"peer {'unknown' if remote is None else f'{remote[0]} port {remote[1]}'}]"
        )
        fields = {
            "session_id": session.session_id,
            "path": path,
            "client": "-" if remote is None else host_and_port(*remote),
        }
    file, line, function, _ = logger.findCaller(False, 2)
    record = logger.makeRecord(
        logger.name,
        level,
        file,
        line,
        "%s raised %s%s%s",
        (what, describe_error(error), where, note),
        (type(error), error, error.__traceback__) if level > logging.DEBUG else None,
        function,
        fields,
    )
    if record.exc_info:
        # Formatters use this instead of creating it: the text of an error may come from the peer.
        record.exc_text = _traceback_text(error)
    logger.handle(record)
    return level > logging.DEBUG


def is_normal_end(error: BaseException, session: _Session | None = None) -> bool:
    """Whether an error only reports an action of the peer, or the end of the session.

    A group, such as that of a ``TaskGroup``, is normal if all its leaves are.

    Args:
        error: The exception.
        session: The session that the code served. After its end, every error of this package except
            ``ConfigurationError`` reports this end, and so does the cancellation of code that
            waited for it.
    """
    return all(_is_normal(leaf, session) for leaf in error_leaves(error))


def error_leaves(error: BaseException) -> Iterator[BaseException]:
    """The errors in a group, at any depth; for other errors, the error itself."""
    if not isinstance(error, BaseExceptionGroup):
        yield error
        return
    for member in error.exceptions:
        yield from error_leaves(member)


def describe_error(error: BaseException) -> str:
    """Type and text of an error in one safe line; for a group, those of its leaves.

    Quotes stay as they are: do not put the line between quotes.
    """
    name = type(error).__name__
    try:
        text = one_line(str(error), _TEXT)
    except Exception:  # a __str__ of the application
        text = f"<{name}>"
    described = f"{name}: {text}" if text else name
    if not isinstance(error, BaseExceptionGroup):
        return described
    leaves = list(error_leaves(error))
    parts = [describe_error(leaf) for leaf in leaves[:_NAMED_LEAVES]]
    if len(leaves) > _NAMED_LEAVES:
        parts.append(f"and {len(leaves) - _NAMED_LEAVES} more")
    return f"{described}: {'; '.join(parts)}"


def name_of(function: Any) -> str:
    """Module and name of a function; for another object, those of its class."""
    while isinstance(function, functools.partial):
        function = function.func
    name = getattr(function, "__qualname__", None)
    if not isinstance(name, str):
        function = type(function)
        name = function.__qualname__
    return printable(f"{getattr(function, '__module__', None)}.{name}")


def session_among(*candidates: object) -> _Session | None:
    """The first session among some objects."""
    return next((item for item in candidates if isinstance(item, _Session)), None)


def _is_normal(error: BaseException, session: _Session | None) -> bool:
    match error:
        case ConfigurationError():
            return False
        case StreamResetError() | StreamStoppedError():
            return error.remote is not False
        case SessionClosedError() if session is None:
            return True
        case WebTransportError() | asyncio.CancelledError():
            return session is not None and session.is_closed
    return False


def error_kind(error: BaseException) -> str:
    """The key of errors that are logged together.

    This is the type (for a group, that of its first leaf) and where it was raised.
    """
    leaf = next(error_leaves(error), error)
    place = ""
    trace = leaf.__traceback__
    while trace is not None:
        place = f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}"
        trace = trace.tb_next
    return f"{type(leaf).__name__} at {place}"


def _traceback_text(error: BaseException) -> str:
    pieces = traceback.TracebackException(type(error), error, error.__traceback__, compact=True)
    return "".join(map(_escaped_piece, pieces.format())).rstrip("\n")


def _escaped_piece(piece: str) -> str:
    """One piece of a traceback: frames unchanged, the text of an exception as one line."""
    if piece.lstrip(" |\n").startswith(_FRAMES):
        return "\n".join(map(printable_line, piece.split("\n")))
    kept, cut = piece.rstrip("\n"), ""
    if len(kept) > _TRACEBACK_TEXT:
        cut = f"... ({len(kept)} characters)"
        kept = kept[:_TRACEBACK_TEXT]
    return f"{printable_line(kept)}{cut}\n"
