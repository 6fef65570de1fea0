"""What a build asks of the system, and what it says when something is missing."""

import importlib.util
import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]
RELEASES = {
    "debian-12": 'ID=debian\nVERSION_ID="12"\n',
    "debian": 'PRETTY_NAME="Debian GNU/Linux 13 (trixie)"\nID=debian\nVERSION_ID="13"\n',
    "ubuntu": 'NAME="Ubuntu"\nVERSION_ID="25.10"\nID=ubuntu\nID_LIKE=debian\n',
    "fedora": "ID=fedora\nVERSION_ID=43\n",
    "alpine": "ID=alpine\nVERSION_ID=3.22.1\n",
    "arch": "# a comment\nID=arch\nBUILD_ID=rolling\n",
}


def load_requirements() -> ModuleType:
    """Import ``vendor/requirements.py`` the way ``setup.py`` does."""
    name = "vendor_requirements"
    specification = importlib.util.spec_from_file_location(
        name, ROOT / "vendor" / "requirements.py"
    )
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    sys.modules[name] = module
    specification.loader.exec_module(module)
    return module


requirements = load_requirements()
GOOD = {"libngtcp2": "1.11.0", "libngtcp2_crypto_gnutls": "1.11.0", "gnutls": "3.7.2"}


class System:
    """A PATH of our own, with the tools that a test puts there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.bin = folder / "bin"
        self.bin.mkdir()
        self.program("cc", "exit 0")

    def program(self, name: str, body: str) -> None:
        """Put a shell script on the PATH."""
        path = self.bin / name
        path.write_text(f"#!/bin/sh\n{body}\n")
        path.chmod(path.stat().st_mode | stat.S_IXUSR)

    def libraries(self, versions: dict[str, str]) -> None:
        """Put a pkg-config on the PATH that knows these libraries."""
        cases = "\n".join(
            f'"--modversion {name}") echo {version};;' for name, version in versions.items()
        )
        names = " ".join(GOOD)
        cases += f'\n"--cflags {names}") echo "-I/opt/a\\ b/include -DX=1";;'
        cases += f'\n"--libs {names}") echo "-L/opt/lib -lngtcp2";;'
        self.program("pkg-config", f'case "$*" in\n{cases}\n*) exit 1;;\nesac')

    def release(self, text: str) -> Path:
        """Write an os-release file."""
        path = self.folder / "os-release"
        path.write_text(text)
        return path


@pytest.fixture
def system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> System:
    made = System(tmp_path)
    monkeypatch.setenv("PATH", str(made.bin))
    monkeypatch.setenv("CC", "cc")
    monkeypatch.delenv("PKG_CONFIG", raising=False)
    return made


def failure(system: System, release: str = RELEASES["debian"]) -> str:
    """The message of a check that must fail."""
    with pytest.raises(requirements.RequirementsError) as caught:
        requirements.check(release=system.release(release))
    return str(caught.value)


# --- the facts -------------------------------------------------------------------------


def test_floors_are_those_that_the_engine_needs() -> None:
    minimum = {
        item.pkg_config: item.minimum
        for item in requirements.load().requirements
        if item.pkg_config
    }
    assert minimum == {
        "libngtcp2": "1.11.0",
        "libngtcp2_crypto_gnutls": "1.11.0",
        "gnutls": "3.7.2",
    }


def test_every_requirement_says_how_to_meet_it_everywhere() -> None:
    catalogue = requirements.load()
    keys = {distribution.key for distribution in catalogue.distributions}
    assert keys == set(RELEASES)
    for item in catalogue.requirements:
        assert set(item.packages) == keys, item.name
        assert item.groups, item.name
        ways = [item.pkg_config, item.commands, item.header, item.modules]
        assert sum(map(bool, ways)) == 1, item.name


@pytest.mark.parametrize(
    ("smaller", "larger"),
    [
        ("1.9.1", "1.11.0"),
        ("0.12.1", "1.11.0"),
        ("1.11.0", "1.11.1"),
        ("1.11", "1.11.1"),
        ("3.7.2", "3.7.9"),
        ("3.7.2", "3.8"),
        ("1.11.0-DEV", "1.12.0"),
    ],
)
def test_versions_compare_by_number(smaller: str, larger: str) -> None:
    assert requirements.version_key(smaller) < requirements.version_key(larger)


def test_version_without_its_last_zero_is_the_same() -> None:
    assert requirements.version_key("1.11") == requirements.version_key("1.11.0")
    assert requirements.version_key("1.11.0-DEV") == requirements.version_key("1.11.0")


# --- the check -------------------------------------------------------------------------


def test_complete_system_gives_the_flags(system: System) -> None:
    system.libraries(GOOD)
    flags = requirements.check(release=system.release(""))
    assert flags.compile == ["-I/opt/a b/include", "-DX=1"]
    assert flags.link == ["-L/opt/lib", "-lngtcp2"]


@pytest.mark.parametrize(
    ("library", "old", "text"),
    [
        ("libngtcp2", "0.12.1", "ngtcp2 1.11.0 or newer is needed, 0.12.1 was found"),
        (
            "libngtcp2_crypto_gnutls",
            "1.10.9",
            "ngtcp2's GnuTLS helper 1.11.0 or newer is needed, 1.10.9 was found",
        ),
        ("gnutls", "3.7.1", "GnuTLS 3.7.2 or newer is needed, 3.7.1 was found"),
    ],
)
def test_old_library_is_named_with_both_versions(
    system: System, library: str, old: str, text: str
) -> None:
    system.libraries({**GOOD, library: old})
    lines = failure(system).splitlines()
    assert lines[:2] == ["pywebtransport cannot be built:", f"  - {text}"]
    assert lines[2] == "To install what is needed:"


@pytest.mark.parametrize("library", sorted(GOOD))
def test_missing_library_is_named(system: System, library: str) -> None:
    system.libraries({name: version for name, version in GOOD.items() if name != library})
    (line,) = [line for line in failure(system).splitlines() if line.startswith("  - ")]
    assert line.endswith("or newer is needed, none was found")


def test_everything_that_is_wrong_is_told_at_once(system: System) -> None:
    system.libraries({"libngtcp2": "0.12.1"})
    told = [line for line in failure(system).splitlines() if line.startswith("  - ")]
    assert len(told) == 3


def test_missing_pkg_config_is_named_alone(system: System) -> None:
    told = [line for line in failure(system).splitlines() if line.startswith("  - ")]
    assert told == ["  - pkg-config is needed, 'pkg-config' was not found"]


def test_chosen_pkg_config_is_used(system: System, monkeypatch: pytest.MonkeyPatch) -> None:
    system.libraries(GOOD)
    (system.bin / "pkg-config").rename(system.bin / "other-pkg-config")
    monkeypatch.setenv("PKG_CONFIG", "other-pkg-config")
    assert requirements.check(release=system.release("")).link == ["-L/opt/lib", "-lngtcp2"]
    monkeypatch.setenv("PKG_CONFIG", str(system.folder / "none"))
    assert f"{str(system.folder / 'none')!r} was not found" in failure(system)


def test_missing_compiler_is_named(system: System, monkeypatch: pytest.MonkeyPatch) -> None:
    system.libraries(GOOD)
    monkeypatch.setenv("CC", "ccache-of-nobody -O2")
    told = [line for line in failure(system).splitlines() if line.startswith("  - ")]
    assert told == ["  - a C compiler is needed, 'ccache-of-nobody' was not found"]


def test_missing_headers_of_python_are_named(
    system: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    system.libraries(GOOD)
    monkeypatch.setattr("sysconfig.get_path", lambda name: f"/nowhere/{name}")
    assert "Python's C headers are needed, no /nowhere/include/Python.h" in failure(system)


# --- the message -----------------------------------------------------------------------


@pytest.mark.parametrize("key", sorted(RELEASES))
def test_own_distribution_comes_first_and_all_are_there(system: System, key: str) -> None:
    catalogue = requirements.load()
    text = failure(system, RELEASES[key])
    commands = [line.strip() for line in text.splitlines() if line.startswith("    ")]
    expected = {
        item.key: requirements.install_command(catalogue, item) for item in catalogue.distributions
    }
    assert commands[0] == expected[key]
    assert sorted(commands) == sorted(expected.values())
    assert text.count("On other systems:") == 1


def test_commands_are_exact() -> None:
    catalogue = requirements.load()
    commands = {
        item.key: requirements.install_command(catalogue, item) for item in catalogue.distributions
    }
    assert commands["debian-12"].startswith(
        "sudo apt install -t bookworm-backports libngtcp2-dev libngtcp2-crypto-gnutls-dev "
        "libgnutls28-dev gcc"
    )
    assert commands["debian"].startswith("sudo apt install libngtcp2-dev ")
    assert commands["ubuntu"].startswith("sudo apt install libngtcp2-dev ")
    assert commands["fedora"].startswith("sudo dnf install ngtcp2-devel ")
    assert commands["alpine"].startswith("sudo apk add ngtcp2-dev ngtcp2-gnutls ")
    assert commands["arch"] == "sudo pacman -S --needed libngtcp2 gnutls gcc pkgconf python"
    for command in commands.values():
        words = command.split()
        assert len(set(words)) == len(words)


@pytest.mark.parametrize(
    ("release", "key"),
    [
        ('ID=linuxmint\nID_LIKE="ubuntu debian"\nVERSION_ID="22"\n', "ubuntu"),
        ('ID="rhel"\nID_LIKE="fedora"\n', "fedora"),
        ("ID=manjaro\nID_LIKE=arch\n", "arch"),
        ("ID=debian\n", "debian"),  # testing and unstable have no version
        ("ID=plan9\n", None),
        ("", None),
    ],
)
def test_distribution_is_recognised(system: System, release: str, key: str | None) -> None:
    found = requirements.this_distribution(requirements.load(), system.release(release))
    assert (found.key if found else None) == key


def test_unknown_system_gets_all_commands(system: System) -> None:
    for release in (system.release("ID=plan9\n"), system.folder / "none"):
        with pytest.raises(requirements.RequirementsError) as caught:
            requirements.check(release=release)
        text = str(caught.value)
        assert "On other systems:" not in text
        assert sum(line.startswith("    ") for line in text.splitlines()) == len(RELEASES)


# --- the build -------------------------------------------------------------------------


def test_setup_stops_with_the_message_alone(system: System) -> None:
    system.libraries({**GOOD, "libngtcp2": "0.12.1"})
    done = subprocess.run(
        [sys.executable, "setup.py", "-q", "build_ext", "--build-temp", str(system.folder / "t")],
        cwd=ROOT,
        env={**os.environ, "PATH": f"{system.bin}{os.pathsep}/usr/bin{os.pathsep}/bin"},
        capture_output=True,
        text=True,
        check=False,
        timeout=50,
    )
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "error: pywebtransport cannot be built:" in done.stderr
    assert "ngtcp2 1.11.0 or newer is needed, 0.12.1 was found" in done.stderr
    assert not (system.folder / "t").exists()


def test_this_machine_can_build() -> None:
    assert shutil.which("pkg-config")
    assert "-lngtcp2" in requirements.check().link


def test_every_folder_with_python_in_it_is_a_package() -> None:
    folders = {path.parent for path in (ROOT / "pywebtransport").rglob("*.py")}
    assert [
        folder.name for folder in sorted(folders) if not (folder / "__init__.py").exists()
    ] == []
