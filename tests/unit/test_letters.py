"""Packets that wait in a socket without an engine keep the address they were sent to."""

from __future__ import annotations

import socket
import struct

import pytest

from pywebtransport._loop.letters import receive_letters


@pytest.mark.parametrize(
    ("family", "to", "expected"),
    [
        (socket.AF_INET, "127.0.0.2", "127.0.0.2"),
        (socket.AF_INET6, "127.0.0.2", "::ffff:127.0.0.2"),
        (socket.AF_INET6, "::1", "::1"),
    ],
)
def test_a_socket_on_all_addresses_tells_which_one_was_meant(
    family: socket.AddressFamily, to: str, expected: str
) -> None:
    """Else the next packet, which a worker receives, would belong to another path."""
    everywhere = "::" if family == socket.AF_INET6 else "0.0.0.0"
    sender_family = socket.AF_INET6 if ":" in to else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as waiting:
        if family == socket.AF_INET6:
            waiting.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        waiting.bind((everywhere, 0))
        port = waiting.getsockname()[1]
        with socket.socket(sender_family, socket.SOCK_DGRAM) as sender:
            for payload in (b"first", b"second"):
                sender.sendto(payload, (to, port))
            letters = list(receive_letters(waiting))
    assert [letter.payload for letter in letters] == [b"first", b"second"]
    for letter in letters:
        number, found_port = struct.unpack_from("=H", letter.local)[0], letter.local[2:4]
        assert number == family
        assert int.from_bytes(found_port) == port
        address = letter.local[8:24] if family == socket.AF_INET6 else letter.local[4:8]
        assert address == socket.inet_pton(family, expected)
