"""Collaboration: a whiteboard that everybody draws on at the same time.

    python examples/browser/whiteboard.py

Open the page in several windows. Strokes are remote calls: the server keeps them for pages that
come later, and publishes them to the others. Pointers are published by the pages themselves, and
dropped where they cannot be shown in time.
"""

import argparse
from dataclasses import dataclass, field, replace
from itertools import count

from _page import page, parser, run

from pywebtransport import WebTransportSession
from pywebtransport.pubsub import Broker
from pywebtransport.rpc import RpcError, RpcManager

MAX_POINTS = 40_000  # numbers on the whole board; the oldest strokes make room
MAX_PIECE = 2_000  # numbers in one call


@dataclass
class Stroke:
    """A line, or the next piece of it: x and y in turn, as parts of the board's width."""

    key: str
    color: str
    width: float
    points: list[float] = field(default_factory=list)
    number: int = 0  # of the piece, given by the server


def may(session: WebTransportSession, action: str, topic: str) -> bool:
    """Pages see everything, and publish only where their pointer is."""
    return topic == "pointers" or (action == "subscribe" and topic in ("strokes", "people"))


class Board:
    """What is on the board, and the sessions that look at it."""

    def __init__(self) -> None:
        self.broker = Broker(authorize=may)
        self.strokes: dict[str, Stroke] = {}
        self.points = 0
        self.people = 0
        self._numbers = count(1)

    def everything(self) -> list[Stroke]:
        """Remote method: all strokes so far, the oldest first."""
        return list(self.strokes.values())

    async def draw(self, piece: Stroke) -> None:
        """Remote method: begin a stroke, or go on with it."""
        if len(piece.points) > MAX_PIECE or len(piece.key) > 40 or len(piece.color) > 20:
            raise RpcError("this is too much at a time", error_code=413)
        if len(piece.points) < 2:  # or strokes that take no room would be without number
            raise RpcError("a stroke needs a point", error_code=400)
        piece.points = [round(number, 4) for number in piece.points]
        piece.number = next(self._numbers)
        known = self.strokes.get(piece.key)
        if known is None:
            self.strokes[piece.key] = replace(piece, points=list(piece.points))
        else:
            known.points += piece.points
            known.number = piece.number
        self.points += len(piece.points)
        while self.points > MAX_POINTS:
            self.points -= len(self.strokes.pop(next(iter(self.strokes))).points)
        await self.broker.publish("strokes", piece)

    async def clear(self) -> None:
        """Remote method: wipe the board."""
        self.strokes.clear()
        self.points = 0
        await self.broker.publish("strokes", None)

    async def handle(self, session: WebTransportSession) -> None:
        """Serve one page until it leaves."""
        rpc = RpcManager(session)
        for method in (self.everything, self.draw, self.clear):
            rpc.register(method)
        await self.count(+1)
        try:
            await self.broker.serve(session, rpc=rpc)
        finally:
            await self.count(-1)

    async def count(self, more: int) -> None:
        """Tell everybody how many there are."""
        self.people += more
        await self.broker.publish("people", self.people)


async def main(arguments: argparse.Namespace) -> None:
    """Serve until interrupted."""
    board = Board()
    async with board.broker, page(__file__, board.handle, arguments) as server:
        await server.serve_forever()


if __name__ == "__main__":
    run(main(parser(__doc__).parse_args()))
