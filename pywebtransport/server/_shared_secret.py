"""Keys that outlive a process, and that several processes and machines can share.

A server that restarts with the same secret recognizes the connection IDs, tokens and tickets that
it issued before. So its clients learn with their next packet that their connection is gone, and
reconnect with a shorter handshake.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import hmac
import logging
import os
import secrets
import ssl
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import cast

from .._loop import WorkerSockets
from .._states import Address
from ..config import ServerConfig
from ..constants import SHARED_SECRET_SIZE
from ..exceptions import ConfigurationError
from ..utils._private_files import open_private, why_not
from ..utils._text import printable

__all__ = ["SharedSecret", "current_secret", "load_shared_secret"]

_LABEL = b"pywebtransport shared secret"
_KEY_SIZE = 32
_TICKET_KEY_SIZE = 64
# Largest file in bytes; a larger one must be the wrong file.
_LARGEST_FILE = 4096
_DIRECTORY = "pywebtransport"
_FILE = "shared-secret"
_logger = logging.getLogger("pywebtransport.server")
# Secrets that were read before, here or in the parent process: a worker may have dropped the #
# privileges to read them again.
_own: dict[Path, bytes] = {}


class SharedSecret:
    """One or more secrets, and keys derived from them (HKDF, RFC 5869).

    Args:
        items: The first is used for new tokens and tickets, all are accepted.
        is_own: They belong to this machine, for any number of servers. Then each server must have
            different keys: one server must not send the stateless reset for a connection of another
            (RFC 9000 section 21.11).
    """

    def __init__(self, items: list[bytes], *, is_own: bool) -> None:
        self._keys = [hmac.digest(_LABEL, item, "sha256") for item in items]
        self._is_own = is_own

    def engine_secrets(self, address: Address) -> list[bytes]:
        """The secrets from which the QUIC engine derives its keys.

        Args:
            address: The first address that the server listens on.
        """
        context = f"{address[0]} {address[1]}".encode() if self._is_own else b""
        return [_expand(key, b"engine " + context, _KEY_SIZE) for key in self._keys]

    def ticket_key(self, config: ServerConfig) -> bytes:
        """The key of session tickets.

        A resumed handshake has no certificate. So a ticket is only valid with the settings for
        client certificates with which it was issued.
        """
        rules = config.verify_mode.name.encode()
        if config.verify_mode is not ssl.CERT_NONE and config.ca_certs:
            try:
                rules += hashlib.sha256(Path(config.ca_certs).read_bytes()).digest()
            except OSError:
                rules += secrets.token_bytes(_KEY_SIZE)  # TLS will report what is wrong with it
        return _expand(self._keys[0], b"ticket " + rules, _TICKET_KEY_SIZE)


def current_secret(
    config: ServerConfig, seat: WorkerSockets | None, known: SharedSecret | None
) -> SharedSecret:
    """The secret of a configuration; without one that lasts, that of the process.

    Args:
        config: Of the server.
        seat: Of a worker, whose supervisor has told what there is to tell.
        known: The secret in use until now.

    Raises:
        ConfigurationError: As ``load_shared_secret``.
    """
    found = load_shared_secret(config, quiet=seat is not None) or known
    if found is not None:
        return found
    random = secrets.token_bytes(SHARED_SECRET_SIZE) if seat is None else seat.secret
    return SharedSecret([random], is_own=True)


def load_shared_secret(config: ServerConfig, *, quiet: bool = False) -> SharedSecret | None:
    """Read the secrets of ``config.shared_secret``; create the first file if it does not exist.

    Args:
        config: Configuration of the server.
        quiet: Log nothing: another process has done so.

    Returns:
        None if nothing is configured and no file can be stored; this is logged.

    Raises:
        ConfigurationError: A file cannot be read or created, or is too short.
    """
    if config.shared_secret is None:
        own = _own_secret(quiet)
        return None if own is None else SharedSecret([own], is_own=True)
    items = []
    for index, item in enumerate(cast(list[bytes | str], config.shared_secret)):
        if isinstance(item, bytes):
            items.append(item)
            continue
        try:
            items.append(_read_or_make(Path(item)) if index == 0 else _read(Path(item)))
        except OSError as error:
            raise ConfigurationError(
                f"shared_secret: file '{printable(item)}' cannot be used: "
                f"{printable(why_not(item, error))}",
                config_key="shared_secret",
                config_value=item,
            ) from error
        if not quiet:
            _warn_of_readers(item)
    return SharedSecret(items, is_own=False)


# ------------------------------------------------------------------------ files


def _read(path: Path) -> bytes:
    """Read a file of the user, whatever its links, owner and mode."""
    return _content(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC))


def _read_own(path: Path) -> bytes:
    """Read a file of this package, which nobody else may have created."""
    return _content(open_private(path, os.O_RDONLY))


def _content(fd: int) -> bytes:
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise OSError(errno.EINVAL, "it is not a file")
        data = os.read(fd, _LARGEST_FILE + 1)
    finally:
        os.close(fd)
    if not SHARED_SECRET_SIZE <= len(data) <= _LARGEST_FILE:
        found = f"more than {_LARGEST_FILE}" if len(data) > _LARGEST_FILE else str(len(data))
        raise OSError(
            errno.EINVAL,
            f"it has {found} bytes; expected {SHARED_SECRET_SIZE} to {_LARGEST_FILE}",
        )
    return data


def _read_or_make(path: Path) -> bytes:
    try:
        return _read(path)
    except FileNotFoundError:
        _make(path)
        return _read(path)


def _make(path: Path) -> None:
    """Create a random secret that only its owner may read, unless it exists by then.

    Processes that start at the same time agree: the file gets its name once it is complete, and one
    of them is first.
    """
    import tempfile

    fd, name = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)  # mode 0600
    try:
        with open(fd, "wb") as file:
            file.write(secrets.token_bytes(_KEY_SIZE))
            file.flush()
            os.fsync(fd)
        with contextlib.suppress(FileExistsError):
            os.link(name, path)
            _logger.info("created a shared secret in '%s'", printable(path))
    finally:
        os.unlink(name)


def _own_secret(quiet: bool) -> bytes | None:
    """The secret for servers of this user on this machine."""
    problems = []
    for path in _places():
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            if not os.path.lexists(path):
                _make(path)
            found = _own[path] = _read_own(path)
            return found
        except OSError as error:
            if path in _own:
                return _own[path]
            problems.append(f"'{printable(path)}': {printable(why_not(path, error))}")
    if not quiet:
        _logger.info(
            "no shared secret can be stored, so clients will notice late when this server was "
            "restarted; see shared_secret (%s)",
            "; ".join(problems) or "there is no home directory",
        )
    return None


def _places() -> Iterator[Path]:
    """Where it may be stored, the best place first."""
    given = os.environ.get("STATE_DIRECTORY", "").partition(":")[0]  # of a systemd service
    if os.path.isabs(given):
        yield Path(given) / _FILE
    state = os.environ.get("XDG_STATE_HOME", "")
    if os.path.isabs(state):
        yield Path(state) / _DIRECTORY / _FILE
    else:
        try:
            yield Path.home() / ".local" / "state" / _DIRECTORY / _FILE
        except RuntimeError:
            return


def _warn_of_readers(path: str) -> None:
    mode = os.stat(path).st_mode
    if mode & (stat.S_IROTH | stat.S_IWOTH):
        _logger.warning(
            "everybody on this machine can read the shared secret in '%s' (mode %03o); with it "
            "they can end its connections: chmod 600 it",
            printable(path),
            stat.S_IMODE(mode),
        )


def _expand(key: bytes, info: bytes, size: int) -> bytes:
    """HKDF-Expand with SHA-256 (RFC 5869 section 2.3)."""
    result = block = b""
    for number in range(1, -(-size // hashlib.sha256().digest_size) + 1):
        block = hmac.digest(key, block + info + bytes([number]), "sha256")
        result += block
    return result[:size]
