"""Installs missing system packages, on systems with apt.

What is needed, and what each distribution calls it, is in ``vendor/libraries.toml``.
A requirement is met if pkg-config finds the library in a suitable version, or if the command is on
the PATH, whatever package it came from. So a machine that has everything does not need root.
Standard library only: this runs before anything else.
"""

from __future__ import annotations

import argparse
import fcntl
import importlib.util
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
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


# --- what is missing, and installing it ----------------------------------------------


def load_requirements() -> ModuleType:
    """Import ``vendor/requirements.py``, which reads ``vendor/libraries.toml``."""
    path = ROOT / "vendor" / "requirements.py"
    specification = importlib.util.spec_from_file_location("vendor_requirements", path)
    if specification is None or specification.loader is None:
        raise SetupError(f"{path} is missing; the source tree is not complete")
    module = importlib.util.module_from_spec(specification)
    sys.modules[specification.name] = module
    specification.loader.exec_module(module)
    return module


def missing(vendor: ModuleType, catalogue: Any, groups: list[str]) -> list[Any]:
    """The problems of all groups, including missing modules of this interpreter."""
    found = [problem for group in groups for problem in vendor.problems(catalogue, group)]
    for item in catalogue.requirements:
        absent = [name for name in item.modules if importlib.util.find_spec(name) is None]
        if absent and set(groups) & set(item.groups):
            text = f"{item.name} are needed, {sys.executable} has no {absent[0]}"
            found.append(vendor.Problem(item, text))
    return found


def run_as_root(command: list[str]) -> bool:
    """Run a command as root, with sudo if necessary; return whether it succeeded.

    Raises:
        SetupError: There is no sudo.
    """
    if os.geteuid() != 0:
        if shutil.which("sudo") is None:
            raise SetupError(f"run this as root, then try again:\n  {shlex.join(command)}")
        command = ["sudo", *command]
    print(f"+ {shlex.join(command)}", flush=True)
    return subprocess.run(command, check=False).returncode == 0


def add_backports(suite: str) -> bool:
    """Enable a backports suite from the mirror that the machine uses; False if it is enabled.

    Raises:
        SetupError: No source to copy the mirror from, or no permission.
    """
    stanza = backports_stanza(read_sources(APT_DIRECTORY), suite.removesuffix("-backports"))
    if stanza is None:
        return False
    target = APT_DIRECTORY / "sources.list.d" / OUR_SOURCE
    with tempfile.NamedTemporaryFile("w", suffix=".sources") as file:
        file.write(stanza)
        file.flush()
        if not run_as_root(["install", "-m", "644", file.name, str(target)]):
            raise SetupError(f"{target} could not be written")
    return True


def apt_install(packages: list[str], suite: str = "") -> None:
    """Install packages without asking.

    Raises:
        SetupError: apt did not install them.
    """
    command = ["env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "install", "--yes"]
    command += ["--no-install-recommends", *(["--target-release", suite] if suite else [])]
    if not run_as_root([*command, *packages]):
        raise SetupError(f"apt could not install {' '.join(packages)}")


def install(found: list[Any], key: str, suite: str, *, update: bool) -> None:
    """Install the missing packages: libraries from ``suite``, the others from the usual suite."""
    plain: list[str] = []
    libraries: list[str] = []
    for problem in found:
        names = problem.requirement.packages[key]
        (libraries if suite and problem.requirement.pkg_config else plain).extend(names)
    if libraries and add_backports(suite):
        update = True  # the lists of the new source are not there yet
    if update and not run_as_root(["apt-get", "update", "--quiet"]):
        print("apt-get update failed; continuing with the existing package lists", file=sys.stderr)
    if plain:
        apt_install(list(dict.fromkeys(plain)))
    if libraries:
        apt_install(list(dict.fromkeys(libraries)), suite)


def set_up(groups: list[str]) -> None:
    """Install everything of ``groups`` that is missing.

    Raises:
        SetupError: Something is missing and could not be installed from here.
    """
    vendor = load_requirements()
    catalogue = vendor.load()
    if not missing(vendor, catalogue, groups):
        return
    with LIBRARIES.open() as file:  # apt works for one at a time; the others would fail
        fcntl.flock(file, fcntl.LOCK_EX)
        install_all(vendor, catalogue, groups)


def install_all(vendor: ModuleType, catalogue: Any, groups: list[str]) -> None:
    """Install what is missing now.

    Raises:
        SetupError: Something is missing and could not be installed from here.
    """
    # Libraries can only be found once pkg-config is installed: hence a second round.
    for attempt in range(2):
        found = missing(vendor, catalogue, groups)
        if not found:
            return
        here = vendor.this_distribution(catalogue)
        if here is None or shutil.which("apt-get") is None:
            break
        print("missing:", *(f"  - {problem.text}" for problem in found), sep="\n", flush=True)
        install(found, here.key, suite_of(here.key), update=attempt == 0)
    if found := missing(vendor, catalogue, groups):
        raise SetupError(vendor.message(catalogue, found, groups=groups))


def suite_of(key: str) -> str:
    """The suite that provides the libraries of a distribution, "" for the standard one."""
    document = tomllib.loads(LIBRARIES.read_text())
    return next(
        (str(table.get("suite", "")) for table in document["distribution"] if table["key"] == key),
        "",
    )


def main() -> int:
    """Set up the groups named on the command line ("build", "test", ...)."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("group", nargs="+", help="of vendor/libraries.toml, such as build or test")
    groups = parser.parse_args().group
    known = {group for item in load_requirements().load().requirements for group in item.groups}
    if unknown := [group for group in groups if group not in known]:
        parser.error(f"no group {unknown[0]!r}; there are {', '.join(sorted(known))}")
    try:
        set_up(groups)
    except SetupError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
