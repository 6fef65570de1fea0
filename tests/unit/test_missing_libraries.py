"""An extension that cannot be loaded: what importing the package says, by real loads."""

import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import pywebtransport
from pywebtransport._quic import libraries, missing
from tests.support.scripts import ROOT, load_script

PACKAGE = Path(pywebtransport.__file__).parent
# Of C itself, and of builds with sanitizers.
SYSTEM = ("libc.", "libm.", "ld-", "libasan.", "libubsan.")
RELEASES = {
    "debian-12": {"ID": "debian", "VERSION_ID": "12"},
    "debian": {"ID": "debian", "VERSION_ID": "13"},
    "ubuntu": {"ID": "ubuntu", "ID_LIKE": "debian", "VERSION_ID": "25.10"},
    "fedora": {"ID": "fedora", "VERSION_ID": "43"},
    "alpine": {"ID": "alpine", "VERSION_ID": "3.22.1"},
    "arch": {"ID": "arch"},
}
OLD_NGTCP2 = """
typedef struct { int age; int version_num; const char *version_str; } info;
static const info old = {1, 0x010500, "1.5.0"};
const info *ngtcp2_version(int least) { (void)least; return &old; }
"""


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of the package as pip installs it; its folder."""
    target = tmp_path / "site" / "pywebtransport"
    ignored = shutil.ignore_patterns("__pycache__", "engine", "*.c", "*.px[di]", "*.pyx")
    shutil.copytree(PACKAGE, target, ignore=ignored)
    return target


def extension(package: Path) -> Path:
    """The file that Python loads."""
    (path,) = (package / "_quic").glob(f"_core.{sys.implementation.cache_tag}*.so")
    return path


def imported(package: Path, **environment: str) -> str:
    """What an interpreter says that imports the package; "" if nothing."""
    done = subprocess.run(
        [sys.executable, "-c", "import pywebtransport"],
        cwd=package.parent,
        env={**os.environ, "PYTHONPATH": str(package.parent), **environment},
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert (done.returncode == 0) is (done.stderr == "")
    last = done.stderr.rpartition("\nImportError: ")[2]
    return last.rstrip("\n")


def replace(path: Path, old: bytes, new: bytes) -> None:
    """Change a name in a binary for another of the same length."""
    assert len(old) == len(new)
    data = path.read_bytes()
    assert data.count(old) >= 1, old
    path.write_bytes(data.replace(old, new))


# ------------------------------------------------------------------------ real loads


def test_the_copy_is_good(copy: Path) -> None:
    assert imported(copy) == ""


@pytest.mark.parametrize("library", libraries.LIBRARIES, ids=lambda item: item.library)
def test_a_library_that_is_not_installed_is_named_with_its_package(
    library: libraries.Library, copy: Path
) -> None:
    path = extension(copy)
    soversion = missing._soversion(library)
    old = f"{library.library}.{soversion}\0".encode()
    new = f"{library.library}.{'9' * len(soversion)}\0".encode()
    replace(path, old, new)
    text = imported(copy)
    file = new[:-1].decode()
    first, *lines = text.splitlines()
    assert first.startswith(
        f"pywebtransport cannot be imported: the library {file} ({library.name}) is not "
        "installed; install the package"
    )
    assert "pip install --force-reinstall" in text
    assert lines[-1].startswith(f"({file}: cannot open shared object file")
    if here := missing._distribution():
        package = library.runtime[here.key].format(soversion="9" * len(soversion))
        assert lines[0] == f"  sudo {here.install} {package}"


@pytest.mark.parametrize(
    ("symbol", "name"),
    [
        (b"ngtcp2_conn_get_timestamp", "ngtcp2"),
        (b"ngtcp2_crypto_gnutls_configure_server_session", "ngtcp2's GnuTLS helper"),
        (b"gnutls_handshake", "GnuTLS"),
    ],
)
def test_a_library_that_lacks_a_function_is_too_old(symbol: bytes, name: str, copy: Path) -> None:
    path = extension(copy)
    used = [
        word
        for word in path.read_bytes().split(b"\0")
        if word.startswith(symbol[:14]) and word.replace(b"_", b"").isalnum()
    ]
    chosen = symbol if symbol in used else used[0]
    replace(path, b"\0" + chosen + b"\0", b"\0" + chosen[:-1] + b"0\0")
    text = imported(copy)
    assert f"the {name} found at run time (lib" in text
    assert f"is too old: it lacks {chosen[:-1].decode()}0, " in text
    assert "or newer is needed; install the package" in text


def test_an_ngtcp2_that_says_it_is_older_is_refused(copy: Path) -> None:
    """All functions are there, but not what was mended since: only its version tells."""
    source = copy.parent / "old.c"
    source.write_text(OLD_NGTCP2)
    library = copy.parent / "old.so"
    compiler = os.environ.get("CC", "cc")
    subprocess.run([compiler, "-shared", "-fPIC", source, "-o", library], check=True)
    preloaded = filter(None, [os.environ.get("LD_PRELOAD"), str(library)])
    text = imported(copy, LD_PRELOAD=":".join(preloaded))
    assert "ngtcp2 1.5.0 was found at run time (libngtcp2.so), this build needs 1." in text
    assert "install the package" in text
    assert "or, to use the one that is there, build it again" in text


def test_an_extension_for_another_python_is_named(copy: Path) -> None:
    extension(copy).rename(copy / "_quic" / "_core.cpython-399-x86_64-linux-gnu.so")
    text = imported(copy)
    assert "built for another Python (_core.cpython-399-x86_64-linux-gnu.so), this is " in text
    assert platform.python_version() in text
    assert "build it again:\n  pip install --force-reinstall" in text


def test_an_extension_that_was_not_built_is_told(copy: Path) -> None:
    extension(copy).unlink()
    text = imported(copy)
    assert "its extension was not built; build it again:\n  pip install" in text
    (copy.parent / "setup.py").touch()  # a source tree
    text = imported(copy)
    assert f"its extension was not built; build it in {copy.parent}:\n  make build\n" in text


def test_a_file_that_is_no_extension_is_told(copy: Path) -> None:
    extension(copy).write_bytes(b"not a library")
    assert "its extension does not fit this system or this source; build it" in imported(copy)


def test_an_extension_older_than_the_source_is_told(copy: Path) -> None:
    package = copy / "_quic" / "__init__.py"
    package.write_text(package.read_text().replace("    QLOG_SUPPORTED,", "    NEW,", 1))
    text = imported(copy)
    assert "its extension does not fit this system or this source; build it" in text
    assert "cannot import name 'NEW'" in text


# ------------------------------------------------------------------------ every distribution

MISSING = {
    "glibc": "libngtcp2_crypto_gnutls.so.8: cannot open shared object file: No such file",
    "musl": "Error loading shared library libngtcp2_crypto_gnutls.so.8: No such file or directory "
    "(needed by /site/_core.so)",
}
COMMANDS = {
    "debian-12": "sudo apt install -t bookworm-backports libngtcp2-crypto-gnutls8",
    "debian": "sudo apt install libngtcp2-crypto-gnutls8",
    "ubuntu": "sudo apt install libngtcp2-crypto-gnutls8",
    "fedora": "sudo dnf install ngtcp2-crypto-gnutls",
    "alpine": "sudo apk add ngtcp2-gnutls",
    "arch": "sudo pacman -S --needed libngtcp2",
}


@pytest.mark.parametrize("linker", MISSING)
@pytest.mark.parametrize("key", RELEASES)
def test_the_command_is_that_of_the_distribution(
    key: str, linker: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(platform, "freedesktop_os_release", lambda: RELEASES[key])
    assert f"\n  {COMMANDS[key]}\n" in str(missing.explained(ImportError(MISSING[linker])))


def test_a_system_without_a_name_is_told_which_file(monkeypatch: pytest.MonkeyPatch) -> None:
    for release in ({"ID": "plan9"}, {}):
        monkeypatch.setattr(platform, "freedesktop_os_release", lambda release=release: release)
        text = str(missing.explained(ImportError(MISSING["glibc"])))
        assert "install the package that has libngtcp2_crypto_gnutls.so\n" in text


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (
            "libhogweed.so.6: cannot open shared object file: No such file or directory",
            "the library libhogweed.so.6 is not installed; install the package that has it",
        ),
        (
            "/lib/libgnutls.so.30: version `GNUTLS_3_8_2' not found (required by _core.so)",
            "the GnuTLS found at run time (libgnutls.so.30) is too old: it lacks GNUTLS",
        ),
        (
            "Error relocating _core.so: ngtcp2_conn_new_thing: symbol not found",
            "the ngtcp2 found at run time (libngtcp2.so.16) is too old: it lacks "
            "ngtcp2_conn_new_thing, 1.11.0 or newer is needed",
        ),
        (
            "/lib/libc.so.6: version `GLIBC_2.99' not found (required by _core.so)",
            "its extension does not fit this system or this source; build it",
        ),
        (
            "_core.so: undefined symbol: PyUnicode_Nothing",
            "its extension does not fit this system or this source; build it",
        ),
    ],
)
def test_what_linkers_say_is_understood(message: str, expected: str) -> None:
    error = ImportError(message, name="pywebtransport._quic._core", path="/site/_core.so")
    answer = missing.explained(error)
    assert str(answer).startswith(f"pywebtransport cannot be imported: {expected}")
    assert str(answer).endswith(f"\n({message})")
    assert (answer.name, answer.path) == (error.name, error.path)


@pytest.mark.parametrize(
    ("found", "built", "needed"),
    [
        ({"ngtcp2": "1.11.0"}, "1.11.0", ""),
        ({"ngtcp2": "1.25.0"}, "1.11.0", ""),
        ({"ngtcp2": "1.11.0"}, "1.11.2", ""),  # patches change no structure
        ({"ngtcp2": "1.10.9"}, "1.9.0", "1.11.0"),
        ({"ngtcp2": "1.11.0"}, "1.12.0", "1.12.0"),
        ({"ngtcp2": "1.11.0-DEV", "GnuTLS": "3.7.2"}, "1.11.0", ""),
        ({"ngtcp2": "1.11.0", "GnuTLS": "3.7.1"}, "1.11.0", "3.7.2"),
    ],
)
def test_versions_at_run_time(found: dict[str, str], built: str, needed: str) -> None:
    if not needed:
        missing.check_versions(found, built)
        return
    with pytest.raises(ImportError, match=f"this build needs {needed} or newer; install"):
        missing.check_versions(found, built)


# ------------------------------------------------------------------------ the record


def test_the_table_is_that_of_the_record() -> None:
    written = (PACKAGE / "_quic" / "libraries.py").read_text()
    assert written == load_script("sync_libraries").generated()


def test_every_library_has_a_package_everywhere() -> None:
    keys = {item.key for item in libraries.DISTRIBUTIONS}
    assert keys == set(RELEASES)
    assert [item.library for item in libraries.LIBRARIES if set(item.runtime) != keys] == []


def test_everything_that_the_extension_is_linked_with_is_in_the_table() -> None:
    done = subprocess.run(
        ["readelf", "--dynamic", extension(PACKAGE)], capture_output=True, text=True, check=True
    )
    needed = [
        line.split("[")[1].rstrip("]") for line in done.stdout.splitlines() if "(NEEDED)" in line
    ]
    ours = [name for name in needed if not name.startswith(SYSTEM)]
    assert {name.partition(".so")[0] + ".so" for name in ours} == {
        item.library for item in libraries.LIBRARIES
    }
    assert (ROOT / "vendor" / "libraries.toml").is_file()
