"""Media streaming: live video, where a late frame is worth nothing.

    python examples/browser/video.py

A FrameSender gives each frame a unidirectional stream and a deadline. What is not delivered by then
is reset, so that a slow path or a slow page gets fewer frames instead of older ones; frames never
wait behind a lost one. The source is generated: moving interference patterns, a byte per pixel.
"""

import argparse
import asyncio
import contextlib
import math
import struct
import time
from array import array

from _page import page, parser, positive, run

from pywebtransport import WebTransportSession
from pywebtransport.exceptions import SessionClosedError
from pywebtransport.media import FrameSender

WIDTH, HEIGHT = 320, 180
# What the pixels follow: width, height, and how many frames were late so far. The sender puts the
# number of the frame and its time before it.
HEADER = struct.Struct("!HHI")
MOST_UNDER_WAY = 4


class Source:
    """A camera, so to speak."""

    def __init__(self) -> None:
        table = [128 + 127 * math.sin(2 * math.pi * turn / 256) for turn in range(256)]
        self._wave = array("B", map(int, table * 6)).tobytes()

    def frame(self, number: int) -> bytes:
        """The pixels: each row is a piece of a wave, and the waves of the rows wander."""
        rows = []
        for y in range(HEIGHT):
            bend = 90 * math.sin(y / 31 + number / 17) + 60 * math.sin(y / 13 - number / 29)
            start = int(bend + 2 * number) % 256
            rows.append(self._wave[start : start + 4 * WIDTH : 4][:WIDTH])
        return b"".join(rows)


class Broadcast:
    """Sends what the source shows to all pages that watch."""

    def __init__(self, rate: float) -> None:
        self.viewers: set[FrameSender] = set()
        self.interval = 1 / rate

    async def handle(self, session: WebTransportSession) -> None:
        """Let one page watch until it leaves."""
        deadline = 3 * self.interval
        async with FrameSender(session, deadline=deadline, max_in_flight=MOST_UNDER_WAY) as sender:
            self.viewers.add(sender)
            await session.wait_closed()
            self.viewers.discard(sender)
        sent, late = sender.stats.sent, dropped(sender)
        print(f"a viewer has left: {sent} frames in time, {late} dropped", flush=True)

    async def go_on(self) -> None:
        """Show one frame after the other, as long as the server runs."""
        source, loop, number = Source(), asyncio.get_running_loop(), 0
        while True:
            due = loop.time() + self.interval
            number += 1
            if self.viewers:
                captured, pixels = time.time(), source.frame(number)
                for viewer in self.viewers:
                    header = HEADER.pack(WIDTH, HEIGHT, dropped(viewer))
                    with contextlib.suppress(SessionClosedError):  # it is about to leave
                        viewer.send(header + pixels, timestamp=captured)
            await asyncio.sleep(due - loop.time())


def dropped(viewer: FrameSender) -> int:
    """How many frames have not reached a viewer in time."""
    return viewer.stats.dropped + viewer.stats.cut + viewer.stats.refused


async def main(arguments: argparse.Namespace) -> None:
    """Serve until interrupted."""
    broadcast = Broadcast(arguments.rate)
    async with page(__file__, broadcast.handle, arguments):
        await broadcast.go_on()


if __name__ == "__main__":
    options = parser(__doc__)
    options.add_argument("--rate", type=positive, default=25, help="frames in a second")
    run(main(options.parse_args()))
