"""Files with secrets: only their owner may read them or choose where they are."""

from __future__ import annotations

import errno
import os
import stat

from ._system import explain_os_error

__all__ = ["open_private", "why_not"]

_OTHERS = stat.S_IRWXG | stat.S_IRWXO
_KINDS = {
    stat.S_IFLNK: "it is a symbolic link, which is not followed",
    stat.S_IFDIR: "it is a directory",
    stat.S_IFIFO: "it is a pipe",
    stat.S_IFSOCK: "it is a socket",
    stat.S_IFBLK: "it is a block device",
}


def open_private(path: str | os.PathLike[str], flags: int) -> int:
    """Open a file that only its owner may read.

    A new file gets mode 0600, and so does an existing one with more permissions. Files that another
    user may have put there are refused: a symbolic link, a file of another user, one with a second
    name, a pipe. Character devices are accepted.

    Args:
        path: The file; the directories above it may be symbolic links.
        flags: As for ``os.open``: you can pass this function as ``opener`` to ``open``.

    Returns:
        A descriptor.

    Raises:
        OSError: It cannot be opened, or is refused; ``why_not`` gives the message.
    """
    fd = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o600)
    try:
        found = os.fstat(fd)
        if stat.S_ISCHR(found.st_mode):
            return fd
        if not stat.S_ISREG(found.st_mode):
            raise OSError(errno.EINVAL, _KINDS.get(stat.S_IFMT(found.st_mode), "it is not a file"))
        if found.st_uid != os.geteuid():
            raise OSError(errno.EPERM, f"it belongs to another user ({found.st_uid})")
        if found.st_nlink > 1 and flags & (os.O_WRONLY | os.O_RDWR):
            raise OSError(errno.EMLINK, "it has a second name (a hard link)")
        if found.st_mode & _OTHERS:
            os.fchmod(fd, 0o600)
    except BaseException:
        os.close(fd)
        raise
    return fd


def why_not(path: str | os.PathLike[str], error: OSError) -> str:
    """Why a file could not be opened, in words."""
    if error.errno in (errno.ELOOP, errno.ENXIO, errno.EISDIR):
        # The messages of the system for these do not help.
        try:
            kind = stat.S_IFMT(os.lstat(path).st_mode)
        except OSError:
            kind = 0
        if kind in _KINDS:
            return _KINDS[kind]
    return explain_os_error(error)
