"""What a build needs from the system: is it there, and if not, how to get it.

The facts are in ``libraries.toml`` beside this file. ``setup.py`` calls :func:`check`
before it compiles; ``python vendor/requirements.py`` does the same by hand, and with
``--commands`` prints the install command of every known distribution. Standard library
only: this runs before anything is installed.
"""

from __future__ import annotations

import argparse
import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

LIBRARIES = Path(__file__).resolve().parent / "libraries.toml"
OS_RELEASE = Path("/etc/os-release")


class RequirementsError(Exception):
    """The build cannot start; the message names what is missing and how to install it."""


@dataclass(frozen=True, kw_only=True)
class Requirement:
    """One table ``requirement`` of ``libraries.toml``."""

    name: str
    groups: tuple[str, ...]
    packages: dict[str, list[str]]
    pkg_config: str = ""
    minimum: str = ""
    commands: tuple[str, ...] = ()
    header: str = ""
    modules: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Distribution:
    """One table ``distribution`` of ``libraries.toml``."""

    key: str
    name: str
    id: str
    install: str
    version: str = ""
    note: str = ""


@dataclass(frozen=True)
class Catalogue:
    """All of ``libraries.toml``."""

    requirements: list[Requirement]
    distributions: list[Distribution]


@dataclass(frozen=True)
class Problem:
    """A requirement that is not met, and what is wrong with it."""

    requirement: Requirement
    text: str


@dataclass(frozen=True)
class Flags:
    """What the compiler and the linker must be told to use the libraries."""

    compile: list[str] = field(default_factory=list)
    link: list[str] = field(default_factory=list)


def load(path: Path = LIBRARIES) -> Catalogue:
    """Read ``libraries.toml``."""
    document = tomllib.loads(path.read_text(encoding="utf-8"))
    return Catalogue(
        [
            Requirement(
                name=table["name"],
                groups=tuple(table["groups"]),
                packages=table["packages"],
                pkg_config=table.get("pkg_config", ""),
                minimum=table.get("minimum", ""),
                commands=tuple(table.get("commands", ())),
                header=table.get("header", ""),
                modules=tuple(table.get("modules", ())),
            )
            for table in document["requirement"]
        ],
        [
            Distribution(
                key=table["key"],
                name=table["name"],
                id=table["id"],
                install=table["install"],
                version=table.get("version", ""),
                note=table.get("note", ""),
            )
            for table in document["distribution"]
        ],
    )


# --- looking for things --------------------------------------------------------------


def pkg_config_command() -> str:
    """The pkg-config to run: ``$PKG_CONFIG`` or the usual name."""
    return os.environ.get("PKG_CONFIG", "pkg-config")


def pkg_config(*arguments: str) -> str | None:
    """Return what pkg-config prints, or None when it fails or is not there."""
    try:
        done = subprocess.run(
            [pkg_config_command(), *arguments], capture_output=True, text=True, check=False
        )
    except OSError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def version_key(version: str) -> tuple[int, ...]:
    """The leading numbers of a version, for comparing: ``"1.11.0-DEV"`` -> ``(1, 11, 0)``."""
    numbers: list[int] = []
    for part in version.split("."):
        match = re.match(r"\d+", part)
        if match is None:
            break
        numbers.append(int(match[0]))
        if match[0] != part:
            break
    while numbers and numbers[-1] == 0:
        numbers.pop()
    return tuple(numbers)


def compiler() -> str:
    """The C compiler that the build will use, or "" when there is none."""
    configured = os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc"
    name = shlex.split(str(configured))[0]
    return name if shutil.which(name) else ""


def problem_of(requirement: Requirement) -> str:
    """Say what is wrong with a requirement; "" when it is met."""
    if requirement.pkg_config:
        found = pkg_config("--modversion", requirement.pkg_config)
        if found is None:
            return f"{requirement.name} {requirement.minimum} or newer is needed, none was found"
        if version_key(found) < version_key(requirement.minimum):
            return f"{requirement.name} {requirement.minimum} or newer is needed, {found} was found"
        return ""
    if "cc" in requirement.commands:
        if compiler():
            return ""
        name = os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc"
        return f"{requirement.name} is needed, {shlex.split(str(name))[0]!r} was not found"
    if requirement.commands == ("pkg-config",):
        if shutil.which(pkg_config_command()):
            return ""
        return f"{requirement.name} is needed, {pkg_config_command()!r} was not found"
    if requirement.commands:
        if any(map(shutil.which, requirement.commands)):
            return ""
        return f"{requirement.name} is needed, {requirement.commands[0]!r} was not found"
    if requirement.header:
        header = Path(sysconfig.get_path("include"), requirement.header)
        return "" if header.exists() else f"{requirement.name} are needed, no {header} was found"
    return ""


def problems(catalogue: Catalogue, group: str = "build") -> list[Problem]:
    """Every requirement of a group that is not met.

    Without pkg-config nothing can be said about libraries, so it is named alone then.
    """
    wanted = [item for item in catalogue.requirements if group in item.groups]
    wanted.sort(key=lambda item: bool(item.pkg_config))  # tools first
    found: list[Problem] = []
    for item in wanted:
        if item.pkg_config and any(p.requirement.name == "pkg-config" for p in found):
            continue
        if text := problem_of(item):
            found.append(Problem(item, text))
    return found


# --- saying how to get them -----------------------------------------------------------


def this_distribution(catalogue: Catalogue, release: Path = OS_RELEASE) -> Distribution | None:
    """The entry for the system this runs on, or for the one that it derives from."""
    fields: dict[str, str] = {}
    try:
        text = release.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    for line in text.splitlines():
        key, separator, value = line.partition("=")
        if separator and not key.startswith("#"):
            words = shlex.split(value, comments=False)
            fields[key.strip()] = words[0] if words else ""
    version = fields.get("VERSION_ID", "")
    for name in [fields.get("ID", ""), *fields.get("ID_LIKE", "").split()]:
        same = [item for item in catalogue.distributions if item.id == name]
        for item in sorted(same, key=lambda item: not item.version):
            if item.version in ("", version):
                return item
    return None


def install_command(
    catalogue: Catalogue, distribution: Distribution, groups: Sequence[str] = ("build",)
) -> str:
    """The command that installs everything of some groups."""
    names = [
        package
        for item in catalogue.requirements
        if set(groups) & set(item.groups)
        for package in item.packages[distribution.key]
    ]
    return f"sudo {distribution.install} {' '.join(dict.fromkeys(names))}"


def _entry(catalogue: Catalogue, distribution: Distribution, groups: Sequence[str]) -> list[str]:
    title = distribution.name + (f" ({distribution.note})" if distribution.note else "")
    return [f"  {title}:", f"    {install_command(catalogue, distribution, groups)}"]


def message(
    catalogue: Catalogue,
    found: list[Problem],
    release: Path = OS_RELEASE,
    groups: Sequence[str] = ("build",),
) -> str:
    """What the user reads: what is missing, the command for this system, then the others."""
    here = this_distribution(catalogue, release)
    building = "pywebtransport cannot be built:"
    lines = [building if "build" in groups else f"missing for {', '.join(groups)}:"]
    lines += [f"  - {problem.text}" for problem in found]
    if here is not None:
        lines += [
            "To install what is needed:",
            *_entry(catalogue, here, groups),
            "On other systems:",
        ]
    else:
        lines += ["To install what is needed:"]
    for distribution in catalogue.distributions:
        if distribution != here:
            lines += _entry(catalogue, distribution, groups)
    return "\n".join(lines)


def check(catalogue: Catalogue | None = None, release: Path = OS_RELEASE) -> Flags:
    """Make sure that a build can succeed, and return what it needs to know.

    Raises:
        RequirementsError: Something is missing or too old.
    """
    catalogue = load() if catalogue is None else catalogue
    if found := problems(catalogue):
        raise RequirementsError(message(catalogue, found, release))
    modules = [item.pkg_config for item in catalogue.requirements if item.pkg_config]
    return Flags(
        shlex.split(pkg_config("--cflags", *modules) or ""),
        shlex.split(pkg_config("--libs", *modules) or ""),
    )


def main() -> int:
    """Check this machine, or print the install commands."""
    parser = argparse.ArgumentParser(description="Is everything here that a build needs?")
    parser.add_argument(
        "--commands", action="store_true", help="print install commands of all known distributions"
    )
    arguments = parser.parse_args()
    catalogue = load()
    if arguments.commands:
        for distribution in catalogue.distributions:
            print("\n".join(_entry(catalogue, distribution, ["build"])))
        return 0
    try:
        check(catalogue)
    except RequirementsError as error:
        print(error, file=sys.stderr)
        return 1
    print("everything that a build needs is there")
    return 0


if __name__ == "__main__":
    sys.exit(main())
