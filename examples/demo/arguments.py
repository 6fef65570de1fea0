"""Types of command line arguments, with error messages that say what is accepted."""

from argparse import ArgumentTypeError

__all__ = ["port", "size"]

UNITS = {"": 1, "B": 1, "KIB": 1 << 10, "MIB": 1 << 20, "GIB": 1 << 30}


def size(text: str) -> int:
    """Turn "256MiB" into a number of bytes.

    Raises:
        ArgumentTypeError: The string is not a positive number of bytes, KiB, MiB or GiB.
    """
    digits = text.strip().rstrip("BKMGIbkmgi")
    unit = text.strip()[len(digits) :].upper()
    if unit not in UNITS or not digits.isdecimal() or int(digits) == 0:
        raise ArgumentTypeError(
            f"size {text!r}: expected a number like 1048576, 512KiB, 256MiB or 1GiB"
        )
    return int(digits) * UNITS[unit]


def port(text: str) -> int:
    """Turn "8080" into a number.

    Raises:
        ArgumentTypeError: The string is neither a port nor 0, which means a free port.
    """
    if not text.isdecimal() or int(text) > 65535:
        raise ArgumentTypeError(f"port {text!r}: expected a number from 0 to 65535")
    return int(text)
