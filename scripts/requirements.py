"""Prints requirements from ``pyproject.toml``, one per line.

Standard library only.
"""

import argparse
import tomllib
from pathlib import Path

PYPROJECT = Path(__file__).resolve().parent.parent / "pyproject.toml"


def requirements(names: list[str]) -> list[str]:
    """Return the requirements of ``names`` without repetition.

    Raises:
        SystemExit: A name is not a set of requirements of ``pyproject.toml``.
    """
    document = tomllib.loads(PYPROJECT.read_text())
    groups = {
        "build": document["build-system"]["requires"],
        "runtime": document["project"].get("dependencies", []),
        **document["project"].get("optional-dependencies", {}),
    }
    unknown = sorted(set(names) - set(groups))
    if unknown:
        raise SystemExit(f"requirements.py: no {unknown[0]!r}; there are {sorted(groups)}")
    return list(dict.fromkeys(line for name in names for line in groups[name]))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "name",
        nargs="+",
        help='"build" (of the build system), "runtime" (of the package) or one of its extras',
    )
    print("\n".join(requirements(parser.parse_args().name)))
