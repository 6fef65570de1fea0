"""The corpora in the repository: for each target a file with one input a line, in base64."""

from __future__ import annotations

import base64
from collections.abc import Iterable
from pathlib import Path

__all__ = ["load", "pack", "store", "unpack"]

FOLDER = Path(__file__).parent / "corpus"

# What a target covers with short inputs, so that the repository stays small.
_MAX_INPUTS = 120
_MAX_BYTES = 500


def load(name: str) -> list[bytes]:
    """Inputs of a target; none if it has no corpus yet."""
    path = FOLDER / f"{name}.txt"
    if not path.exists():
        return []
    return [base64.b64decode(line) for line in path.read_text().split()]


def store(name: str, inputs: Iterable[bytes]) -> int:
    """Write the corpus of a target anew; tells how many inputs it has."""
    chosen = sorted({data for data in inputs if len(data) <= _MAX_BYTES}, key=lambda d: (len(d), d))
    lines = [base64.b64encode(data).decode() for data in chosen[:_MAX_INPUTS] if data]
    FOLDER.mkdir(exist_ok=True)
    (FOLDER / f"{name}.txt").write_text("\n".join(lines) + "\n")
    return len(lines)


def unpack(name: str, folder: Path, more: Iterable[bytes] = ()) -> None:
    """Write each input of a corpus into a file, as libFuzzer wants it."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, data in enumerate([*load(name), *more]):
        (folder / f"kept-{number}").write_bytes(data)


def pack(name: str, folder: Path) -> int:
    """Make the corpus of the files in a folder."""
    return store(name, (path.read_bytes() for path in folder.iterdir() if path.is_file()))
