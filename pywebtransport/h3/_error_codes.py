"""Maps application error codes of streams to HTTP/3 codes and back.

An application code n becomes base + n + floor(n / 30): the codes of the form
0x1f * N + 0x21 are reserved by HTTP/3 for greasing and are skipped.
"""

from __future__ import annotations

from ..constants import MAX_APPLICATION_CODE
from ..exceptions import ConfigurationError
from ..utils._text import printable
from ._constants import STREAM_CODE_BASE, STREAM_CODE_LAST

__all__ = ["check_code", "code_from_wire", "code_to_wire"]


def check_code(code: int) -> None:
    """Check an application error code of a stream or session.

    Raises:
        ConfigurationError: it is not in 0 to 2**32 - 1.
    """
    if isinstance(code, bool) or not isinstance(code, int) or not 0 <= code <= MAX_APPLICATION_CODE:
        raise ConfigurationError(
            f"code must be 0 to {MAX_APPLICATION_CODE}, got {printable(code)}",
            config_key="code",
            config_value=code,
        )


def code_to_wire(code: int) -> int:
    """Map an application code to the code of RESET_STREAM and STOP_SENDING.

    Args:
        code: 0 to 2**32 - 1. Draft-02 specifies 8 bits, but its implementations use 32.

    Raises:
        ConfigurationError: the code is outside that range.
    """
    check_code(code)
    return STREAM_CODE_BASE + code + code // 30


def code_from_wire(wire: int | None) -> int | None:
    """Map the code of a received reset or stop to an application code.

    Args:
        wire: The code as received; None when it is not known.

    Returns:
        The application code, or None if ``wire`` has none: it is out of range or
        reserved. Never 0 for those.
    """
    if wire is None or not STREAM_CODE_BASE <= wire <= STREAM_CODE_LAST:
        return None
    if (wire - 0x21) % 0x1F == 0:
        return None
    shifted = wire - STREAM_CODE_BASE
    return shifted - shifted // 31
