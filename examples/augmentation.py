"""Data augmentation: a dataset flows through worker processes, and comes back augmented.

python examples/augmentation.py [--images 2000] [--workers 4]

The workers connect to the server that has the images. It opens a stream for each image to a worker
that has room; so the memory of both sides stays small, however large the dataset is.
"""

import argparse
import asyncio
import hashlib
import multiprocessing
import sys
from collections.abc import AsyncIterator, Iterator

import numpy as np
from numpy.typing import NDArray

from pywebtransport import (
    WebTransportError,
    WebTransportSession,
    WebTransportStream,
    connect,
    serve,
)

Image = NDArray[np.uint8]
SIDE = 64
SIZE = SIDE * SIDE * 3
AT_ONCE = 8  # images that one worker has at a time

# ----------------------------------------------------------------------------- images


def dataset(count: int) -> Iterator[Image]:
    """Generated pictures: coloured waves."""
    y, x = np.mgrid[0:SIDE, 0:SIDE] / SIDE
    for number in range(count):
        rng = np.random.default_rng(number)
        waves = [np.sin(rng.uniform(3, 20) * x + rng.uniform(3, 20) * y) for _ in range(3)]
        yield (np.stack(waves, axis=-1) * 127 + 128).astype(np.uint8)


def augment(image: Image, seed: int) -> Image:
    """Flip, turn, shift the brightness, and add noise; the same for the same seed."""
    rng = np.random.default_rng(seed)
    if rng.random() < 0.5:
        image = image[:, ::-1]
    image = np.rot90(image, int(rng.integers(4)))
    bright = image * rng.uniform(0.7, 1.3) + rng.normal(0, 5, image.shape)
    return np.clip(bright, 0, 255).astype(np.uint8)


# ----------------------------------------------------------------------------- worker


async def answer(stream: WebTransportStream) -> None:
    """One image: a seed and the pixels arrive, the new pixels leave."""
    data = await stream.read_all(max_size=8 + SIZE)
    image = np.frombuffer(data, np.uint8, offset=8).reshape(SIDE, SIDE, 3)
    await stream.write_all(augment(image, int.from_bytes(data[:8], "big")).tobytes())


async def work(url: str, certificate: bytes) -> None:
    """Take images until the server ends the session."""
    async with connect(url, server_certificate_hashes=[certificate]) as session:
        await session.serve_streams(answer, max_concurrent=AT_ONCE)


def process(url: str, certificate: bytes) -> None:
    asyncio.run(work(url, certificate))


# ----------------------------------------------------------------------------- server


class Pipeline:
    """Sends images to whichever worker has room."""

    def __init__(self) -> None:
        self._free: asyncio.Queue[WebTransportSession] = asyncio.Queue()
        self._done = asyncio.Event()

    async def handler(self, session: WebTransportSession) -> None:
        """A worker has come; it stays until the last image is back."""
        for _ in range(AT_ONCE):
            self._free.put_nowait(session)
        await self._done.wait()
        await session.close(reason="done")

    async def _one(self, number: int, image: Image, session: WebTransportSession) -> Image:
        try:
            async with await session.create_bidirectional_stream() as stream:
                await stream.write(number.to_bytes(8, "big"))
                await stream.write_all(image.tobytes())
                data = await stream.read_all(max_size=SIZE)
        finally:
            self._free.put_nowait(session)
        return np.frombuffer(data, np.uint8).reshape(SIDE, SIDE, 3)

    async def run(self, images: Iterator[Image]) -> AsyncIterator[Image]:
        """The augmented images, in their order."""
        running: asyncio.Queue[asyncio.Task[Image] | None] = asyncio.Queue(maxsize=64)

        async def start() -> None:
            for number, image in enumerate(images):
                session = await self._free.get()
                await running.put(asyncio.create_task(self._one(number, image, session)))
            await running.put(None)

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(start())
            while task := await running.get():
                yield await task
        self._done.set()


async def main(count: int, workers: int) -> None:
    """Send the dataset through workers, and check the result."""
    pipeline = Pipeline()
    context = multiprocessing.get_context("spawn")
    async with serve(pipeline.handler, "localhost", 0, drain_timeout=0) as server:
        processes = [
            context.Process(target=process, args=(server.url, server.certificate_hash))
            for _ in range(workers)
        ]
        for one in processes:
            one.start()
        there, here = hashlib.sha256(), hashlib.sha256()
        async for image in pipeline.run(dataset(count)):
            there.update(image.tobytes())
            print(".", end="", flush=True)
        for one in processes:
            await asyncio.to_thread(one.join)
    for seed, image in enumerate(dataset(count)):
        here.update(augment(image, seed).tobytes())
    same = "the same as" if here.digest() == there.digest() else "not the same as"
    print(f"\n{count} images, {same} here")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Augment a dataset in worker processes.")
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--workers", type=int, default=4)
    arguments = parser.parse_args()
    try:
        asyncio.run(main(arguments.images, arguments.workers))
    except WebTransportError as error:
        sys.exit(f"error: {error}")
