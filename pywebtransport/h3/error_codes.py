"""Application error codes of streams and their place among HTTP/3 codes.

An application code n becomes base + n + floor(n / 30): the codes of the form
0x1f * N + 0x21 are reserved by HTTP/3 for greasing and are skipped.
"""

from __future__ import annotations

from ..exceptions import ConfigurationError
from .constants import MAX_APPLICATION_CODE, STREAM_CODE_BASE, STREAM_CODE_LAST
from .dialects import Dialect

__all__ = ["check_code", "code_from_wire", "code_to_wire"]


def check_code(code: int) -> None:
    """Check an application error code of a stream or session.

    Raises:
        ConfigurationError: it is not in 0 to 2**32 - 1.
    """
    if not 0 <= code <= MAX_APPLICATION_CODE:
        raise ConfigurationError(
            f"code = {code!r} is not accepted: 0 to {MAX_APPLICATION_CODE}",
            config_key="code",
            config_value=code,
        )


def code_to_wire(code: int, dialect: Dialect | None = None) -> int:
    """Map an application code to the code of RESET_STREAM and STOP_SENDING.

    Args:
        code: 0 to 2**32 - 1. Draft-02 has 8-bit codes: larger ones are clamped
            to 255, as browsers clamp what does not fit.
        dialect: What the session speaks; None for the newest.

    Raises:
        ConfigurationError: the code is outside that range.
    """
    check_code(code)
    if dialect is not None and code > dialect.max_stream_code:
        code = dialect.max_stream_code
    return STREAM_CODE_BASE + code + code // 30


def code_from_wire(wire: int | None, dialect: Dialect | None = None) -> int | None:
    """Map the code of a received reset or stop to an application code.

    Args:
        wire: The code as received; None when it is not known.
        dialect: What the session speaks. Peers of every generation are read
            alike: those that speak draft-02 send 32-bit codes too.

    Returns:
        The application code, or None when ``wire`` stands for none: outside
        the range or one of the reserved codes in between. Never 0 for those.
    """
    if wire is None or not STREAM_CODE_BASE <= wire <= STREAM_CODE_LAST:
        return None
    if (wire - 0x21) % 0x1F == 0:
        return None
    shifted = wire - STREAM_CODE_BASE
    return shifted - shifted // 31
