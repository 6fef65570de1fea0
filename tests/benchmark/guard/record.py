"""The recorded counts, ``recorded.json``, and how new ones compare with them.

Instruction counts are exact, but only between runs of the same code: another Python, another
compiler or a processor for which a library has other routines gives other counts. So every
record says where it was made, and only records of the same surroundings are compared with.
"""

from __future__ import annotations

import json
import platform
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

TOLERANCE = 0.05


class RecordError(Exception):
    """The file of records cannot be used; the message names the place in it."""


@dataclass(frozen=True, slots=True)
class Figure:
    """The recorded cost of a workload.

    Attributes:
        operations: How many it did.
        instructions: What they took together.
    """

    operations: int
    instructions: int


@dataclass(slots=True)
class Record:
    """Figures by workload, with what they depend on besides our sources, by name."""

    environment: dict[str, str]
    figures: dict[str, Figure] = field(default_factory=dict)


class Verdict(Enum):
    """What became of a workload."""

    SAME = "same"
    WORSE = "worse"
    BETTER = "better"
    UNKNOWN = "not recorded"
    CHANGED = "another workload was recorded"


@dataclass(frozen=True, slots=True)
class Comparison:
    """A workload now and then.

    Attributes:
        workload: Its name.
        now: What it takes now.
        recorded: What it took; None when that is not known.
        verdict: What to make of it.
    """

    workload: str
    now: Figure
    recorded: Figure | None
    verdict: Verdict

    @property
    def change(self) -> float | None:
        """Growth as a fraction."""
        if self.recorded is None or self.verdict is Verdict.CHANGED:
            return None
        return self.now.instructions / self.recorded.instructions - 1


def compare(
    now: Mapping[str, Figure], recorded: Mapping[str, Figure], tolerance: float = TOLERANCE
) -> list[Comparison]:
    """Compare every workload of ``now``."""
    return [_compare(name, figure, recorded.get(name), tolerance) for name, figure in now.items()]


def _compare(name: str, now: Figure, recorded: Figure | None, tolerance: float) -> Comparison:
    if recorded is None:
        verdict = Verdict.UNKNOWN
    elif recorded.operations != now.operations:
        verdict = Verdict.CHANGED
    elif now.instructions > recorded.instructions * (1 + tolerance):
        verdict = Verdict.WORSE
    elif now.instructions < recorded.instructions * (1 - tolerance):
        verdict = Verdict.BETTER
    else:
        verdict = Verdict.SAME
    return Comparison(name, now, recorded, verdict)


def platform_key() -> str:
    """Python's minor version and the architecture: what records are sorted by."""
    major, minor = sys.version_info[:2]
    return f"{sys.implementation.name}-{major}.{minor}-{platform.machine()}"


class Records:
    """All records, by platform."""

    def __init__(self, by_platform: dict[str, list[Record]] | None = None) -> None:
        self._by_platform = by_platform or {}

    @classmethod
    def load(cls, path: Path) -> Records:
        """Read the file; a missing one holds no record.

        Raises:
            RecordError: It is not such a file.
        """
        if not path.exists():
            return cls()
        try:
            document = json.loads(path.read_text())
        except ValueError as error:
            raise RecordError(f"{path.name}: no JSON: {error}") from None
        if not isinstance(document, dict):
            raise RecordError(f"{path.name}: expected an object, got {document!r}")
        return cls(
            {
                key: [
                    _parse_record(item, f"{path.name}: {key}[{n}]") for n, item in enumerate(items)
                ]
                for key, items in document.items()
                if _is_list(items, f"{path.name}: {key}")
            }
        )

    def save(self, path: Path) -> None:
        """Write the file."""
        document = {
            key: [
                {
                    "environment": record.environment,
                    "figures": {
                        name: {
                            "operations": figure.operations,
                            "instructions": figure.instructions,
                        }
                        for name, figure in record.figures.items()
                    },
                }
                for record in records
            ]
            for key, records in sorted(self._by_platform.items())
        }
        path.write_text(json.dumps(document, indent=2) + "\n")

    def platforms(self) -> list[str]:
        """Every platform that has a record."""
        return sorted(key for key, records in self._by_platform.items() if records)

    def find(self, key: str, environment: Mapping[str, str]) -> Record | None:
        """The record that was made in the same surroundings."""
        for record in self._by_platform.get(key, []):
            if record.environment == environment:
                return record
        return None

    def nearest(self, key: str, environment: Mapping[str, str]) -> Record | None:
        """The record of the platform that differs in the fewest points."""
        return min(
            self._by_platform.get(key, []),
            key=lambda record: len(differences(record.environment, environment)),
            default=None,
        )

    def store(self, key: str, environment: dict[str, str], figures: Mapping[str, Figure]) -> None:
        """Set figures of one environment; other workloads keep theirs."""
        record = self.find(key, environment)
        if record is None:
            record = Record(environment)
            self._by_platform.setdefault(key, []).append(record)
        record.figures.update(figures)


def differences(recorded: Mapping[str, str], now: Mapping[str, str]) -> list[tuple[str, str, str]]:
    """(name, recorded, now) of every point in which two environments differ."""
    return [
        (name, recorded.get(name, "not recorded"), now.get(name, "unknown"))
        for name in dict.fromkeys((*recorded, *now))
        if recorded.get(name) != now.get(name)
    ]


def _is_list(value: object, place: str) -> bool:
    if not isinstance(value, list):
        raise RecordError(f"{place}: expected a list, got {value!r}")
    return True


def _parse_record(item: Any, place: str) -> Record:
    if not isinstance(item, dict) or set(item) != {"environment", "figures"}:
        raise RecordError(f"{place}: expected environment and figures, got {item!r}")
    environment, figures = item["environment"], item["figures"]
    if not isinstance(environment, dict) or not all(
        isinstance(value, str) for value in environment.values()
    ):
        raise RecordError(f"{place}: environment must map names to text, got {environment!r}")
    if not isinstance(figures, dict):
        raise RecordError(f"{place}: figures must be an object, got {figures!r}")
    return Record(
        environment,
        {name: _parse_figure(figure, f"{place}: {name}") for name, figure in figures.items()},
    )


def _parse_figure(figure: Any, place: str) -> Figure:
    if not isinstance(figure, dict) or set(figure) != {"operations", "instructions"}:
        raise RecordError(f"{place}: expected operations and instructions, got {figure!r}")
    for name, value in figure.items():
        if type(value) is not int or value <= 0:
            raise RecordError(f"{place}: {name} must be a whole number >= 1, got {value!r}")
    return Figure(**figure)
