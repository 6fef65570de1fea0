"""Names of channels as subjects of NATS."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import unquote

from ..exceptions import invalid_config

__all__ = ["MAX_SUBJECT_LENGTH", "channel_of", "check_subject", "subject_of", "subjects_of"]

MAX_SUBJECT_LENGTH: Final = 3500
"""Bytes; a server accepts lines of 4096 bytes, which have other words, too (max_control_line)."""

# "/" and ":" are usual in topics and mean nothing to NATS.
_UNSAFE = re.compile(rb"[^A-Za-z0-9_/:=@+,;!~()-]")


def subject_of(channel: str) -> str:
    """Return the subject of a channel.

    The dots of a channel separate tokens, as those of a subject do. Any other byte that has a
    meaning to NATS, or is not printable ASCII, becomes ``%`` and two hexadecimal digits, and an
    empty token becomes ``%``. So different channels have different subjects.
    """
    return ".".join(_token(token) for token in channel.split("."))


def channel_of(subject: str) -> str:
    """Return the channel of a subject.

    Raises:
        UnicodeDecodeError: It is not one that :func:`subject_of` returns.
    """
    if "%" not in subject:
        return subject
    return ".".join(
        "" if token == "%" else unquote(token, errors="strict") for token in subject.split(".")
    )


def subjects_of(pattern: str) -> str:
    """Return the narrowest subject with a wildcard that contains the channels of a pattern.

    A ``*`` of a pattern matches any characters, and one of NATS a whole token. So the tokens before
    the first ``*`` are kept, and ``>`` stands for the others: the subscriber has to compare the
    channel with the pattern.
    """
    whole = pattern.partition("*")[0].split(".")[:-1]
    return ".".join([*(_token(token) for token in whole), ">"])


def check_subject(key: str, name: str, subject: str) -> str:
    """Check the length of a subject.

    Raises:
        ConfigurationError: It is too long for NATS.
    """
    if len(subject) > MAX_SUBJECT_LENGTH:
        raise invalid_config(
            key=key,
            value=name,
            reason=f"its subject has {len(subject)} bytes, and NATS carries {MAX_SUBJECT_LENGTH}",
        )
    return subject


def _token(text: str) -> str:
    if not text:
        return "%"
    return _UNSAFE.sub(lambda found: b"%%%02X" % found[0][0], text.encode()).decode("ascii")
