"""What peers need that do not run in this environment: made once, then kept."""

from __future__ import annotations

import fcntl
import json
import os
import platform
import shutil
import sys
from pathlib import Path

from tests.support import environments
from tests.support.scripts import load_script

__all__ = [
    *("MINIMUM", "deno", "deno_environment", "find_python", "moq", "node", "peer_python"),
    "qmux_python",
]

_ROOT = Path(__file__).resolve().parents[2]
ENVIRONMENT = _ROOT / ".venv-peers"
REQUIREMENTS = ["aiopquic==0.6.1"]
MINIMUM = (3, 12)

QMUX_ENVIRONMENT = _ROOT / ".venv-qmux"
QMUX_REQUIREMENTS = ["zmuxio==0.3.0", "moq-rs==0.5.1", "moq-ffi==0.4.18"]

NODE_ENVIRONMENT = _ROOT / ".venv-node"
# By the name that each is installed under: old versions have names of their own.
NODE_REQUIREMENTS = {
    "@moq/qmux": "0.3.3",
    "@moq/web-socket-stream": "0.1.1",
    "@moq/web-transport-ws": "0.3.0",
    "qmux-0.1.3": "npm:@moq/qmux@0.1.3",
    "qmux-0.0.6": "npm:@moq/qmux@0.0.6",
    "ws": "8.23.0",
}

DENO_ENVIRONMENT = _ROOT / ".venv-deno"
DENO_REQUIREMENTS = ["deno==2.9.6"]
MOQ = "0.1.4"
# The native part of @moq/web-transport wants this C library; Debian 13 has a newer one.
_MOQ_LIBC = (2, 38)


def find_python() -> str | None:
    """An interpreter of version ``MINIMUM`` or later, or None."""
    return environments.find_python(lambda version: version >= MINIMUM)


def peer_python() -> str:
    """The interpreter of an environment that holds ``REQUIREMENTS``.

    Raises:
        FileNotFoundError: There is no Python of version ``MINIMUM`` or later.
        RuntimeError: The packages cannot be installed.
    """
    base = find_python()
    if base is None:
        raise FileNotFoundError(f"no Python {MINIMUM[0]}.{MINIMUM[1]} or later")
    return environments.make_environment(ENVIRONMENT, base, REQUIREMENTS)


def qmux_python() -> str:
    """The interpreter of an environment that holds ``QMUX_REQUIREMENTS``; raises the same."""
    base = find_python()
    if base is None:
        raise FileNotFoundError(f"no Python {MINIMUM[0]}.{MINIMUM[1]} or later")
    return environments.make_environment(QMUX_ENVIRONMENT, base, QMUX_REQUIREMENTS)


def node() -> Path:
    """A directory whose ``node_modules`` holds ``NODE_REQUIREMENTS``; made once, then kept.

    Raises:
        FileNotFoundError: There is no Node or no npm.
        RuntimeError: The packages cannot be installed.
    """
    for name in ("node", "npm"):
        if shutil.which(name) is None:
            raise FileNotFoundError(
                f"peers in JavaScript need {name} (`make setup` installs it; Debian package"
                f" `{name.replace('node', 'nodejs')}`)"
            )
    with NODE_ENVIRONMENT.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # a parallel run may want it twice at the same time
        wanted = json.dumps({"private": True, "dependencies": NODE_REQUIREMENTS}, indent=2)
        record = NODE_ENVIRONMENT / "package.json"
        if not (record.is_file() and record.read_text() == wanted):
            making = NODE_ENVIRONMENT.with_suffix(".making")
            shutil.rmtree(making, ignore_errors=True)
            making.mkdir()
            (making / "package.json").write_text(wanted)
            environments.run(
                *("npm", "install", "--no-audit", "--no-fund", "--ignore-scripts"),
                *("--no-package-lock", "--loglevel=error"),
                cwd=making,
            )
            shutil.rmtree(NODE_ENVIRONMENT, ignore_errors=True)
            making.rename(NODE_ENVIRONMENT)
    return NODE_ENVIRONMENT


def deno() -> list[str]:
    """The command that is Deno.

    Raises:
        RuntimeError: The package cannot be installed.
    """
    python = environments.make_environment(DENO_ENVIRONMENT, sys.executable, DENO_REQUIREMENTS)
    return [str(Path(python).with_name("deno"))]


def deno_environment() -> dict[str, str]:
    """Variables for Deno: it keeps what it caches here, and asks nobody for a newer version.

    It trusts the certificate authorities of the system besides its own, as pip and npm do.
    """
    return {
        "DENO_DIR": str(DENO_ENVIRONMENT / "cache"),
        "DENO_NO_UPDATE_CHECK": "1",
        "DENO_TLS_CA_STORE": "system,mozilla",
    }


def moq() -> tuple[list[str], Path]:
    """The command that is a Deno which can load @moq/web-transport, and where that package is.

    Raises:
        FileNotFoundError: The C library of this system is too old, and apt-get, which could get a
            newer one, is not there.
        RuntimeError: Something cannot be installed.
    """
    command = deno()
    with DENO_ENVIRONMENT.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # a parallel run may want it twice at the same time
        return _moq(command)


def _moq(command: list[str]) -> tuple[list[str], Path]:
    directory = DENO_ENVIRONMENT / "moq"
    if not (directory / "node_modules" / "@moq" / "web-transport" / "napi.cjs").exists():
        directory.mkdir(exist_ok=True)
        settings = {
            "nodeModulesDir": "auto",
            "imports": {"@moq/web-transport": f"npm:@moq/web-transport@{MOQ}"},
        }
        (directory / "deno.json").write_text(json.dumps(settings))
        _run(*command, "install", "--quiet", cwd=directory)
    _, found = platform.libc_ver()
    if found and tuple(int(part) for part in found.split(".")[:2]) < _MOQ_LIBC:
        command = [*_newer_libc(DENO_ENVIRONMENT / "libc"), *command]
    return command, directory


def _newer_libc(directory: Path) -> list[str]:
    """The command that runs a program with the C library of Debian 13 instead of the system's."""
    if not directory.exists():
        if shutil.which("apt-get") is None:
            wanted = ".".join(map(str, _MOQ_LIBC))
            raise FileNotFoundError(
                f"@moq/web-transport needs glibc {wanted} or later; this system has"
                f" {platform.libc_ver()[1]}, and no apt-get to get a newer one with"
            )
        making = directory.with_name("libc-making")
        shutil.rmtree(making, ignore_errors=True)
        for name in ("lists/partial", "cache/archives/partial"):
            (making / name).mkdir(parents=True)
        (making / "debian-13.sources").write_text(_debian_13())
        options = {
            "Dir::Etc::SourceList": making / "debian-13.sources",
            "Dir::Etc::SourceParts": "/dev/null",
            "Dir::State::Lists": making / "lists",
            "Dir::State::Status": "/dev/null",
            "Dir::Cache": making / "cache",
            "APT::Sandbox::User": "root",
        }
        apt = ["apt-get", "-q"]
        for name, value in options.items():
            apt += ["-o", f"{name}={value}"]
        _run(*apt, "update", cwd=making)
        _run(*apt, "download", "libc6", "libgcc-s1", cwd=making)
        for package in making.glob("*.deb"):
            _run("dpkg-deb", "-x", str(package), "root", cwd=making)
        (making / "root").rename(directory)
        shutil.rmtree(making)
    loader = next(directory.glob("usr/lib/*/ld-linux-*"))
    return [str(loader), "--library-path", str(loader.parent)]


def _debian_13() -> str:
    """Where this machine's apt finds Debian 13, as it would be written in its own sources."""
    packages, root = load_script("system_packages"), load_script("debian_root")
    here = packages.read_sources(packages.APT_DIRECTORY)
    mirror = os.environ.get("DEBIAN_MIRROR", "")
    codename = root.release_fields().get("VERSION_CODENAME", "")
    text: str = root.stanzas(root.sources_for("trixie", here, codename, mirror))
    return text


def _run(*command: str, cwd: Path) -> None:
    environments.run(*command, cwd=cwd, env=environments.foreign_environment(**deno_environment()))
