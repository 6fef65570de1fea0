"""Topics and patterns.

A topic is one or more levels joined by dots: ``rooms.python.chat``. A level is
made of letters, digits and ``_ - : @ / + = ~``. In a pattern, the level ``*``
stands for any one level, and a last level ``**`` for one or more levels.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from ._exceptions import InvalidTopicError

__all__ = ["MAX_DEPTH", "MAX_TOPIC_LENGTH", "check_pattern", "check_topic", "matcher"]

MAX_TOPIC_LENGTH = 255
"""Bytes of UTF-8 in a topic or pattern."""
MAX_DEPTH = 16
"""Levels in a topic or pattern."""

_CHARACTERS = r"[\w\-:@/+=~]+"
_LEVEL = re.compile(_CHARACTERS)


def check_topic(topic: object) -> str:
    """Check and return a topic.

    Raises:
        InvalidTopicError: It is malformed, or has wildcards.
    """
    text, levels = _split(topic, "topic")
    for level in levels:
        if _LEVEL.fullmatch(level) is None:
            hint = "; wildcards are for subscriptions" if level in ("*", "**") else ""
            raise _invalid("topic", text, f"the level {level!r} is not allowed{hint}")
    return text


def check_pattern(pattern: object) -> str:
    """Check and return a pattern.

    Raises:
        InvalidTopicError: It is malformed.
    """
    text, levels = _split(pattern, "pattern")
    for index, level in enumerate(levels):
        if level == "**" and index < len(levels) - 1:
            raise _invalid("pattern", text, "** is only allowed as the last level")
        if level not in ("*", "**") and _LEVEL.fullmatch(level) is None:
            raise _invalid("pattern", text, f"the level {level!r} is not allowed")
    return text


def matcher(pattern: str) -> Callable[[str], bool]:
    """Return a function that tells whether a topic matches a valid pattern."""
    if "*" not in pattern:
        return pattern.__eq__
    parts = []
    for level in pattern.split("."):
        if level == "**":
            # The rest of a valid topic matches, whatever its levels are.
            parts.append(".+")
        else:
            parts.append(r"[^.]+" if level == "*" else re.escape(level))
    expression = re.compile(r"\.".join(parts), re.DOTALL)
    return lambda topic: expression.fullmatch(topic) is not None


def _split(value: object, what: str) -> tuple[str, list[str]]:
    if not isinstance(value, str):
        raise InvalidTopicError(f"a {what} must be a string, got {type(value).__name__}")
    # Check the characters first: encoding a string that is much too long would be wasted work.
    if len(value) > MAX_TOPIC_LENGTH or len(value.encode("utf-8", "replace")) > MAX_TOPIC_LENGTH:
        raise _invalid(what, value, f"it is longer than {MAX_TOPIC_LENGTH} bytes of UTF-8")
    levels = value.split(".")
    if len(levels) > MAX_DEPTH:
        raise _invalid(what, value, f"it has more than {MAX_DEPTH} levels")
    return value, levels


def _invalid(what: str, value: str, reason: str) -> InvalidTopicError:
    return InvalidTopicError(f"{what} {value!r:.80}: {reason}", topic=value[:MAX_TOPIC_LENGTH])
