"""permessage-deflate for WebSockets (RFC 7692), with a limit on what a message expands to."""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from typing import Any, Final

from wsproto.extensions import Extension
from wsproto.frame_protocol import CloseReason, Opcode, RsvBits

__all__ = ["Deflate"]

_NAME: Final = "permessage-deflate"
_OUR_BITS: Final = 12
"""A window of 4 KiB: compresses messages nearly as well, and takes an eighth of the memory."""
_MAX_BITS: Final = 15
_MIN_BITS: Final = 9  # zlib has no raw window of 256 bytes
_MEMORY_LEVEL: Final = 5
# Shorter messages hardly shrink; longer ones would keep the event loop from other work.
_COMPRESSED: Final = range(64, (1 << 20) + 1)
_TAIL: Final = b"\x00\x00\xff\xff"
_AFTER_FINAL: Final = b"\x00" + _TAIL
"""What may follow a final block in its message (RFC 7692 section 7.2.3.4): an empty block."""
_UNCOMPRESSED: Final = RsvBits(False, False, False)
_COMPRESSED_BIT: Final = RsvBits(True, False, False)


class Deflate(Extension):
    """The server's end of the extension.

    Args:
        limit: Bytes that a message may expand to.
        server_bits: Size of the window for what this end sends, as a power of two.
        client_bits: The same for what the client sends.
        server_resets: Each message of this end is compressed alone.
        client_resets: Each message of the client is compressed alone.
    """

    name = _NAME

    def __init__(
        self,
        limit: int,
        *,
        server_bits: int,
        client_bits: int,
        server_resets: bool,
        client_resets: bool,
    ) -> None:
        self._limit = self._left = limit
        self._server_bits = server_bits
        self._client_bits = client_bits
        self._server_resets = server_resets
        self._client_resets = client_resets
        self._compressor: Any = None
        self._decompressor: Any = None
        self._expands = False  # the current message is compressed
        self._is_data = False  # the current frame is part of a message

    @classmethod
    def negotiate(cls, offers: Iterable[bytes], limit: int) -> tuple[Deflate, bytes] | None:
        """Accept the first usable offer of ``sec-websocket-extensions``.

        Args:
            offers: The values of the field.
            limit: Bytes that a message may expand to.

        Returns:
            The extension, and the value for the answer; None if there is no usable offer.
        """
        for offer in b",".join(offers).decode("latin-1").split(","):
            name, *parameters = (part.strip() for part in offer.split(";"))
            if name.lower() == _NAME:
                accepted = cls._accept(parameters, limit)
                if accepted is not None:
                    return accepted
        return None

    @classmethod
    def _accept(cls, parameters: list[str], limit: int) -> tuple[Deflate, bytes] | None:
        given: dict[str, str | None] = {}
        for parameter in parameters:
            name, equals, value = parameter.partition("=")
            name = name.strip().lower()
            if name in given:
                return None
            given[name] = value.strip().strip('"') if equals else None
        server_resets = "server_no_context_takeover" in given
        client_resets = "client_no_context_takeover" in given
        flags = [given.pop(f"{end}_no_context_takeover", None) for end in ("server", "client")]
        may_limit = "client_max_window_bits" in given
        client = given.pop("client_max_window_bits", None)
        has_limit = "server_max_window_bits" in given
        server = given.pop("server_max_window_bits", None)
        if given or any(flag is not None for flag in flags):
            return None
        server_bits, client_bits = _OUR_BITS, _MAX_BITS
        if has_limit:
            limited = _bits(server)
            if limited is None:
                return None
            server_bits = min(limited, _OUR_BITS)
        if may_limit:
            limited = _MAX_BITS if client is None else _bits(client)
            if limited is None:
                return None
            client_bits = min(limited, _OUR_BITS)
        answer = f"{_NAME}; server_max_window_bits={server_bits}"
        if may_limit:
            answer += f"; client_max_window_bits={client_bits}"
        if server_resets:
            answer += "; server_no_context_takeover"
        if client_resets:
            answer += "; client_no_context_takeover"
        extension = cls(
            limit,
            server_bits=server_bits,
            client_bits=client_bits,
            server_resets=server_resets,
            client_resets=client_resets,
        )
        return extension, answer.encode()

    # -------------------------------------------------- called by wsproto, frame by frame

    def enabled(self) -> bool:
        """It was negotiated."""
        return True

    def offer(self) -> bool | str:
        """A server offers nothing."""
        return False

    def frame_inbound_header(
        self, proto: Any, opcode: Opcode, rsv: RsvBits, payload_length: int
    ) -> CloseReason | RsvBits:
        """A frame begins."""
        self._is_data = not opcode.iscontrol()
        if not self._is_data or opcode is Opcode.CONTINUATION:
            return CloseReason.PROTOCOL_ERROR if rsv.rsv1 else _UNCOMPRESSED
        self._expands = rsv.rsv1
        self._left = self._limit
        return _COMPRESSED_BIT

    def frame_inbound_payload_data(self, proto: Any, data: bytes) -> bytes | CloseReason:
        """A piece of a frame came."""
        if not (self._expands and self._is_data):
            return data
        return self._expand(data)

    def frame_inbound_complete(self, proto: Any, fin: bool) -> bytes | CloseReason | None:
        """A frame ends."""
        if not (fin and self._expands and self._is_data):
            return None
        data = self._expand(_TAIL)
        self._expands = False
        if self._client_resets or (self._decompressor is not None and self._decompressor.eof):
            self._decompressor = None
        return data

    def frame_outbound(
        self, proto: Any, opcode: Opcode, rsv: RsvBits, data: bytes, fin: bool
    ) -> tuple[RsvBits, bytes]:
        """A frame is sent; each of our messages is one frame."""
        if opcode.iscontrol() or len(data) not in _COMPRESSED:
            return rsv, data
        compressor = self._compressor
        if compressor is None:
            compressor = self._compressor = zlib.compressobj(
                wbits=-self._server_bits, memLevel=_MEMORY_LEVEL
            )
        shorter = compressor.compress(data) + compressor.flush(zlib.Z_SYNC_FLUSH)
        if self._server_resets:
            self._compressor = None
        return RsvBits(True, rsv.rsv2, rsv.rsv3), shorter.removesuffix(_TAIL)

    def _expand(self, data: bytes) -> bytes | CloseReason:
        decompressor = self._decompressor
        if decompressor is None:
            decompressor = self._decompressor = zlib.decompressobj(-self._client_bits)
        try:
            expanded: bytes = decompressor.decompress(data, self._left + 1)
        except zlib.error:
            return CloseReason.INVALID_FRAME_PAYLOAD_DATA
        # Nothing is expanded after a final block: zlib would only collect what comes.
        if decompressor.eof and not _AFTER_FINAL.startswith(decompressor.unused_data):
            return CloseReason.INVALID_FRAME_PAYLOAD_DATA
        self._left -= len(expanded)
        return CloseReason.MESSAGE_TOO_BIG if self._left < 0 else expanded


def _bits(value: str | None) -> int | None:
    """The number of a window size; None: it is none, or not usable."""
    if value is None or not value.isascii() or not value.isdecimal() or len(value) > 2:
        return None
    bits = int(value)
    return bits if _MIN_BITS <= bits <= _MAX_BITS and not value.startswith("0") else None
