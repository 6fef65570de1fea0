"""Files with secrets: mode 0600, and never at a place that another user chose."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from pywebtransport._core.endpoint import _KeyLog, _QlogDir
from pywebtransport.exceptions import ConfigurationError
from pywebtransport.utils._private_files import open_private

WRITE = os.O_WRONLY | os.O_APPEND | os.O_CREAT


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


@pytest.mark.parametrize("before", [None, 0o600, 0o644, 0o666])
def test_only_the_owner_may_read_it(tmp_path: Path, before: int | None) -> None:
    path = tmp_path / "keys.log"
    old = os.umask(0)
    try:
        if before is not None:
            path.write_text("old\n")
            path.chmod(before)
        _KeyLog(str(path))("CLIENT_RANDOM 00 00")
    finally:
        os.umask(old)
    assert mode(path) == 0o600
    assert path.read_text().endswith("CLIENT_RANDOM 00 00\n")


def symlink(path: Path) -> None:
    (path.parent / "target").write_text("precious")
    path.symlink_to(path.parent / "target")


def dangling(path: Path) -> None:
    path.symlink_to(path.parent / "target")


def hard_link(path: Path) -> None:
    (path.parent / "target").write_text("precious")
    path.hardlink_to(path.parent / "target")


def unix_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(path))


def foreign(path: Path) -> None:
    path.write_text("precious")
    os.chown(path, 12345, -1)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (symlink, "it is a symbolic link, which is not followed"),
        (dangling, "it is a symbolic link, which is not followed"),
        (hard_link, "it has a second name"),
        (Path.mkdir, "it is a directory"),
        (os.mkfifo, "it is a pipe"),
        (unix_socket, "it is a socket"),
        # Only root can give a file away.
        *([(foreign, "it belongs to another user (12345)")] if os.geteuid() == 0 else []),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_what_somebody_else_put_there_is_refused(
    tmp_path: Path, make: Callable[[Path], None], words: str
) -> None:
    path = tmp_path / "keys.log"
    make(path)
    before = path.lstat()
    with pytest.raises(ConfigurationError) as caught:
        _KeyLog(str(path))
    assert words in str(caught.value)
    assert caught.value.config_key == "keylog_file"
    assert path.lstat().st_mode == before.st_mode
    target = tmp_path / "target"
    assert not target.exists() or target.read_text() == "precious"


def test_a_pipe_that_somebody_reads_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "keys.log"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        with pytest.raises(ConfigurationError, match="it is a pipe"):
            _KeyLog(str(path))
    finally:
        os.close(reader)


def test_a_link_that_comes_later_is_not_followed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Each line opens the file anew."""
    path = tmp_path / "keys.log"
    write = _KeyLog(str(path))
    path.unlink()
    symlink(path)
    write("CLIENT_RANDOM 00 00")
    write("CLIENT_RANDOM 00 00")
    assert (tmp_path / "target").read_text() == "precious"
    (told,) = [record.getMessage() for record in caplog.records]
    assert "it is a symbolic link" in told


def test_qlog_files_are_private_too(tmp_path: Path) -> None:
    (tmp_path / "target").write_text("precious")
    write = _QlogDir(str(tmp_path))
    (tmp_path / "1f.sqlog").symlink_to(tmp_path / "target")
    write(0x1F, b"{}", True)
    assert (tmp_path / "target").read_text() == "precious"
    (tmp_path / "1f.sqlog").unlink()
    write(0x1F, b"{}", True)
    assert mode(tmp_path / "1f.sqlog") == 0o600


def test_each_connection_has_a_qlog_file(tmp_path: Path) -> None:
    """Also when a later one has the same number, as addresses in memory are used again."""
    header = (
        b'\x1e{"qlog_format":"JSON-SEQ","trace":{"vantage_point":{"name":"ngtcp2","type":"%s"},'
        b'"common_fields":{"group_id":"%s"}}}\n'
    )
    write = _QlogDir(str(tmp_path))
    write(1, header % (b"client", b"0a"), False)
    write(2, header % (b"server", b"0a"), False)
    write(1, b"one\n", False)
    write(2, b"two\n", True)
    write(2, header % (b"server", b"0b"), False)  # the first one has ended with its last record
    write(1, header % (b"client", b"0c"), True)  # and this one without
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {
        "0a_client.sqlog": header % (b"client", b"0a") + b"one\n",
        "0a_server.sqlog": header % (b"server", b"0a") + b"two\n",
        "0b_server.sqlog": header % (b"server", b"0b"),
        "0c_client.sqlog": header % (b"client", b"0c"),
    }


def test_a_disk_that_is_full_now_and_then_is_few_lines(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "keys.log"
    write = _KeyLog(str(path))
    for _ in range(20):
        path.unlink()
        path.symlink_to("/dev/full")
        write("lost")
        path.unlink()
        write("written")
    assert len(caplog.records) == 1


def test_a_device_is_left_as_it_is() -> None:
    before = os.stat("/dev/full").st_mode
    os.close(open_private("/dev/full", WRITE))
    assert os.stat("/dev/full").st_mode == before
