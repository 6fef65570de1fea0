"""Interactive entertainment: a small arena game. Who collects the most coins?

    python examples/browser/game.py

The server moves everybody, 30 times a second, and sends the picture as a datagram: a lost one does
not matter, because the next one is on its way. Who plays must not get lost: it goes over a stream.
"""

import argparse
import asyncio
import contextlib
import math
import random
from dataclasses import dataclass, field
from itertools import count

from _page import page, parser, run

from pywebtransport import (
    StructuredDatagramTransport,
    StructuredStream,
    WebTransportError,
    WebTransportSession,
)
from pywebtransport.serializer import JSONSerializer

TICK = 1 / 30
SPEED, REACH, COINS, MOST_PLAYERS = 0.45, 0.03, 5, 20


@dataclass
class Players:
    """Server to page, over the stream: who plays, by number, and who you are."""

    you: int
    names: dict[int, str]


@dataclass
class Steer:
    """Page to server, as a datagram: where to go. An older one is ignored."""

    number: int
    x: float
    y: float


@dataclass
class Picture:
    """Server to page, as a datagram: number, x, y and coins of each player, and the coins."""

    tick: int
    players: list[tuple[int, float, float, int]]
    coins: list[tuple[float, float]]


Datagrams = StructuredDatagramTransport[Steer | Picture]
TYPES: dict[int, type[Steer | Picture]] = {1: Steer, 2: Picture}


@dataclass(eq=False)
class Player:
    """Someone in the arena."""

    number: int
    name: str
    stream: StructuredStream[Players]
    datagrams: Datagrams
    x: float = field(default_factory=random.random)
    y: float = field(default_factory=random.random)
    course: Steer = field(default_factory=lambda: Steer(0, 0.0, 0.0))
    coins: int = 0

    async def listen(self) -> None:
        """Follow the datagrams of the page until the session ends."""
        async for message in self.datagrams:
            if isinstance(message, Steer) and message.number > self.course.number:
                length = max(1.0, math.hypot(message.x, message.y))
                self.course = Steer(message.number, message.x / length, message.y / length)


class Arena:
    """The players and the coins."""

    def __init__(self) -> None:
        self.players: dict[int, Player] = {}
        self.coins = [(random.random(), random.random()) for _ in range(COINS)]
        self.ticks = 0
        self._numbers = count(1)

    async def handle(self, session: WebTransportSession) -> None:
        """Let one page play until it leaves."""
        if len(self.players) >= MOST_PLAYERS:
            await session.close(code=1, reason="the arena is full")
            return
        stream = await session.create_unidirectional_stream()
        player = Player(
            next(self._numbers),
            session.query_params.get("name", "somebody")[:20],
            StructuredStream(stream, JSONSerializer(), {1: Players}),
            Datagrams(session.datagrams, JSONSerializer(), TYPES),
        )
        self.players[player.number] = player
        await self.tell()
        try:
            await player.listen()
        finally:
            del self.players[player.number]
            await self.tell()

    async def tell(self) -> None:
        """Tell everybody who plays."""
        names = {player.number: player.name for player in self.players.values()}
        for player in list(self.players.values()):
            with contextlib.suppress(WebTransportError):  # has just left
                await player.stream.send_obj(Players(player.number, names))

    async def go_on(self) -> None:
        """Move everybody, and send the picture, as long as the server runs."""
        while picture := self.step():
            await asyncio.sleep(TICK)
            for player in list(self.players.values()):
                with contextlib.suppress(WebTransportError):  # has just left
                    # The age limit drops what a slow path does not take in time.
                    await player.datagrams.send_obj(picture, ttl=2 * TICK)

    def step(self) -> Picture:
        """Move everybody by one tick."""
        self.ticks += 1
        for player in self.players.values():
            player.x = min(1.0, max(0.0, player.x + player.course.x * SPEED * TICK))
            player.y = min(1.0, max(0.0, player.y + player.course.y * SPEED * TICK))
            for index, (x, y) in enumerate(self.coins):
                if math.hypot(player.x - x, player.y - y) < REACH:
                    player.coins += 1
                    self.coins[index] = (random.random(), random.random())
        players = [(p.number, p.x, p.y, p.coins) for p in self.players.values()]
        return Picture(self.ticks, players, self.coins)


async def main(arguments: argparse.Namespace) -> None:
    """Serve until interrupted."""
    arena = Arena()
    async with page(__file__, arena.handle, arguments):
        await arena.go_on()


if __name__ == "__main__":
    run(main(parser(__doc__).parse_args()))
