"""Application protocol negotiation: WT-Available-Protocols and WT-Protocol.

Drafts 10 to 12 write the names as tokens, later ones as strings.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..exceptions import ConfigurationError
from .dialects import Dialect
from .structured import is_string, is_token, parse_item, parse_list, serialize_string

__all__ = ["check_protocols", "format_offer", "format_protocol", "parse_offer", "parse_protocol"]


def check_protocols(protocols: Sequence[str]) -> None:
    """Check names given by the application.

    Raises:
        ConfigurationError: one is empty, not printable ASCII, or appears twice.
    """
    rule = ""
    if isinstance(protocols, str):
        rule = "must be a sequence of names"
    elif any(not protocol or not is_string(protocol) for protocol in protocols):
        rule = "names must be printable ASCII and not empty"
    elif len(set(protocols)) != len(protocols):
        rule = "a name appears twice"
    if rule:
        raise ConfigurationError(
            f"application_protocols = {protocols!r}: {rule}",
            config_key="application_protocols",
            config_value=protocols,
        )


def format_offer(protocols: Sequence[str], dialect: Dialect) -> str | None:
    """The value of WT-Available-Protocols; None: the field is not sent."""
    if not protocols or dialect.protocols == "none":
        return None
    return ", ".join(format_protocol(protocol, dialect) for protocol in protocols)


def format_protocol(protocol: str, dialect: Dialect) -> str:
    """One name as the dialect writes it."""
    if dialect.protocols == "token" and is_token(protocol):
        return protocol
    return serialize_string(protocol)


def parse_offer(text: str, dialect: Dialect) -> list[str]:
    """The names a client offers, in its order; a field that breaks a rule is ignored.

    Parameters are ignored. A member of another type makes the whole field
    count as absent.
    """
    members = parse_list(text)
    if members is None:
        return []
    kinds = {member.kind for member in members}
    if kinds != {"string"} and not (dialect.protocols == "token" and kinds == {"token"}):
        return []
    return list(dict.fromkeys(member.text for member in members))


def parse_protocol(text: str, dialect: Dialect) -> str | None:
    """The name a server chose; None when the field is malformed."""
    member = parse_item(text)
    if member is None:
        return None
    if member.kind == "string" or (member.kind == "token" and dialect.protocols == "token"):
        return member.text
    return None
