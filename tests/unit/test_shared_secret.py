"""The secret of a server: where it is kept, who may read it, and what is derived from it."""

from __future__ import annotations

import logging
import multiprocessing
import os
import ssl
from pathlib import Path
from typing import Any

import pytest

from pywebtransport import ServerConfig
from pywebtransport.exceptions import ConfigurationError
from pywebtransport.server import _shared_secret as shared_secret
from pywebtransport.server._shared_secret import SharedSecret, load_shared_secret

SECRET = bytes(range(32))
HERE = ("127.0.0.1", 4433)
THERE = ("127.0.0.1", 4434)


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home of its own, without the variables that overrule it."""
    monkeypatch.delenv("STATE_DIRECTORY", raising=False)
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def keys(config: ServerConfig, address: Any = HERE) -> list[bytes]:
    found = load_shared_secret(config)
    assert found is not None
    return found.engine_secrets(address)


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


# ------------------------------------------------------------------------- places


def test_the_users_own_secret_is_private_and_stays(state: Path) -> None:
    old = os.umask(0)
    try:
        first = keys(ServerConfig())
    finally:
        os.umask(old)
    path = state / ".local/state/pywebtransport/shared-secret"
    assert (mode(path), mode(path.parent), path.stat().st_size) == (0o600, 0o700, 32)
    assert os.listdir(path.parent) == ["shared-secret"]
    assert keys(ServerConfig()) == first
    path.chmod(0o644)
    assert keys(ServerConfig()) == first
    assert mode(path) == 0o600


def test_a_worker_without_rights_goes_on_with_what_its_parent_read(
    state: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first = keys(ServerConfig())
    path = state / ".local/state/pywebtransport/shared-secret"
    path.unlink()
    path.mkdir()
    assert keys(ServerConfig()) == first
    assert caplog.records == []


@pytest.mark.parametrize(
    ("variable", "where"),
    [
        ("XDG_STATE_HOME", "pywebtransport/shared-secret"),
        ("STATE_DIRECTORY", "shared-secret"),
    ],
)
def test_variables_say_where(
    state: Path, monkeypatch: pytest.MonkeyPatch, variable: str, where: str
) -> None:
    directory = state / "chosen"
    directory.mkdir()
    monkeypatch.setenv(variable, f"{directory}:/other" if variable[0] == "S" else str(directory))
    keys(ServerConfig())
    assert mode(directory / where) == 0o600
    assert not (state / ".local").exists()


def test_relative_paths_in_variables_are_ignored(
    state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", "relative")
    monkeypatch.setenv("STATE_DIRECTORY", "relative")
    keys(ServerConfig())
    assert (state / ".local/state/pywebtransport/shared-secret").exists()


def test_without_a_place_there_is_one_line_and_no_error(
    state: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "pywebtransport.server")
    monkeypatch.setenv("HOME", "/proc/nowhere")
    assert load_shared_secret(ServerConfig()) is None
    assert load_shared_secret(ServerConfig(), quiet=True) is None
    (told,) = caplog.records
    assert told.levelname == "INFO"
    assert "clients will notice late" in told.getMessage()


# Only root can give a file away.
BAD = ["link", "short", "directory", *(["foreign"] if os.geteuid() == 0 else [])]


@pytest.mark.parametrize("bad", BAD)
def test_a_file_that_cannot_be_its_own_is_not_used(
    state: Path, caplog: pytest.LogCaptureFixture, bad: str
) -> None:
    caplog.set_level(logging.INFO, "pywebtransport.server")
    path = state / ".local/state/pywebtransport/shared-secret"
    path.parent.mkdir(parents=True)
    if bad == "link":
        (state / "known").write_bytes(SECRET)
        path.symlink_to(state / "known")
    elif bad == "short":
        path.write_bytes(b"short")
    elif bad == "directory":
        path.mkdir()
    else:
        path.write_bytes(SECRET)
        os.chown(path, 12345, -1)
    assert load_shared_secret(ServerConfig()) is None
    assert len(caplog.records) == 1


def _load(path: str, start: Any, results: Any) -> None:
    start.wait()
    found = load_shared_secret(ServerConfig(shared_secret=path))
    assert found is not None
    results.put(found.engine_secrets(HERE))


def test_processes_that_start_together_agree(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    for attempt in range(5):
        start, results = context.Event(), context.Queue()
        path = str(tmp_path / f"secret-{attempt}")
        processes = [context.Process(target=_load, args=(path, start, results)) for _ in range(8)]
        for process in processes:
            process.start()
        start.set()
        found = [results.get(timeout=30) for _ in processes]
        for process in processes:
            process.join()
            process.close()
        assert found == [found[0]] * len(found)
        results.close()
        results.join_thread()
    assert len(os.listdir(tmp_path)) == 5


# ------------------------------------------------------------------- configured


def test_a_file_that_is_named_is_made(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "pywebtransport.server")
    path = tmp_path / "secret"
    config = ServerConfig(shared_secret=path)
    config.validate()
    assert not path.exists()  # checking touches nothing
    first = keys(config)
    assert mode(path) == 0o600
    assert keys(config) == first
    (told,) = caplog.records
    assert told.getMessage() == f"created a shared secret in '{path}'"


def test_bytes_and_a_file_that_holds_them_are_the_same(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_bytes(SECRET)
    path.chmod(0o600)
    (tmp_path / "link").symlink_to(path)  # as orchestrators provide them
    expected = keys(ServerConfig(shared_secret=SECRET))
    assert keys(ServerConfig(shared_secret=str(path))) == expected
    assert keys(ServerConfig(shared_secret=[tmp_path / "link"])) == expected
    several = keys(ServerConfig(shared_secret=[bytes(32), path]))
    assert len(several) == 2
    assert several[1] == expected[0]


def short(path: Path) -> None:
    path.write_bytes(bytes(31))


def large(path: Path) -> None:
    path.write_bytes(bytes(4097))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (short, "it has 31 bytes; expected 32 to 4096"),
        (large, "it has more than 4096 bytes"),
        (Path.mkdir, "it is not a file"),
        (os.mkfifo, "it is not a file"),
    ],
    ids=["short", "large", "directory", "pipe"],
)
def test_a_named_file_that_cannot_be_used(tmp_path: Path, make: Any, words: str) -> None:
    path = tmp_path / "secret"
    make(path)
    with pytest.raises(ConfigurationError, match=words) as caught:
        load_shared_secret(ServerConfig(shared_secret=str(path)))
    assert caught.value.config_key == "shared_secret"
    assert isinstance(caught.value, ValueError)


def test_only_the_first_file_is_made(tmp_path: Path) -> None:
    config = ServerConfig(shared_secret=[SECRET, str(tmp_path / "old")])
    with pytest.raises(ConfigurationError, match="no such file"):
        config.validate()
    with pytest.raises(ConfigurationError, match="No such file"):
        load_shared_secret(config)
    with pytest.raises(ConfigurationError, match="its directory does not exist"):
        ServerConfig(shared_secret=str(tmp_path / "nowhere" / "new")).validate()


def test_a_file_that_everybody_can_read_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "secret"
    path.write_bytes(SECRET)
    path.chmod(0o644)
    keys(ServerConfig(shared_secret=str(path)))
    (told,) = caplog.records
    assert told.levelname == "WARNING"
    assert "(mode 644)" in told.getMessage()


def test_nothing_shows_it() -> None:
    secret = b"do not show this to anybody at all"
    config = ServerConfig(shared_secret=secret)
    assert "do not show" not in repr(config)
    with pytest.raises(ConfigurationError) as caught:
        ServerConfig(shared_secret=[secret, secret[:20]])
    assert "do not show" not in f"{caught.value!r} {caught.value.config_value!r}"
    assert ServerConfig.from_dict(config.to_dict()).shared_secret == [secret]


# ------------------------------------------------------------------------- keys


def test_each_use_has_keys_of_its_own() -> None:
    one = SharedSecret([SECRET], is_own=False)
    ticket = one.ticket_key(ServerConfig())
    (engine,) = one.engine_secrets(HERE)
    assert (len(ticket), len(engine)) == (64, 32)
    assert engine not in (ticket[:32], ticket[32:], SECRET)
    assert SECRET not in (ticket[:32], ticket[32:])
    assert ticket[:32] != ticket[32:]


def test_servers_of_one_machine_share_no_reset_keys_unless_told_to() -> None:
    """Else one of them could be asked for the stateless resets of another."""
    own = SharedSecret([SECRET], is_own=True)
    assert own.engine_secrets(HERE) == own.engine_secrets(HERE)
    assert own.engine_secrets(HERE) != own.engine_secrets(THERE)
    given = SharedSecret([SECRET], is_own=False)
    assert given.engine_secrets(HERE) == given.engine_secrets(THERE)


def test_tickets_are_bound_to_the_rules_for_clients(tmp_path: Path) -> None:
    secret = SharedSecret([SECRET], is_own=False)
    authority = tmp_path / "ca.pem"
    authority.write_text("one")
    found = {secret.ticket_key(ServerConfig())}
    for verify in (ssl.CERT_OPTIONAL, ssl.CERT_REQUIRED):
        for text in ("one", "two"):
            authority.write_text(text)
            config = ServerConfig(verify_mode=verify, ca_certs=str(authority))
            assert secret.ticket_key(config) == secret.ticket_key(config)
            found.add(secret.ticket_key(config))
    assert len(found) == 5


def test_the_expansion_is_hkdf() -> None:
    """RFC 5869, appendix A.1."""
    prk = bytes.fromhex("077709362c2e32df0ddc3f0dc47bba6390b6c73bb50f9c3122ec844ad7c2b3e5")
    okm = "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865"
    assert shared_secret._expand(prk, bytes(range(0xF0, 0xFA)), 42).hex() == okm
