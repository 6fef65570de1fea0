"""Copies the part of ``vendor/libraries.toml`` that an installed package needs into the package.

A test compares them, so run this after changing the libraries or the distributions.
"""

import argparse
import json
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LIBRARIES = ROOT / "vendor" / "libraries.toml"
TARGET = ROOT / "pywebtransport" / "_quic" / "libraries.py"

HEAD = '''"""The system libraries at run time; written by scripts/sync_libraries.py.

The record, with comments, is vendor/libraries.toml of the source tree.
"""

from __future__ import annotations

from typing import Final, NamedTuple

__all__ = ["DISTRIBUTIONS", "LIBRARIES", "Distribution", "Library"]


class Library(NamedTuple):
    """A library that the engine is linked with; ``runtime`` has its package per distribution."""

    name: str
    library: str
    symbols: str
    minimum: str
    runtime: dict[str, str]


class Distribution(NamedTuple):
    """``id`` and ``version`` are those of os-release; without version, any other one."""

    key: str
    id: str
    version: str
    install: str

'''


def rows(name: str, fields: list[str], tables: list[dict[str, object]]) -> str:
    """A constant with one call of a class for each table, as ruff formats it."""
    lines = [f"{name.upper()}: Final = ["]
    for item in tables:
        lines.append(f"    {name.title().replace('ies', 'y').removesuffix('s')}(")
        for field in fields:
            value = item.get(field, "")
            if isinstance(value, dict):
                lines.append(f"        {field}={{")
                lines += [
                    f"            {json.dumps(k)}: {json.dumps(v)}," for k, v in value.items()
                ]
                lines.append("        },")
            else:
                lines.append(f"        {field}={json.dumps(value)},")
        lines.append("    ),")
    return "\n".join([*lines, "]\n"])


def generated() -> str:
    """The text of the module."""
    document = tomllib.loads(LIBRARIES.read_text())
    libraries = [item for item in document["requirement"] if "library" in item]
    fields = ["name", "library", "symbols", "minimum", "runtime"]
    return "\n".join(
        [
            HEAD,
            rows("libraries", fields, libraries),
            rows("distributions", ["key", "id", "version", "install"], document["distribution"]),
        ]
    )


def main() -> int:
    """Write the module."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    TARGET.write_text(generated())
    return 0


if __name__ == "__main__":
    sys.exit(main())
