"""Installs a wheel into a new virtualenv and echoes over loopback with it.

    try_wheel.py [--hide] WHEEL

Needs nothing but Python with its module venv. With ``--hide``, as root, the libraries of the system
that the wheel brings along cannot be loaded: an empty file lies over each of them, in a mount
namespace that ends with the program.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ECHO = ROOT / "tests" / "support" / "installed_echo.py"
DIRECTORIES = ["/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib"]
HIDDEN = ["unshare", "--mount", "--propagation", "private", "sh", "-ec"]
# $0 has the files, one a line; the rest is the program.
COVER = 'echo "$0" | while read -r file; do mount --bind /dev/null "$file"; done; exec "$@"'


def show(command: list[str]) -> None:
    """Run a command that has to succeed, as a person would read it in a terminal."""
    print("$", *command, flush=True)
    subprocess.run(command, check=True)


def system_libraries(wheel: Path) -> list[str]:
    """The libraries of this system, real files, that the wheel has, too."""
    with zipfile.ZipFile(wheel) as archive:
        names = [Path(name).name for name in archive.namelist() if ".libs/lib" in name]
    stems = {name.rpartition("-")[0] for name in names}
    if not stems:
        raise SystemExit(f"error: {wheel} brings no library along")
    places = {Path(name).resolve() for name in DIRECTORIES if Path(name).is_dir()}
    found = {
        path.resolve()
        for place in places
        for stem in stems
        for pattern in (f"{stem}.so*", f"*/{stem}.so*")
        for path in place.glob(pattern)
    }
    return sorted(str(path) for path in found if path.is_file())


def try_wheel(wheel: Path, *, hide: bool) -> None:
    """Install and run.

    Raises:
        CalledProcessError: A step failed.
        SystemExit: A library of the system was used.
    """
    with tempfile.TemporaryDirectory(prefix="try-wheel-") as name:
        python = str(Path(name, "bin", "python"))
        show([sys.executable, "-m", "venv", name])
        show([python, "-m", "pip", "--disable-pip-version-check", "install", "-q", str(wheel)])
        # -I: neither PYTHONPATH nor the current directory, so that no checkout is imported.
        command = [python, "-I", str(ECHO)]
        if hide:
            files = system_libraries(wheel)
            print(f"hidden: {', '.join(map(str, files))}")
            command = [*HIDDEN, COVER, "\n".join(files), *command]
            print("$", python, "-I", ECHO, flush=True)
        else:
            print("$", *command, flush=True)
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
        print(done.stdout, end="", flush=True)
        done.check_returncode()
        used = [
            line.partition(": ")[2]
            for line in done.stdout.splitlines()
            if line.startswith("library: ")
        ]
        outside = [path for path in used if "/pywebtransport.libs/" not in path]
        if outside or not used:
            raise SystemExit(f"error: loaded from outside the wheel: {outside or 'everything'}")


def main() -> int:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("wheel", type=Path)
    parser.add_argument("--hide", action="store_true", help="hide the libraries of the system")
    arguments = parser.parse_args()
    try:
        try_wheel(arguments.wheel, hide=arguments.hide)
    except subprocess.CalledProcessError as error:
        print(f"error: {error.cmd[0]} ended with {error.returncode}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
