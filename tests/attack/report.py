"""Tables of what attacks did."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

__all__ = ["document", "markdown", "text"]

_HEAD = ("attack", "p99 ms", "beside", "during", "ratio", "cpu", "turn ms", "MiB", "peak", "after")


def document(results: list[dict[str, Any]], seconds: float) -> dict[str, Any]:
    """All there is to know, for JSON."""
    return {
        "date": time.strftime("%Y-%m-%d"),
        "python": platform.python_version(),
        "system": platform.platform(),
        "processors": os.cpu_count(),
        "load": os.getloadavg()[0],
        "seconds": seconds,
        "results": results,
    }


def text(results: Iterable[dict[str, Any]]) -> Iterator[str]:
    """A table for a terminal, line by line."""
    yield f"{'attack':<26}" + "".join(f"{name:>9}" for name in _HEAD[1:]) + "  what became of it"
    for one in results:
        yield (
            f"{one['name']:<26}"
            + "".join(f"{cell:>9}" for cell in _cells(one))
            + (
                f"  {'FAILED: ' + '; '.join(one['faults']) if one['faults'] else 'fine'}"
                f" [{attacker(one)}]"
            )
        )


def markdown(found: dict[str, Any]) -> str:
    """Tables for the documentation, one for each group."""
    parts = [
        f"Measured on {found['date']} with Python {found['python']} on {found['processors']} "
        f"processors, {found['seconds']:g} seconds for each attack.\n"
    ]
    groups: dict[str, list[dict[str, Any]]] = {}
    for one in found["results"]:
        groups.setdefault(one["group"], []).append(one)
    for group, members in groups.items():
        parts.append(
            f"\n**{group}**\n\n| what the peer does | p99 quiet | p99 elsewhere | p99 during | "
        )
        parts.append("ratio | CPU | memory before, peak, after | peer | result |\n")
        parts.append("|---|---|---|---|---|---|---|---|---|\n")
        for one in members:
            quiet, beside, during, ratio, cpu, _, before, peak, after = _cells(one)
            result = "; ".join(one["faults"]) if one["faults"] else "fine"
            parts.append(
                f"| {one['doc']} | {quiet} | {beside} | {during} | {ratio} | {cpu} | "
                f"{before}, {peak}, {after} | {attacker(one)} | {result} |\n"
            )
    return "".join(parts)


def attacker(one: dict[str, Any]) -> str:
    """What it sent, and how its connections ended."""
    told = one["attacker"]
    if not told:
        return "no account"
    ends = [f"{count} x {how}" for how, count in told["ends"].items()]
    notes = [f"{count} x {what}" for what, count in told["notes"].items()]
    return ", ".join([f"{told['sent'] / 1e6:.1f} MB", *ends[:3], *notes[:3]])


def _cells(one: dict[str, Any]) -> tuple[str, ...]:
    def ms(value: float | None) -> str:
        return "-" if value is None else f"{value * 1e3:.1f}"

    def mib(name: str) -> str:
        value = one["memory"].get(name)
        return "-" if value is None else f"{value:.0f}"

    ratio, cpu = one["ratio"], one["cpu"].get("during")
    return (
        ms(one["quiet"].get("p99")),
        ms(one["control"].get("p99")),
        ms(one["during"].get("p99")),
        "-" if ratio is None else f"{ratio:.1f}",
        "-" if cpu is None else f"{cpu:.0%}",
        ms(one["turn"]),
        mib("before"),
        mib("peak"),
        mib("after"),
    )


def write_docs(found: dict[str, Any], path: Path) -> None:
    """The file that the page includes."""
    path.write_text(markdown(found))
