"""Subprotocols of a WebSocket: a version of QMux, and perhaps an application protocol.

The name ``qmux-02.chat`` stands for QMux of draft 02 with the application protocol ``chat``;
``qmux-02`` stands for the same without one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from ..exceptions import ConfigurationError
from ..utils._text import printable

__all__ = [
    "DRAFTS",
    "LEGACY",
    "Subprotocol",
    "check_protocols",
    "choose",
    "format_offer",
    "offers_qmux",
    "parse_offer",
    "protocols_of",
]

DRAFTS: Final = (2, 1)
"""Drafts of QMux that are spoken, best first."""
LEGACY: Final = 0
"""Stands for the older framing without parameters, whose subprotocol is ``webtransport``."""

_BASES: Final = {2: "qmux-02", 1: "qmux-01", LEGACY: "webtransport"}
_DRAFTS_OF: Final = {name: draft for draft, name in _BASES.items()}
# Bytes of an offer; servers accept some 16 KiB of a whole request.
_MOST: Final = 8192
_TOKEN: Final = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")


class Subprotocol(NamedTuple):
    """A name that an end offers or has chosen.

    Attributes:
        name: As it is sent.
        draft: The draft of QMux, or ``LEGACY``.
        protocol: The application protocol; None if the name has none.
    """

    name: str
    draft: int
    protocol: str | None


def check_protocols(protocols: Sequence[str]) -> None:
    """Check names of application protocols that are to be offered over WebSocket.

    Raises:
        ConfigurationError: one is not a token of HTTP, or appears twice; or they are too long
            together.
    """
    rule = ""
    if isinstance(protocols, str) or not isinstance(protocols, Sequence):
        rule = "must be a sequence of names"
    elif not all(isinstance(name, str) and _TOKEN.fullmatch(name) for name in protocols):
        rule = "over WebSocket, names must consist of letters, digits and !#$%&'*+-.^_`|~"
    elif len(set(protocols)) != len(protocols):
        rule = "a name appears twice"
    elif len(", ".join(format_offer(protocols))) > _MOST:
        rule = f"the offer takes more than {_MOST} bytes"
    if rule:
        raise ConfigurationError(
            f"application_protocols = {printable(protocols)}: {rule}",
            config_key="application_protocols",
            config_value=protocols,
        )


def format_offer(protocols: Iterable[str]) -> tuple[str, ...]:
    """Client: return the subprotocols to offer, best first.

    Args:
        protocols: Application protocols, best first.
    """
    named = [f"{_BASES[draft]}.{protocol}" for protocol in protocols for draft in DRAFTS]
    return (*named, *(_BASES[draft] for draft in DRAFTS))


def parse_offer(offered: Iterable[str], *, legacy: bool = False) -> tuple[Subprotocol, ...]:
    """Return the subprotocols of an offer that this end speaks, in its order, each once.

    Args:
        offered: Names of ``Sec-WebSocket-Protocol``.
        legacy: Whether the older framing counts.
    """
    found = []
    for name in dict.fromkeys(offered):
        base, dot, protocol = name.partition(".")
        draft = _DRAFTS_OF.get(base)
        if draft is None or (draft == LEGACY and not legacy):
            continue
        if not dot:
            found.append(Subprotocol(name, draft, None))
        elif _TOKEN.fullmatch(protocol):
            found.append(Subprotocol(name, draft, protocol))
    return tuple(found)


def offers_qmux(offered: Iterable[str], *, legacy: bool = False) -> bool:
    """Return whether an offer has a subprotocol that this end speaks; as ``parse_offer``."""
    return bool(parse_offer(offered, legacy=legacy))


def protocols_of(subprotocols: Iterable[Subprotocol]) -> tuple[str, ...]:
    """Return the application protocols of an offer in its order, each once."""
    return tuple(dict.fromkeys(one.protocol for one in subprotocols if one.protocol is not None))


def choose(subprotocols: Iterable[Subprotocol], protocol: str | None) -> Subprotocol | None:
    """Return the best subprotocol of an offer with this application protocol, or None.

    Args:
        subprotocols: The offer.
        protocol: The application protocol; None: one without.
    """
    fitting = [one for one in subprotocols if one.protocol == protocol]
    return max(fitting, key=lambda one: one.draft, default=None)
