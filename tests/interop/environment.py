"""A virtualenv of its own for the peer that does not run in this one."""

from __future__ import annotations

from pathlib import Path

from tests.support import environments

__all__ = ["MINIMUM", "find_python", "peer_python"]

ENVIRONMENT = Path(__file__).resolve().parents[2] / ".venv-peers"
REQUIREMENTS = ["aiopquic==0.6.1"]
MINIMUM = (3, 12)


def find_python() -> str | None:
    """An interpreter of version ``MINIMUM`` or later, or None."""
    return environments.find_python(lambda version: version >= MINIMUM)


def peer_python() -> str:
    """The interpreter of an environment that holds ``REQUIREMENTS``.

    Raises:
        FileNotFoundError: There is no Python of version ``MINIMUM`` or later.
        subprocess.CalledProcessError: The packages cannot be installed.
    """
    base = find_python()
    if base is None:
        raise FileNotFoundError(f"no Python {MINIMUM[0]}.{MINIMUM[1]} or later")
    return environments.make_environment(ENVIRONMENT, base, REQUIREMENTS)
