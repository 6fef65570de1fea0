"""QPACK (RFC 9204): field sections to bytes and back, and the two QPACK streams.

``pylsqpack`` does the coding. This module protects it: field sections are scanned
first, so that a truncated or oversized one is refused before anything is decoded,
and every failure becomes one of the three QPACK error codes.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from functools import lru_cache

import pylsqpack

from ._constants import MAX_FIELD_LINES, H3Error
from ._errors import H3ConnectionError

__all__ = [
    "FieldSectionTooLarge",
    "Fields",
    "Qpack",
    "count_field_lines",
    "encode_static",
    "measure_section",
    "section_size",
]

Fields = Sequence[tuple[bytes, bytes]]

_LINE_OVERHEAD = 32  # RFC 9114 section 4.2.2
# A line of up to this many bytes never fails because of its length. pylsqpack accepts 64 KiB,
# but it reserves room before it knows the length of a string.
_SURE = 58_000

# Shared by all connections without a dynamic table; they keep no state between field sections.
_ENCODER = pylsqpack.Encoder()
_DECODER = pylsqpack.Decoder(0, 0)
# Clients of one kind send the same requests, and servers the same answers: small field
# sections are decoded once, and the result (a tuple) is shared.
_SHARED_SIZE = 640  # most headers of browsers are smaller
_SHARED_COUNT = 256


class FieldSectionTooLarge(Exception):
    """A field section exceeds SETTINGS_MAX_FIELD_SECTION_SIZE; the connection stays open."""


def section_size(fields: Sequence[tuple[bytes, bytes]]) -> int:
    """Return the size of a field section as RFC 9114 section 4.2.2 counts it."""
    return sum(len(name) + len(value) + _LINE_OVERHEAD for name, value in fields)


def encode_static(fields: list[tuple[bytes, bytes]]) -> bytes:
    """Encode a field section with the static table only; it suits every connection."""
    section: bytes = _ENCODER.encode(0, fields)[1]
    return section


class Qpack:
    """Encoder and decoder of one connection.

    Args:
        max_table_capacity: Bytes of the dynamic tables, ours and at most that of the peer's.
        blocked_streams: Requests that may wait for the dynamic table.
        max_field_section_size: Largest decoded field section in bytes.
    """

    __slots__ = (
        "_blocked",
        "_capacity",
        "_decoder",
        "_encoder",
        "_large",
        "_max_size",
        "send_decoder",
        "send_encoder",
    )

    def __init__(
        self, max_table_capacity: int, blocked_streams: int, max_field_section_size: int
    ) -> None:
        self._capacity = max_table_capacity
        self._blocked = blocked_streams
        self._max_size = max_field_section_size
        # Streams whose field section has a line that may be too long for pylsqpack, while it
        # is decoded or blocked.
        self._large: set[int] | None = None  # created when needed: an empty one takes 216 bytes
        # Without a dynamic table a field section depends on nothing but itself: all connections
        # share one coder each way (5 KB less per connection). A connection gets its own coder if
        # its peer still sends instructions.
        self._decoder: pylsqpack.Decoder | None = None
        self._encoder: pylsqpack.Encoder | None = None
        if max_table_capacity:
            self._decoder = pylsqpack.Decoder(max_table_capacity, blocked_streams)
            self._encoder = pylsqpack.Encoder()
        self.send_encoder: Callable[[bytes], object] | None = None
        """Writes to our encoder stream."""
        self.send_decoder: Callable[[bytes], object] | None = None
        """Writes to our decoder stream."""

    @property
    def is_static(self) -> bool:
        """There is no dynamic table: sections are encoded as by :func:`encode_static`."""
        return not self._capacity

    def apply_peer_settings(self, capacity: int, blocked_streams: int) -> None:
        """Start using the peer's dynamic table, as far as both ends allow it."""
        capacity = min(capacity, self._capacity)
        if capacity and self._encoder is not None:
            self._emit_encoder(self._encoder.apply_settings(capacity, min(blocked_streams, 65535)))

    def encode(self, stream_id: int, fields: list[tuple[bytes, bytes]]) -> bytes:
        """Encode a field section for a stream."""
        if not self._capacity:
            return encode_static(fields)
        instructions, section = self._own_encoder().encode(stream_id, fields)
        self._emit_encoder(instructions)
        return section

    def decode(self, stream_id: int, section: bytes) -> Fields | None:
        """Decode a field section.

        Returns:
            The field lines, or None if it must wait for the encoder stream;
            :meth:`resume` continues once :meth:`feed_encoder` returns the stream.

        Raises:
            FieldSectionTooLarge: it is larger than we accept.
            H3ConnectionError: QPACK_DECOMPRESSION_FAILED.
        """
        if not self._capacity and len(section) <= _SHARED_SIZE:
            decoded, size = _decode_shared(section)
            if size > self._max_size:
                raise FieldSectionTooLarge
            return decoded
        lines, least, longest = measure_section(section, MAX_FIELD_LINES, self._max_size)
        if lines > MAX_FIELD_LINES or least > self._max_size:
            self.cancel(stream_id)
            raise FieldSectionTooLarge
        if not lines and section[0] == 0:  # valid, but pylsqpack refuses it
            return []
        if longest + self._capacity > _SURE:
            self._large = (self._large or set()) | {stream_id}
        try:
            control, fields = (self._decoder or _DECODER).feed_header(stream_id, section)
        except pylsqpack.StreamBlocked:
            return None
        except (pylsqpack.DecompressionFailed, ValueError):
            raise self._undecodable(stream_id) from None
        self._forget(stream_id)
        return self._decoded(control, fields)

    def resume(self, stream_id: int) -> Fields | None:
        """Continue with a field section that had to wait; as :meth:`decode`."""
        try:
            control, fields = (self._decoder or _DECODER).resume_header(stream_id)
        except pylsqpack.StreamBlocked:
            return None
        except (pylsqpack.DecompressionFailed, ValueError):
            raise self._undecodable(stream_id) from None
        self._forget(stream_id)
        return self._decoded(control, fields)

    def _undecodable(self, stream_id: int) -> Exception:
        """Return the error when pylsqpack fails. It accepts 64 KiB per field line and gives no
        reason: if a line may be larger, that is assumed to be the reason."""
        if stream_id not in (self._large or ()):
            return _failed()
        self.cancel(stream_id)
        return FieldSectionTooLarge()

    def cancel(self, stream_id: int) -> None:
        """Tell the peer that a field section will not be read."""
        self._forget(stream_id)
        if self._capacity and self.send_decoder is not None and self._decoder is not None:
            self.send_decoder(self._decoder.cancel_stream(stream_id))

    def feed_encoder(self, data: bytes) -> list[int]:
        """Handle bytes of the peer's encoder stream.

        Returns:
            Streams whose field section can continue.

        Raises:
            H3ConnectionError: QPACK_ENCODER_STREAM_ERROR.
        """
        try:
            if self._decoder is None:
                self._decoder = pylsqpack.Decoder(self._capacity, self._blocked)
            return self._decoder.feed_encoder(data)
        except pylsqpack.EncoderStreamError:
            raise H3ConnectionError(
                H3Error.QPACK_ENCODER_STREAM_ERROR, "bad instruction on the QPACK encoder stream"
            ) from None

    def feed_decoder(self, data: bytes) -> None:
        """Handle bytes of the peer's decoder stream.

        Raises:
            H3ConnectionError: QPACK_DECODER_STREAM_ERROR.
        """
        try:
            self._own_encoder().feed_decoder(data)
        except pylsqpack.DecoderStreamError:
            raise H3ConnectionError(
                H3Error.QPACK_DECODER_STREAM_ERROR, "bad instruction on the QPACK decoder stream"
            ) from None

    def _forget(self, stream_id: int) -> None:
        if self._large is not None:
            self._large.discard(stream_id)

    def _decoded(self, control: bytes, fields: Fields) -> Fields:
        if control and self.send_decoder is not None:
            self.send_decoder(control)
        if section_size(fields) > self._max_size:
            raise FieldSectionTooLarge
        return fields

    def _own_encoder(self) -> pylsqpack.Encoder:
        if self._encoder is None:
            self._encoder = pylsqpack.Encoder()
        return self._encoder

    def _emit_encoder(self, instructions: bytes) -> None:
        if instructions and self.send_encoder is not None:
            self.send_encoder(instructions)


@lru_cache(_SHARED_COUNT)
def _decode_shared(section: bytes) -> tuple[tuple[tuple[bytes, bytes], ...], int]:
    """Return field lines and their size, for sections of at most ``_SHARED_SIZE`` bytes."""
    lines = count_field_lines(section)
    if not lines and section[0] == 0:
        return (), 0
    if lines > MAX_FIELD_LINES:
        raise FieldSectionTooLarge
    try:
        fields = tuple(_DECODER.feed_header(0, section)[1])
    except (pylsqpack.DecompressionFailed, ValueError):
        raise _failed() from None
    return fields, section_size(fields)


def _failed() -> H3ConnectionError:
    return H3ConnectionError(H3Error.QPACK_DECOMPRESSION_FAILED, "field section cannot be decoded")


def count_field_lines(section: bytes) -> int:
    """Return how many lines an encoded field section has; as :func:`measure_section`."""
    return measure_section(section)[0]


def measure_section(
    section: bytes, max_lines: int = sys.maxsize, max_size: int = sys.maxsize
) -> tuple[int, int, int]:
    """Scan an encoded field section (RFC 9204 section 4.5) without decoding it.

    Args:
        section: The bytes.
        max_lines: Stop if there are more lines.
        max_size: Stop if there are more bytes.

    Returns:
        The number of lines; a lower bound of its decoded size, counted as in RFC 9114
        section 4.2.2; and an upper bound of the size of name and value of the longest line,
        not counting what is in a table.

    Raises:
        H3ConnectionError: it is truncated, or an integer is too large.
    """
    pos = _skip_integer(section, 0, 8)
    pos = _skip_integer(section, pos, 7)
    end = len(section)
    lines = least = longest = 0
    while pos < end and lines <= max_lines and least <= max_size:
        first = section[pos]
        low = high = 0
        if first & 0x80:  # indexed; most of these have one byte
            pos = pos + 1 if first & 0x3F != 0x3F else _skip_integer(section, pos, 6)
        elif first & 0x40:  # literal with name reference
            pos = pos + 1 if first & 0x0F != 0x0F else _skip_integer(section, pos, 4)
            low, high, pos = _measure_string(section, pos, 7)
        elif first & 0x20:  # literal with literal name
            name_low, name_high, pos = _measure_string(section, pos, 3)
            low, high, pos = _measure_string(section, pos, 7)
            low += name_low
            high += name_high
        elif first & 0x10:  # indexed, post-base
            pos = _skip_integer(section, pos, 4)
        else:  # literal with post-base name reference
            low, high, pos = _measure_string(section, _skip_integer(section, pos, 3), 7)
        lines += 1
        least += _LINE_OVERHEAD + low
        if high > longest:
            longest = high
    return lines, least, longest


def _read_integer(data: bytes, pos: int, prefix: int) -> tuple[int, int]:
    if pos >= len(data):
        raise _failed()
    mask = (1 << prefix) - 1
    value = data[pos] & mask
    pos += 1
    if value < mask:
        return value, pos
    shift = 0
    while pos < len(data) and shift < 63:
        byte = data[pos]
        pos += 1
        value += (byte & 0x7F) << shift
        if byte < 0x80:
            return value, pos
        shift += 7
    raise _failed()


def _skip_integer(data: bytes, pos: int, prefix: int) -> int:
    return _read_integer(data, pos, prefix)[1]


def _measure_string(data: bytes, pos: int, prefix: int) -> tuple[int, int, int]:
    """Measure a string literal: its minimum and maximum size, and where it ends."""
    if pos >= len(data):
        raise _failed()
    first = data[pos]
    is_huffman = first & (1 << prefix)
    length = first & ((1 << prefix) - 1)
    if length < (1 << prefix) - 1:
        pos += 1
    else:
        length, pos = _read_integer(data, pos, prefix)
    end = pos + length
    if end > len(data):
        raise _failed()
    if is_huffman:  # a symbol takes 5 to 30 bits
        return (8 * length - 7) // 30 if length else 0, 8 * length // 5, end
    return length, length, end
