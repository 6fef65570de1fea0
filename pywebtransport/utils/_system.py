"""Errors of the operating system for lack of resources, and what to do about them."""

from __future__ import annotations

import errno
import os
import socket

from ._text import printable

__all__ = [
    "LOOP_DESCRIPTORS",
    "explain_os_error",
    "has_free_descriptor",
    "is_lack_of_descriptors",
    "out_of_descriptors",
    "require_descriptors",
]

LOOP_DESCRIPTORS = 8
"""At least as many as an event loop opens."""

_OUT_OF_FILES = frozenset({errno.EMFILE, errno.ENFILE})
_ADVICE = "close some files or raise the limit of open files (ulimit -n)"


def has_free_descriptor() -> bool:
    """Whether a file could be opened now.

    For libraries that only report that a file cannot be read, or that a name is unknown.
    """
    try:
        require_descriptors(1)
    except OSError as error:
        return not is_lack_of_descriptors(error)
    return True


def is_lack_of_descriptors(error: OSError) -> bool:
    """Whether an error is a lack of resources, and not an error of the request."""
    return error.errno in _OUT_OF_FILES


def require_descriptors(count: int) -> None:
    """Check that this many files could be opened now.

    For code that would leave the first ones open if it cannot open more.

    Raises:
        OSError: They cannot be opened.
    """
    opened: list[int] = []
    try:
        while len(opened) < count:
            opened.append(os.open(os.devnull, os.O_RDONLY))
    finally:
        for descriptor in opened:
            os.close(descriptor)


def out_of_descriptors() -> str:
    """The message for a lack of descriptors, with advice."""
    return f"{os.strerror(errno.EMFILE)}; {_ADVICE}"


def explain_os_error(error: BaseException) -> str:
    """The text of an error, with advice if it is a lack of resources."""
    text = printable((error.strerror if isinstance(error, OSError) else None) or error)
    if isinstance(error, socket.gaierror):
        return text if has_free_descriptor() else f"{text}; {out_of_descriptors()}"
    match error:
        case OSError(errno=errno.EMFILE | errno.ENFILE):
            return f"{text}; {_ADVICE}"
        case OSError(errno=errno.ENOMEM | errno.ENOBUFS):
            return f"{text}; the system is out of memory"
        case RuntimeError() if "thread" in text:
            return f"{text}; end some processes or raise their limit (ulimit -u)"
        case _:
            return text
