"""Application protocol negotiation: WT-Available-Protocols and WT-Protocol.

Drafts 10 to 12 specify the names as tokens, later drafts as strings. Deployed implementations use
strings with all of them, so this end offers strings, and answers in the form of the offer.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..exceptions import ConfigurationError
from ..utils._text import printable
from ._constants import AVAILABLE_PROTOCOLS_FIELD, MAX_FIELD_LINE
from ._dialects import Dialect
from ._structured import is_string, parse_item, parse_list, serialize_string

__all__ = ["check_protocols", "format_offer", "format_protocol", "parse_offer", "parse_protocol"]


def check_protocols(protocols: Sequence[str]) -> None:
    """Check names given by the application.

    Raises:
        ConfigurationError: one is empty, not printable ASCII, or appears twice; or they are
            too long together.
    """
    rule = ""
    if isinstance(protocols, str) or not isinstance(protocols, Sequence):
        rule = "must be a sequence of names"
    elif not all(isinstance(name, str) and name and is_string(name) for name in protocols):
        rule = "names must be printable ASCII and not empty"
    elif len(set(protocols)) != len(protocols):
        rule = "a name appears twice"
    elif len(format_offer(protocols) or "") > MAX_FIELD_LINE - len(AVAILABLE_PROTOCOLS_FIELD):
        rule = f"the names take more than {MAX_FIELD_LINE} bytes"
    if rule:
        raise ConfigurationError(
            f"application_protocols = {printable(protocols)}: {rule}",
            config_key="application_protocols",
            config_value=protocols,
        )


def format_offer(protocols: Sequence[str]) -> str | None:
    """Return the value of WT-Available-Protocols; None if the field is not sent."""
    return ", ".join(map(serialize_string, protocols)) or None


def format_protocol(protocol: str, *, as_token: bool) -> str:
    """Return the value of WT-Protocol, in the form of the offer."""
    return protocol if as_token else serialize_string(protocol)


def parse_offer(text: str, dialect: Dialect) -> tuple[list[str], bool]:
    """Return what a client offers; a field that breaks a rule is ignored.

    Parameters are ignored. If a member has another type, the whole field counts as
    absent.

    Returns:
        The names in the client's order, and whether they are tokens.
    """
    members = parse_list(text) or []
    kinds = {member.kind for member in members}
    if kinds != {"string"} and not (dialect.reads_tokens and kinds == {"token"}):
        return [], False
    return list(dict.fromkeys(member.text for member in members)), kinds == {"token"}


def parse_protocol(text: str, dialect: Dialect) -> str | None:
    """Return the name that a server chose; None if the field is malformed."""
    member = parse_item(text)
    if member is None:
        return None
    if member.kind == "string" or (member.kind == "token" and dialect.reads_tokens):
        return member.text
    return None
