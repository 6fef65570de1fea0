"""Distributed training: processes compute gradients, a server adds them up.

python examples/training.py [--processes 4] [--steps 50]

Each process has a part of the data, and sends its gradient on a stream in each step. When all
have arrived, everyone gets the sum on the other half of the stream. The result is the same, bit
for bit, as that of one process, because the sum has a fixed order.
"""

import argparse
import asyncio
import multiprocessing
import sys

import numpy as np
from numpy.typing import NDArray

from pywebtransport import (
    WebTransportError,
    WebTransportSession,
    WebTransportStream,
    connect,
    serve,
)

Array = NDArray[np.float64]
FEATURES = 2_000
ROWS = 500  # of each part
RATE = 0.5


def part(number: int) -> tuple[Array, Array]:
    """Rows and labels that belong to one process."""
    rng = np.random.default_rng(number)
    truth = np.random.default_rng(12345).normal(size=FEATURES)
    rows = rng.normal(size=(ROWS, FEATURES))
    return rows, (rows @ truth > 0).astype(float)


def gradient(weights: Array, rows: Array, labels: Array) -> Array:
    """Of the logistic loss of one part."""
    return rows.T @ (1 / (1 + np.exp(-(rows @ weights))) - labels) / ROWS


def accuracy(weights: Array, parts: int) -> float:
    """Share of the rows of all parts that are classified correctly."""
    return float(
        np.mean(
            [np.mean((rows @ weights > 0) == labels) for rows, labels in map(part, range(parts))]
        )
    )


def train_alone(parts: int, steps: int) -> Array:
    """What one process computes."""
    data = [part(number) for number in range(parts)]
    weights = np.zeros(FEATURES)
    for _ in range(steps):
        total = np.zeros(FEATURES)
        for rows, labels in data:
            total += gradient(weights, rows, labels)
        weights -= RATE * total / parts
    return weights


class Sum:
    """Adds up the gradients of each step, in the order of the parts."""

    def __init__(self, parts: int) -> None:
        self._gradients: list[Array] = [np.zeros(0)] * parts
        self._result = np.zeros(FEATURES)
        self._barrier = asyncio.Barrier(parts)

    async def of_all(self, number: int, own: Array) -> Array:
        """The sum, once every part has come."""
        self._gradients[number] = own
        if await self._barrier.wait() == 0:
            total = np.zeros(FEATURES)
            for one in self._gradients:
                total += one
            self._result = total
        await self._barrier.wait()
        return self._result


async def work(url: str, certificate: bytes, number: int, steps: int) -> Array:
    """Train one part: send the gradient, receive the sum."""
    rows, labels = part(number)
    weights = np.zeros(FEATURES)
    async with (
        connect(url, server_certificate_hashes=[certificate]) as session,
        await session.create_bidirectional_stream() as stream,
    ):
        await stream.write(number.to_bytes(2, "big") + steps.to_bytes(2, "big"))
        total = np.empty(FEATURES)
        for _ in range(steps):
            await stream.write(gradient(weights, rows, labels).tobytes())
            total = np.frombuffer(await stream.readexactly(total.nbytes))
            parts = int.from_bytes(await stream.readexactly(2), "big")
            weights -= RATE * total / parts
    return weights


def process(url: str, certificate: bytes, number: int, steps: int) -> Array:
    """The main function of a process of its own."""
    return asyncio.run(work(url, certificate, number, steps))


async def main(processes: int, steps: int) -> None:
    """Serve the sum, and start the processes."""
    sums = Sum(processes)

    async def exchange(stream: WebTransportStream) -> None:
        head = await stream.readexactly(4)
        number, rounds = int.from_bytes(head[:2], "big"), int.from_bytes(head[2:], "big")
        for _ in range(rounds):
            own = np.frombuffer(await stream.readexactly(FEATURES * 8))
            await stream.write((await sums.of_all(number, own)).tobytes())
            await stream.write(processes.to_bytes(2, "big"))

    async def handler(session: WebTransportSession) -> None:
        await session.serve_streams(exchange)

    loop = asyncio.get_running_loop()
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        async with serve(handler, "localhost", 0, drain_timeout=0) as server:
            jobs = [
                (server.url, server.certificate_hash, number, steps) for number in range(processes)
            ]
            results = await loop.run_in_executor(None, pool.starmap, process, jobs, 1)
    alone = train_alone(processes, steps)
    print(f"{processes} processes, {steps} steps, accuracy {accuracy(results[0], processes):.1%}")
    same = all(np.array_equal(one, alone) for one in results)
    print("the same weights as one process" if same else "other weights than one process")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Train in several processes.")
    parser.add_argument("--processes", type=int, default=4)
    parser.add_argument("--steps", type=int, default=50)
    arguments = parser.parse_args()
    try:
        asyncio.run(main(arguments.processes, arguments.steps))
    except WebTransportError as error:
        sys.exit(f"error: {error}")
