"""What an attack is, and the list of all."""

from __future__ import annotations

import asyncio
import importlib
import pkgutil
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .field import Field

__all__ = ["ATTACKS", "Attack", "Run", "attack", "chosen", "load"]

Run = Callable[["Field"], Awaitable[None]]

MEMORY = 160.0
"""MiB that one attack may make its victim grow by: what the process may keep for all peers."""


@dataclass(frozen=True, kw_only=True)
class Attack:
    """One way to do harm.

    Attributes:
        name: A word or two with hyphens.
        group: Module of it; selects all of its attacks.
        doc: One line: what the peer does.
        run: Does it. Prepares, awaits ``field.go()``, then goes on until it is cancelled.
        victim: ``server``, or ``client`` for a hostile server.
        config: Fields of the victim's configuration beside the defaults.
        memory: MiB by which the victim may grow.
        probe: A further command of the canary that must give no error while the attack lasts.
        upstream: The victim forwards to another server.
        scrape: Seconds between looks at the server's statistics; 0: nobody looks.
        prepare: Seconds that preparing may take.
    """

    name: str
    group: str
    doc: str
    run: Run
    victim: str = "server"
    config: dict[str, Any] = field(default_factory=dict)
    memory: float = MEMORY
    probe: str = ""
    upstream: bool = False
    scrape: float = 0.0
    prepare: float = 10.0


ATTACKS: dict[str, Attack] = {}


def attack(name: str, doc: str, **options: Any) -> Callable[[Run], Run]:
    """Register a function as an attack."""

    def register(run: Run) -> Run:
        add(name, doc, run, group=run.__module__.rpartition(".")[2], **options)
        return run

    return register


def add(name: str, doc: str, run: Run, *, group: str, **options: Any) -> None:
    """The same for functions that are made."""
    if name in ATTACKS:
        raise ValueError(f"two attacks are called {name}")
    ATTACKS[name] = Attack(name=name, group=group, doc=doc, run=run, **options)


def load() -> dict[str, Attack]:
    """All attacks, by name."""
    package = importlib.import_module("tests.attack.attacks")
    for module in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
        importlib.import_module(module.name)
    return ATTACKS


def chosen(names: list[str]) -> list[Attack]:
    """The attacks and groups of these names; all without a name.

    Raises:
        KeyError: There is none of a name.
    """
    attacks = load()
    groups = {one.group for one in attacks.values()}
    for name in names:
        if name not in attacks and name not in groups:
            raise KeyError(name)
    return [one for one in attacks.values() if not names or one.name in names or one.group in names]


async def for_ever() -> None:
    """Hold what one has."""
    await asyncio.Event().wait()
