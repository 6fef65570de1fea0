"""All Python targets by name, and what they begin with."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

from tests.fuzz import (
    exchange_targets,
    h3_targets,
    message_targets,
    qmux_targets,
    text_targets,
)

__all__ = ["SEEDS", "TARGETS"]

_MODULES: tuple[ModuleType, ...] = (
    h3_targets,
    qmux_targets,
    exchange_targets,
    text_targets,
    message_targets,
)

SEEDS: dict[str, list[bytes]] = {
    name: seeds for module in _MODULES for name, seeds in module.SEEDS.items()
}
"""Well-formed inputs."""

TARGETS: dict[str, Callable[[bytes], None]] = {
    name: getattr(module, name) for module in _MODULES for name in module.SEEDS
}
"""Functions that raise on a defect, and on nothing else."""
