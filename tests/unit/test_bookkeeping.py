"""The library listens to its own objects where no application can take that away.

Handlers of an emitter are the application's: it may remove all of them, pause them, or use up
their number. What the library has to hear goes through ``add_watcher``, or a callback of its own.
"""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[2] / "pywebtransport"
# Methods of an emitter, and a word that others use, too: how often with this argument.
LISTENING = {"on", "on_any", "once", "register_handlers", "wait_for"}
MODULES = sorted(PACKAGE.rglob("*.py"))


def listening(source: str) -> list[str]:
    """Calls of emitters' methods that add a listener."""
    return [
        ast.unparse(node)
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in LISTENING
        # Of the own class, for callers: EventEmitter.on(self, ...) within register_handlers.
        and ast.unparse(node.func.value) not in ("EventEmitter", "asyncio")
    ]


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_nothing_listens_in_public(path: Path) -> None:
    assert listening(path.read_text()) == []


def test_listening_is_found() -> None:
    assert len(listening("session.on(a, b)\nawait self._session.wait_for(a)")) == 2
