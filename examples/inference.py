"""Real-time inference: audio goes to a model, and what it hears comes back while one speaks.

python examples/inference.py [FILE.wav]     16 kHz, mono, 16 bit; without a file, vowels are made

The model is the voice detector of the package pymicro-vad, a small neural network. The client
sends 10 ms of audio at a time on one stream, and gets the probability of speech for each.
"""

import argparse
import asyncio
import contextlib
import math
import struct
import sys
import wave

import numpy as np
from pymicro_vad import MicroVad

from pywebtransport import (
    StreamError,
    WebTransportError,
    WebTransportSession,
    WebTransportStream,
    connect,
    serve,
)

RATE = 16_000  # samples a second
FRAME = 320  # bytes: 10 ms
ANSWER = struct.Struct("!f")
SPEECH = 0.6  # probability from which on the client shows speech

# ----------------------------------------------------------------------------- server


async def listen(stream: WebTransportStream) -> None:
    """Answer each frame with the probability of speech; the model remembers the last ones."""
    model = MicroVad()
    with contextlib.suppress(StreamError):  # the speaker has finished
        while True:
            frame = await stream.readexactly(FRAME)
            # Less than 0.1 ms. A larger model goes into a process pool.
            probability = max(0.0, model.process_10ms(frame))
            await stream.write(ANSWER.pack(probability))


async def serve_model(session: WebTransportSession) -> None:
    """Each stream is a speaker of its own."""
    await session.serve_streams(listen)


# ----------------------------------------------------------------------------- client


async def detect(
    session: WebTransportSession, audio: bytes, speed: float
) -> list[tuple[float, float]]:
    """Send audio as a microphone would, and return when somebody spoke, in seconds."""
    spoken: list[tuple[float, float]] = []
    async with await session.create_bidirectional_stream() as stream:

        async def send() -> None:
            for at in range(0, len(audio) - FRAME + 1, FRAME):
                await stream.write(audio[at : at + FRAME])
                await asyncio.sleep(0.01 / speed)
            await stream.close()

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(send())
            for number in range(len(audio) // FRAME):
                (probability,) = ANSWER.unpack(await stream.readexactly(ANSWER.size))
                now = number / 100
                if probability >= SPEECH:
                    if spoken and now - spoken[-1][1] < 0.3:
                        spoken[-1] = (spoken[-1][0], now)
                    else:
                        spoken.append((now, now))
                show(now, probability)
    print()
    return spoken


def show(now: float, probability: float) -> None:
    """One line that changes."""
    bar = "#" * round(probability * 30)
    print(f"\r{now:6.2f} s |{bar:<30}| {probability:4.0%}", end="", flush=True)


def vowels() -> bytes:
    """A second of silence, four sung vowels, and silence: a buzz through three resonators."""
    parts = []
    for formants in ((730, 1090, 2440), (270, 2290, 3010), (300, 870, 2240), (530, 1840, 2480)):
        time = np.arange(RATE // 4) / RATE
        phase = np.cumsum(120 * (1 + 0.05 * np.sin(2 * np.pi * 3 * time))) / RATE
        sound = np.diff(np.floor(phase), prepend=0.0)
        for formant in formants:
            sound = resonate(sound, formant)
        swell = np.sin(np.pi * np.arange(len(sound)) / len(sound))
        parts.append(sound / np.abs(sound).max() * swell * 0.5)
    silence = np.random.default_rng(1).normal(0, 0.001, RATE)
    return (np.concatenate([silence, *parts, silence]) * 32767).astype("<i2").tobytes()


def resonate(sound: np.ndarray, frequency: float, bandwidth: float = 100.0) -> np.ndarray:
    """Pass a sound through a resonator, as the mouth does."""
    radius = math.exp(-math.pi * bandwidth / RATE)
    one = 2 * radius * math.cos(2 * math.pi * frequency / RATE)
    result = np.zeros(len(sound))
    last = before = 0.0
    for number, value in enumerate(sound):
        last, before = value + one * last - radius * radius * before, last
        result[number] = last
    return result


def read_wave(path: str) -> bytes:
    """The samples of a file."""
    with wave.open(path) as file:
        if (file.getframerate(), file.getnchannels(), file.getsampwidth()) != (RATE, 1, 2):
            sys.exit(f"error: {path} has to be 16 kHz, mono, 16 bit")
        samples: bytes = file.readframes(file.getnframes())
        return samples


async def main(path: str | None, speed: float) -> None:
    """Serve the model, and let a client ask it."""
    audio = read_wave(path) if path else vowels()
    async with (
        serve(serve_model, "localhost", 0, drain_timeout=0) as server,
        connect(server.url, server_certificate_hashes=[server.certificate_hash]) as session,
    ):
        for start, end in await detect(session, audio, speed):
            print(f"speech from {start:.2f} s to {end:.2f} s")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Stream audio to a voice detector.")
    parser.add_argument("file", nargs="?", help="a WAV file: 16 kHz, mono, 16 bit")
    parser.add_argument("--speed", type=float, default=1.0, help="1: as fast as one speaks")
    arguments = parser.parse_args()
    try:
        asyncio.run(main(arguments.file, arguments.speed))
    except (WebTransportError, OSError) as error:
        sys.exit(f"error: {error}")
