"""Which pages may use a server: the check of ``origin``."""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["is_allowed"]


def is_allowed(origin: str, origins: Iterable[str]) -> bool:
    """Whether an origin is among others; ``*`` stands for all.

    Origins are compared as serialised (RFC 6454), scheme and host without case.
    """
    allowed = {item.lower() for item in origins}
    return "*" in allowed or origin.lower() in allowed
