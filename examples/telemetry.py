"""Telemetry of many devices: readings in datagrams, alarms on streams.

python examples/telemetry.py [--devices 200] [--seconds 10]

A reading is replaced by the next one, so it may be lost. An alarm may not: it gets a stream, and
the device keeps it until the service has confirmed it.
"""

import argparse
import asyncio
import json
import random
import struct
import sys
from collections import deque
from dataclasses import dataclass, field

from pywebtransport import (
    ClientConfig,
    ServerApp,
    ServerConfig,
    WebTransportClient,
    WebTransportError,
    WebTransportSession,
    WebTransportStream,
)
from pywebtransport.testing import serve

READING = struct.Struct("!If")  # number of the reading, degrees
LIMIT = 90.0  # degrees from which on a device raises an alarm

# ---------------------------------------------------------------------------- service


@dataclass
class Fleet:
    """What the service knows."""

    latest: dict[str, float] = field(default_factory=dict)
    readings: int = 0
    missing: int = 0
    alarms: list[tuple[str, float]] = field(default_factory=list)


fleet = Fleet()
# The devices of this example all come from one address.
app = ServerApp(config=ServerConfig(max_sessions_per_address=None))


@app.route("/device/{name}")
async def device_route(session: WebTransportSession) -> None:
    name = session.path_params["name"]

    async def alarm(stream: WebTransportStream) -> None:
        degrees = json.loads(await stream.read_all(max_size=1_000))["degrees"]
        fleet.alarms.append((name, degrees))
        await stream.write_all(b"noted")

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(session.serve_streams(alarm))
        expected = 0
        async for datagram in session.datagrams:
            number, degrees = READING.unpack(datagram)
            fleet.readings += 1
            fleet.missing += max(0, number - expected)
            expected = number + 1
            fleet.latest[name] = degrees
    fleet.latest.pop(name, None)


async def show(devices: int) -> None:
    """A line each second."""
    before = 0
    while True:
        await asyncio.sleep(1)
        rate, before = fleet.readings - before, fleet.readings
        mean = sum(fleet.latest.values()) / max(1, len(fleet.latest))
        print(
            f"{len(fleet.latest):5} of {devices} devices  {rate:6} readings/s  "
            f"{mean:5.1f} degrees on average  {len(fleet.alarms):4} alarms",
            flush=True,
        )


# ----------------------------------------------------------------------------- device


async def device(client: WebTransportClient, url: str, number: int, seconds: float) -> int:
    """Report until the time is over; return how many alarms were confirmed."""
    rng = random.Random(number)
    degrees = rng.uniform(20, 80)
    waiting: deque[float] = deque(maxlen=100)
    confirmed = 0
    async with await client.connect(f"{url}/device/{number}") as session:
        end = asyncio.get_running_loop().time() + seconds
        count = 0
        while asyncio.get_running_loop().time() < end:
            degrees += rng.gauss(0, 5)
            session.datagrams.try_send(READING.pack(count, degrees))
            count += 1
            if degrees > LIMIT:
                waiting.append(degrees)
                degrees = 50.0
            while waiting:
                async with await session.create_bidirectional_stream() as stream:
                    await stream.write_all(json.dumps({"degrees": waiting[0]}))
                    await stream.read_all(max_size=100)
                waiting.popleft()
                confirmed += 1
            await asyncio.sleep(rng.uniform(0.05, 0.15))
    return confirmed


async def main(devices: int, seconds: float) -> None:
    """The service, and all devices."""
    async with serve(app) as served:
        config = ClientConfig(
            server_certificate_hashes=[served.certificate_hash], max_connections=devices
        )
        async with WebTransportClient(config=config) as client, asyncio.TaskGroup() as tasks:
            showing = tasks.create_task(show(devices))
            running = [
                tasks.create_task(device(client, served.url, number, seconds))
                for number in range(devices)
            ]
            confirmed = sum([await one for one in running])
            showing.cancel()
    print(f"{fleet.readings} readings, {fleet.missing} lost")
    print(f"{confirmed} alarms confirmed, {len(fleet.alarms)} noted")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Telemetry of many devices.")
    parser.add_argument("--devices", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=10.0)
    arguments = parser.parse_args()
    try:
        asyncio.run(main(arguments.devices, arguments.seconds))
    except WebTransportError as error:
        sys.exit(f"error: {error}")
