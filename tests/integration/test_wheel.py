"""A wheel of the built extension: what is in it, and that it needs nothing of the system."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tomllib
import zipfile
from email.message import Message
from email.parser import Parser
from pathlib import Path

import pytest

from pywebtransport._quic import _core
from tests.support.network import why_no_mounts
from tests.support.scripts import ROOT, load_script

wheel_script = load_script("wheel")
EXTENSION = Path(_core.__file__)
LGPL = {"libgnutls", "libnettle", "libhogweed", "libgmp", "libidn2", "libunistring", "libtasn1"}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel with the extension that these tests use."""
    # A build with sanitizers needs their libraries.
    if "libasan" in os.environ.get("LD_PRELOAD", "") or shutil.which("dpkg-query") is None:
        pytest.skip("wheels are made of ordinary builds, on Debian")
    path = wheel_script.build(tmp_path_factory.mktemp("dist"), EXTENSION)
    assert isinstance(path, Path)
    return path


def metadata(wheel: Path) -> Message:
    """What the wheel says about itself."""
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (item for item in archive.namelist() if item.endswith(".dist-info/METADATA"))
        return Parser().parsestr(archive.read(name).decode())


def test_the_wheel_runs_where_the_libraries_of_the_system_are_hidden(wheel: Path) -> None:
    if reason := why_no_mounts():
        pytest.skip(reason)
    done = subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "try_wheel.py"), "--hide", str(wheel)],
        cwd=wheel.parent,
        env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert "stream: hello, stream" in lines
    assert "datagram: hello, datagram" in lines
    (hidden,) = (line for line in lines if line.startswith("hidden: "))
    assert "libngtcp2.so." in hidden
    assert "libgnutls.so." in hidden
    used = [line for line in lines if line.startswith("library: ")]
    assert any("libngtcp2-" in line for line in used)
    assert any("libgnutls-" in line for line in used)
    assert [line for line in used if "/pywebtransport.libs/" not in line] == []


def test_the_wheel_is_small_and_fits_many_systems(wheel: Path) -> None:
    assert wheel.stat().st_size < 6_000_000
    version = f"cp{sys.version_info[0]}{sys.version_info[1]}"
    assert f"-{version}-{version}-manylinux_2_" in wheel.name


def test_every_library_has_its_licence_in_the_wheel(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        (notice,) = (name for name in names if name.endswith("/third-party/README.md"))
        text = archive.read(notice).decode()
        licences = {
            Path(name).name: archive.read(name).decode()
            for name in names
            if "/third-party/" in name and name.endswith(".txt")
        }
    libraries = {Path(name).name.rpartition("-")[0] for name in names if ".libs/lib" in name}
    assert libraries >= {"libngtcp2", "libngtcp2_crypto_gnutls", "libgnutls"}
    rows = {
        cells[0].strip("` "): cells
        for line in text.splitlines()
        if line.startswith("| `")
        for cells in [line.strip("|").split("|")]
    }
    assert set(rows) == libraries
    for stem, cells in rows.items():
        assert f"{cells[3].split()[0]}.txt" in licences
        assert ("LGPL" in cells[2]) is (stem in LGPL)
    assert "GNU LESSER GENERAL PUBLIC LICENSE" in licences["common-LGPL-2.1.txt"]
    assert "How to replace a library" in text


def test_the_metadata_has_the_licence_of_everything(wheel: Path) -> None:
    message = metadata(wheel)
    expression = message["License-Expression"]
    assert expression.startswith("MIT AND ")
    assert "LGPL-2.1-or-later" in expression
    with zipfile.ZipFile(wheel) as archive:
        for name in message.get_all("License-File", []):
            assert any(item.endswith(f"/licenses/{name}") for item in archive.namelist())


def test_pages_name_the_libraries_under_the_lgpl() -> None:
    table = tomllib.loads((ROOT / "vendor" / "libraries.toml").read_text())["bundled"]
    assert {item["library"] for item in table if "LGPL" in item["licence"]} == LGPL
    for page in ("README.md", "SECURITY.md"):
        text = " ".join((ROOT / page).read_text().split())
        missing = [
            item["name"]
            for item in table
            if "LGPL" in item["licence"] and item["name"].partition(" (")[0] not in text
        ]
        assert missing == [], page


def test_a_library_without_an_entry_stops_the_build(
    wheel: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "vendor").mkdir()
    record = (ROOT / "vendor" / "libraries.toml").read_text()
    changed = record.replace('library = "libgmp"', 'library = "libother"')
    assert changed != record
    (tmp_path / "vendor" / "libraries.toml").write_text(changed)
    monkeypatch.setattr(wheel_script, "ROOT", tmp_path)
    with pytest.raises(wheel_script.WheelError, match=r"libgmp\.so.* is not in vendor"):
        wheel_script.bundled(EXTENSION)


def test_an_extension_of_another_python_is_refused(tmp_path: Path) -> None:
    other = tmp_path / "_core.cpython-399-x86_64-linux-gnu.so"
    other.touch()
    with pytest.raises(wheel_script.WheelError, match="not an extension of this Python"):
        wheel_script.build(tmp_path, other)
