"""Installs the system packages that are missing, where the system has apt.

What is needed, and what each distribution calls it, is in ``vendor/libraries.toml``.
A requirement counts as met when pkg-config finds the library in a good version, or
the command is on the PATH, whatever package it came from; so a machine that has all
of it is never asked for root. Standard library only: this runs before anything else.
"""

from __future__ import annotations

import os
import platform
import re
import shlex
import shutil
import subprocess
import sysconfig
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
LIBRARIES = ROOT / "vendor" / "libraries.toml"
APT_DIRECTORY = Path("/etc/apt")
OUR_SOURCE = "pywebtransport-backports.sources"
KEPT_OPTIONS = ("architectures", "signed-by", "trusted", "check-valid-until", "allow-insecure")


class SetupError(Exception):
    """Something is missing that this script cannot install; the message says what to do."""


# --- the apt sources of this machine ---------------------------------------------


@dataclass(kw_only=True)
class Source:
    """One apt source: what a stanza of a .sources file or a line of a .list file says."""

    uris: list[str]
    suites: list[str]
    components: list[str]
    options: dict[str, str] = field(default_factory=dict)  # lower-case names


def parse_deb822(text: str) -> list[Source]:
    """Read the stanzas of a ``.sources`` file; disabled ones and deb-src are left out."""
    sources = []
    for stanza in re.split(r"\n[ \t]*\n", text):
        fields: dict[str, str] = {}
        name = ""
        for line in stanza.splitlines():
            if line.startswith("#"):
                continue
            if line[:1] in " \t" and name:
                fields[name] += "\n" + line
            elif ":" in line:
                name, _, value = line.partition(":")
                name = name.strip().lower()
                fields[name] = value.strip()
        if "deb" not in fields.get("types", "").split():
            continue
        if fields.get("enabled", "yes").lower() in ("no", "false", "0"):
            continue
        sources.append(
            Source(
                uris=fields.get("uris", "").split(),
                suites=fields.get("suites", "").split(),
                components=fields.get("components", "").split(),
                options={key: fields[key] for key in KEPT_OPTIONS if key in fields},
            )
        )
    return sources


def parse_one_line(text: str) -> list[Source]:
    """Read the lines of a ``.list`` file; comments and deb-src are left out."""
    sources = []
    for line in text.splitlines():
        match = re.match(
            r"\s*deb\s+(?:\[(?P<options>[^]]*)\]\s+)?(?P<uri>\S+)\s+(?P<suite>\S+)(?P<rest>[^#]*)",
            line,
        )
        if match is None:
            continue
        options = {}
        for option in (match["options"] or "").split():
            key, _, value = option.partition("=")
            key = {"arch": "architectures"}.get(key.lower(), key.lower())
            if key in KEPT_OPTIONS:
                options[key] = value.replace(",", " ")
        sources.append(
            Source(
                uris=[match["uri"]],
                suites=[match["suite"]],
                components=match["rest"].split(),
                options=options,
            )
        )
    return sources


def read_sources(directory: Path) -> list[Source]:
    """Read every enabled apt source below ``directory``."""
    sources = []
    if (main := directory / "sources.list").is_file():
        sources += parse_one_line(main.read_text())
    for path in sorted((directory / "sources.list.d").glob("*")):
        if path.suffix == ".sources":
            sources += parse_deb822(path.read_text())
        elif path.suffix == ".list":
            sources += parse_one_line(path.read_text())
    return sources


def backports_stanza(sources: list[Source], codename: str) -> str | None:
    """Return the source to add for ``codename``-backports, or None when it is there already.

    The mirror, its key and its options are those of the machine's own ``codename`` source.

    Raises:
        SetupError: The machine has no such source.
    """
    suite = f"{codename}-backports"
    if any(suite in source.suites for source in sources):
        return None
    for source in sources:
        if codename in source.suites and "main" in source.components and source.uris:
            lines = [
                "Types: deb",
                f"URIs: {' '.join(source.uris)}",
                f"Suites: {suite}",
                "Components: main",
            ]
            lines += [f"{key.title()}: {value}" for key, value in source.options.items()]
            return "\n".join(lines) + "\n"
    raise SetupError(
        f"no apt source for {codename!r} with component main was found in {APT_DIRECTORY}; "
        f"add one for {suite!r} by hand"
    )


# --- what is needed ----------------------------------------------------------------


def is_met(requirement: dict[str, Any]) -> bool:
    """Whether this machine has what a table of ``libraries.toml`` asks for."""
    if "pkg_config" in requirement:
        if shutil.which("pkg-config") is None:
            return False
        minimum = f"{requirement['pkg_config']} >= {requirement['minimum']}"
        return subprocess.run(["pkg-config", "--exists", minimum], check=False).returncode == 0
    if "commands" in requirement:
        return any(map(shutil.which, requirement["commands"]))
    if "header" in requirement:
        return Path(sysconfig.get_path("include"), requirement["header"]).exists()
    return all(importable(name) for name in requirement["modules"])


def importable(name: str) -> bool:
    """Whether this interpreter has a module, without importing it."""
    return importlib.util.find_spec(name) is not None


def distribution() -> tuple[str, str, str]:
    """ID, version and code name of the distribution, with derivatives folded into their parent."""
    release = platform.freedesktop_os_release()
    return (
        release.get("ID", ""),
        release.get("VERSION_ID", ""),
        release.get("VERSION_CODENAME", ""),
    )


def run_as_root(command: list[str], *, needed: bool = True) -> None:
    """Run a command as root, with sudo where that takes it.

    Raises:
        SetupError: It failed (and was ``needed``), or there is no sudo.
    """
    if os.geteuid() != 0:
        if shutil.which("sudo") is None:
            raise SetupError(f"run this as root, then try again:\n  {shlex.join(command)}")
        command = ["sudo", *command]
    print(f"+ {shlex.join(command)}", flush=True)
    if subprocess.run(command, check=False).returncode != 0 and needed:
        raise SetupError(f"this failed: {shlex.join(command)}")
