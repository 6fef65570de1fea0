"""Explains what to do when the extension cannot be loaded, because the linker does not."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from .libraries import DISTRIBUTIONS, LIBRARIES, Distribution, Library

__all__ = ["check_versions", "explained"]

_PACKAGE = Path(__file__).resolve().parent
_EXTENSION = f"{__package__}._core"

# The messages of the dynamic linkers of glibc and musl.
_NO_FILE = re.compile(
    r"(?P<file>lib[\w+.-]+?\.so(?:\.(?P<soversion>\d+))?[\d.]*): cannot open shared object file"
    r"|Error loading shared library (?P<file2>lib[\w+.-]+?\.so(?:\.(?P<soversion2>\d+))?[\d.]*):"
)
_NO_SYMBOL = re.compile(
    r"undefined symbol: (?P<name>\w+)|version `(?P<version>\w+?)_[\d_.]+' not found"
    r"|Error relocating .*: (?P<name2>\w+): symbol not found"
)


def _libraries() -> list[Library]:
    """Return all libraries, the longest symbol prefix first: some begin with others."""
    return sorted(LIBRARIES, key=lambda item: -len(item.symbols))


def _distribution() -> Distribution | None:
    """Return the entry of this distribution, or of the one that it derives from."""
    import platform

    try:
        fields = platform.freedesktop_os_release()
    except OSError:
        return None
    for name in [fields.get("ID", ""), *fields.get("ID_LIKE", "").split()]:
        for row in sorted(DISTRIBUTIONS, key=lambda row: not row.version):
            if row.id == name and row.version in ("", fields.get("VERSION_ID", "")):
                return row
    return None


def _install(library: Library, soversion: str) -> str:
    """Return a sentence with the command that installs or updates a library."""
    here = _distribution()
    if here is None:
        return f"install the package that has {library.library}"
    package = library.runtime[here.key].format(soversion=soversion)
    return f"install the package {package}:\n  sudo {here.install} {package}"


def _build_again() -> str:
    """Return a sentence with the command that compiles the extension."""
    checkout = _PACKAGE.parents[1]
    if (checkout / "setup.py").is_file():
        return f"build it in {checkout}:\n  make build\nor, in a virtualenv,\n  pip install ."
    return (
        "build it again:\n  pip install --force-reinstall --no-cache-dir --no-deps .\n"
        "in a checkout of pywebtransport, or with the file of a wheel in place of the dot"
    )


def _builds() -> list[str]:
    """Return the file names of built extensions, for any version of Python."""
    return sorted(path.name for path in _PACKAGE.glob("_core*.so"))


def _text(error: ImportError) -> str:
    """Return what went wrong and what to do."""
    import platform

    message = str(error)
    python = f"{sys.implementation.name} {platform.python_version()}"
    if isinstance(error, ModuleNotFoundError) and error.name == _EXTENSION:
        if builds := _builds():
            return (
                f"its extension was built for another Python ({', '.join(builds)}), this is "
                f"{python} ({sys.implementation.cache_tag}); {_build_again()}"
            )
        return f"its extension was not built; {_build_again()}"
    if match := _NO_FILE.search(message):
        file = match["file"] or match["file2"]
        soversion = match["soversion"] or match["soversion2"] or ""
        for library in _libraries():
            if file.startswith(library.library):
                return (
                    f"the library {file} ({library.name}) is not installed; "
                    f"{_install(library, soversion)}\n"
                    "If the distribution has only another version of it by now, "
                    f"{_build_again()}"
                )
        return (
            f"the library {file} is not installed; install the package that has it, or, if "
            f"the distribution has only another version of it by now, {_build_again()}"
        )
    if match := _NO_SYMBOL.search(message):
        name = match["name"] or match["name2"] or f"{match['version']}_"
        for library in _libraries():
            if name.lower().startswith(library.symbols):
                # The number in the file's name is in the message or in that of the extension.
                soversion = _soversion(library)
                return (
                    f"the {library.name} found at run time ({library.library}.{soversion}) is too "
                    f"old: it lacks {name.rstrip('_')}, {library.minimum} or newer is needed; "
                    f"{_install(library, soversion)}"
                )
    return f"its extension does not fit this system or this source; {_build_again()}"


def _soversion(library: Library) -> str:
    """Return the version of a library that this extension is linked with; "" if unknown."""
    pattern = re.compile(rb"\0" + re.escape(library.library.encode()) + rb"\.(\d+)\0")
    for name in _builds():
        if match := pattern.search((_PACKAGE / name).read_bytes()):
            return match[1].decode()
    return ""


def explained(error: ImportError) -> ImportError:
    """Return the error to raise instead of the one from importing the extension.

    Args:
        error: The error that Python raised; its message is the last line of the new one.
    """
    last = f"\n({error})"
    return ImportError(
        f"pywebtransport cannot be imported: {_text(error)}{last}", name=error.name, path=error.path
    )


def check_versions(found: dict[str, str], built: str) -> None:
    """Refuse libraries that are too old for the engine.

    Args:
        found: Versions at run time, by the names of vendor/libraries.toml.
        built: The version of ngtcp2 that the extension was compiled with. An older ngtcp2 may
            not know the structures of a newer one; it would end the process then.

    Raises:
        ImportError: A library is too old.
    """
    for library in _libraries():
        version = found.get(library.name)
        if version is None:
            continue
        minimum = library.minimum
        if library.name == "ngtcp2":
            minimum = max(minimum, built, key=lambda text: _numbers(text)[:2])
        if _numbers(version)[:2] < _numbers(minimum)[:2] or _numbers(version) < _numbers(
            library.minimum
        ):
            raise ImportError(
                f"pywebtransport cannot be imported: {library.name} {version} was found at run "
                f"time ({library.library}), this build needs {minimum} or newer; "
                f"{_install(library, _soversion(library))}\nor, to use the one that is there, "
                f"{_build_again()}",
                name=_EXTENSION,
            )


def _numbers(version: str) -> tuple[int, ...]:
    """Return the leading numbers of a version: ``"1.11.0-DEV"`` becomes (1, 11, 0)."""
    return tuple(int(text) for text in re.findall(r"\d+", version.partition("-")[0])[:3])
