"""Prints the Pythons of this machine that pywebtransport supports: ``3.12 /usr/bin/python3.12``.

Looked for on the PATH and among the versions of pyenv; the newest of each version wins. ``3.14t``
is a free-threaded build. Standard library only.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

OLDEST = (3, 11)
NAME = re.compile(r"python3\.\d+t?")
TELL = """
import sys, sysconfig
free = "t" if sysconfig.get_config_var("Py_GIL_DISABLED") else ""
print(f"{sys.version_info[0]}.{sys.version_info[1]}{free}", *sys.version_info[:3])
"""


def candidates() -> Iterator[Path]:
    """Files with the name of an interpreter."""
    folders = [Path(name) for name in os.environ.get("PATH", "").split(os.pathsep) if name]
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    for folder in [*folders, *sorted(pyenv.glob("versions/*/bin"))]:
        if folder.is_dir() and folder.name != "shims":
            yield from (path for path in folder.glob("python3.*") if NAME.fullmatch(path.name))


def pythons() -> dict[str, str]:
    """The path of the newest Python of each version."""
    found: dict[str, tuple[tuple[int, ...], str]] = {}
    for path in candidates():
        if not shutil.which(path):
            continue
        done = subprocess.run([path, "-c", TELL], capture_output=True, text=True, check=False)
        if done.returncode or len(done.stdout.split()) != 4:
            continue  # a shim without a version behind it
        name, *numbers = done.stdout.split()
        release = tuple(map(int, numbers))
        if release >= OLDEST and release > found.get(name, ((), ""))[0]:
            found[name] = (release, str(path))
    return {name: path for name, (_, path) in sorted(found.items(), key=lambda item: item[1])}


def main() -> int:
    """Print them."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    for name, path in pythons().items():
        print(name, path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
