"""What the operating system refuses, and what to do about it."""

from __future__ import annotations

import errno

from pywebtransport.utils.text import printable

__all__ = ["explain_os_error", "is_out_of_files"]

_OUT_OF_FILES = frozenset({errno.EMFILE, errno.ENFILE})


def is_out_of_files(error: OSError) -> bool:
    """The process, or the system, has as many files open as it may."""
    return error.errno in _OUT_OF_FILES


def explain_os_error(error: OSError) -> str:
    """The text of an error, and what to do about it where that is known."""
    text = printable(error.strerror or error)
    match error.errno:
        case errno.EADDRINUSE:
            return f"{text}; stop the program that uses the port, or choose another port (0: any)"
        case errno.EACCES | errno.EPERM:
            return f"{text}; ports below 1024 need privileges, choose a port from 1024 on"
        case errno.EADDRNOTAVAIL:
            return f"{text}; this machine has no such address, use one of its own or a wildcard"
        case errno.EAFNOSUPPORT | errno.EPROTONOSUPPORT:
            return f"{text}; this machine lacks the address family, use the other one"
        case errno.EMFILE | errno.ENFILE:
            return f"{text}; close something or raise the limit of open files (ulimit -n)"
        case errno.ENOMEM | errno.ENOBUFS:
            return f"{text}; the system has no memory left for it"
        case _:
            return text
