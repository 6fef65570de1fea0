"""What the operating system refuses for want of resources, and what to do about it."""

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
"""What an event loop opens, or less."""

_OUT_OF_FILES = frozenset({errno.EMFILE, errno.ENFILE})
_ADVICE = "close something or raise the limit of open files (ulimit -n)"


def has_free_descriptor() -> bool:
    """Whether a file could be opened now.

    For libraries that say of a file only that it cannot be read, and of a name that it is
    not known.
    """
    try:
        require_descriptors(1)
    except OSError as error:
        return not is_lack_of_descriptors(error)
    return True


def is_lack_of_descriptors(error: OSError) -> bool:
    """Whether it is that, and nothing that is wrong with what was asked for."""
    return error.errno in _OUT_OF_FILES


def require_descriptors(count: int) -> None:
    """Check that so many files could be opened now.

    For what would leave the first of them open when it gets no further one.

    Raises:
        OSError: They cannot.
    """
    opened: list[int] = []
    try:
        while len(opened) < count:
            opened.append(os.open(os.devnull, os.O_RDONLY))
    finally:
        for descriptor in opened:
            os.close(descriptor)


def out_of_descriptors() -> str:
    """That, and what to do about it."""
    return f"{os.strerror(errno.EMFILE)}; {_ADVICE}"


def explain_os_error(error: BaseException) -> str:
    """The text of an error, and what to do when it is a lack of resources."""
    text = printable((error.strerror if isinstance(error, OSError) else None) or error)
    if isinstance(error, socket.gaierror):
        return text if has_free_descriptor() else f"{text}; {out_of_descriptors()}"
    match error:
        case OSError(errno=errno.EMFILE | errno.ENFILE):
            return f"{text}; {_ADVICE}"
        case OSError(errno=errno.ENOMEM | errno.ENOBUFS):
            return f"{text}; the system has no memory left for it"
        case RuntimeError() if "thread" in text:
            return f"{text}; end something or raise the limit of processes (ulimit -u)"
        case _:
            return text
