"""The table of a long run."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

__all__ = ["markdown"]


def markdown(phases: Iterable[dict[str, Any]]) -> str:
    """A row for each phase."""
    lines = [
        "| phase | count | minutes | memory of server, client | rise in the second half | faults |",
        "|---|---|---|---|---|---|",
    ]
    for phase in phases:
        memory = {
            one["process"]: one for one in phase["series"] if one["quantity"] == "rss"
        }  # fmt: skip
        levels = ", ".join(f"{memory[name]['level']:.0f} MiB" for name in ("server", "client"))
        rises = ", ".join(f"{memory[name]['rise']:+.1f} MiB" for name in ("server", "client"))
        lines.append(
            f"| {phase['title']} ({phase['date']}, scale {phase['scale']:g}) | {phase['done']:,} | "
            f"{phase['seconds'] / 60:.1f} | {levels} | {rises} | "
            f"{'; '.join(phase['faults']) or 'none'} |"
        )
    return "\n".join(lines) + "\n"
