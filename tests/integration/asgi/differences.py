"""What differs between the three servers, and why each difference is right."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["ALL", "DIFFERENCES", "Difference"]

ALL = "every request"


@dataclass(frozen=True)
class Difference:
    """One fact that is not the same everywhere.

    Attributes:
        group: "http" or "websocket".
        cases: Names of requests, or ``ALL``.
        fact: What differs.
        values: On uvicorn, hypercorn, and this server.
        reason: Why that is right.
    """

    group: str
    cases: tuple[str, ...]
    fact: str
    values: tuple[str, str, str]
    reason: str


DIFFERENCES: tuple[Difference, ...] = ()
