"""Text from outside in logs and error messages."""

from __future__ import annotations

__all__ = ["printable", "printable_line"]

_NAMED = {"\n": "\\n", "\r": "\\r", "\t": "\\t", "\\": "\\\\", '"': '\\"', "'": "\\'"}


def printable(value: object, limit: int = 200) -> str:
    r"""One line of text for a log record or a message, whatever a peer or a caller put in.

    Control characters, line ends, bidirectional overrides and lone surrogates are
    written as escapes, so that no input can forge a record or drive a terminal;
    quotes and backslashes are escaped, so that quoted text ends where it should.

    Args:
        value: Anything; what is no text is converted by ``str``, and bytes are read as
            UTF-8 with escapes.
        limit: Characters of the value that are kept; the rest is counted instead.

    Returns:
        The text, without quotes around it. It never raises: a value whose conversion
        fails is named by its type.
    """
    try:
        if isinstance(value, bytes | bytearray | memoryview):
            # Four bytes at most make one character.
            whole = bytes(value[: 4 * limit + 4]).decode("utf-8", "backslashreplace")
            length = max(len(whole), len(value))
        else:
            whole = value if isinstance(value, str) else str(value)
            length = len(whole)
    except Exception:  # somebody else's __str__
        return f"<{type(value).__name__}>"
    kept = whole[:limit]
    if not kept.isprintable() or not _NAMED.keys().isdisjoint(kept):
        kept = "".join(map(_escaped, kept))
    return kept if length <= limit else f"{kept}... ({length} characters)"


def printable_line(line: str) -> str:
    """A line that this package wrote, with what is no printable character as an escape.

    Unlike :func:`printable` it leaves quotes and backslashes as they are.
    """
    if line.isprintable():
        return line
    return "".join(item if item.isprintable() else _escaped(item) for item in line)


def _escaped(character: str) -> str:
    if character in _NAMED:
        return _NAMED[character]
    if character.isprintable():
        return character
    number = ord(character)
    if number < 0x100:
        return f"\\x{number:02x}"
    return f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"
