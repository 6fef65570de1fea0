"""Media streaming: live video, where a late frame is worth nothing.

    python examples/browser/video.py

Every frame has a unidirectional stream of its own and a deadline. What is not delivered by then is
reset, so that a slow path or a slow page gets fewer frames instead of older ones; frames never wait
behind a lost one. The source is generated: moving interference patterns, one byte for each pixel.
"""

import argparse
import asyncio
import builtins
import math
import struct
import time
from array import array
from dataclasses import dataclass

from _page import page, parser, positive, run

from pywebtransport import WebTransportError, WebTransportSession

WIDTH, HEIGHT = 320, 180
# Number, capture time (seconds since 1970), width, height, and how many were late so far.
HEADER = struct.Struct("!IdHHI")
LATE = 1  # the code of the reset
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


@dataclass(eq=False)
class Viewer:
    """A page that watches, and what became of its frames."""

    session: WebTransportSession
    under_way: int = 0
    sent: int = 0
    late: int = 0

    async def show(self, number: int, captured: float, pixels: bytes, deadline: float) -> None:
        """Send one frame by its deadline (on the loop's clock), or drop it."""
        if self.under_way >= MOST_UNDER_WAY:  # the path is slower than the video
            self.late += 1
            return
        self.under_way += 1
        try:
            async with asyncio.timeout_at(deadline):
                # The newest frame goes first.
                stream = await self.session.create_unidirectional_stream(send_order=number)
                try:
                    header = HEADER.pack(number, captured, WIDTH, HEIGHT, self.late)
                    await stream.write_all(header + pixels)
                    await stream.wait_acknowledged()
                except BaseException:
                    stream.reset(LATE)
                    raise
            self.sent += 1
        except (
            builtins.TimeoutError,
            WebTransportError,
        ):  # late, or stopped by the page
            self.late += 1
        finally:
            self.under_way -= 1


class Broadcast:
    """Sends what the source shows to all viewers."""

    def __init__(self, rate: float) -> None:
        self.viewers: set[Viewer] = set()
        self.interval = 1 / rate

    async def handle(self, session: WebTransportSession) -> None:
        """Let one page watch until it leaves."""
        viewer = Viewer(session)
        self.viewers.add(viewer)
        await session.wait_closed()
        self.viewers.discard(viewer)
        print(f"a viewer has left: {viewer.sent} frames in time, {viewer.late} dropped", flush=True)

    async def go_on(self) -> None:
        """Show one frame after the other, as long as the server runs."""
        source, loop, number = Source(), asyncio.get_running_loop(), 0
        async with asyncio.TaskGroup() as sending:
            while True:
                due = loop.time() + self.interval
                number += 1
                if self.viewers:
                    captured, pixels = time.time(), source.frame(number)
                    for viewer in self.viewers:
                        deadline = due + 2 * self.interval
                        sending.create_task(viewer.show(number, captured, pixels, deadline))
                await asyncio.sleep(due - loop.time())


async def main(arguments: argparse.Namespace) -> None:
    """Serve until interrupted."""
    broadcast = Broadcast(arguments.rate)
    async with page(__file__, broadcast.handle, arguments):
        await broadcast.go_on()


if __name__ == "__main__":
    options = parser(__doc__)
    options.add_argument("--rate", type=positive, default=25, help="frames in a second")
    run(main(options.parse_args()))
