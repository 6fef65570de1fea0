"""What all scopes need to check the messages of an application."""

from __future__ import annotations

from typing import Any, Final

from ..utils._text import printable
from ._errors import AsgiMessageError
from ._types import Message

__all__ = ["SERVICE_RESTART", "required", "shown"]

SERVICE_RESTART: Final = 1012
"""The code that WebSockets are closed with when the server stops."""


def required(message: Message, key: str) -> Any:
    """A value of a message.

    Raises:
        AsgiMessageError: The message has none, or is no dictionary.
    """
    try:
        return message[key]
    except (KeyError, TypeError):
        raise AsgiMessageError(f"the message {shown(message)} has no '{key}'") from None


def shown(value: object) -> str:
    """A value of the application between quotes, for an error."""
    return f"'{printable(value)}'"
