"""A chat in rooms. With Redis, any number of servers share the rooms.

    python examples/chat.py server
    python examples/chat.py server --port 4434 --redis redis://localhost
    python examples/chat.py client https://localhost:4433/chat HASH --name ann --room python

The server prints its URL and the hash of its certificate. Clients of different
servers that use the same Redis can talk to each other.
"""

import argparse
import asyncio
import contextlib
import sys
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass

from pywebtransport import (
    ServerApp,
    ServerConfig,
    WebTransportError,
    WebTransportSession,
    connect,
)
from pywebtransport.events import RedisBackend
from pywebtransport.pubsub import Broker, PubSubManager, Subscription
from pywebtransport.utils import certificate_hash, generate_self_signed_cert


@dataclass
class Line:
    """A line of the conversation."""

    author: str
    text: str


def may(session: WebTransportSession, action: str, topic: str) -> bool:
    """Everybody may use a single room; other topics and patterns are forbidden."""
    return topic.startswith("rooms.") and "*" not in topic


def serve(port: int, redis: str | None) -> None:
    """Serve until interrupted."""
    broker = Broker(RedisBackend(redis) if redis else None, authorize=may)
    with tempfile.TemporaryDirectory() as directory:
        certfile, keyfile = generate_self_signed_cert(hostname="localhost", output_dir=directory)
        app = ServerApp(config=ServerConfig.create(certfile=certfile, keyfile=keyfile))
        app.on_startup(broker.start)
        app.on_shutdown(broker.close)

        @app.route("/chat")
        async def chat(session: WebTransportSession) -> None:
            await broker.serve(session)

        print(f"https://localhost:{port}/chat {certificate_hash(certfile).hex()}", flush=True)
        app.run(host="localhost", port=port)


async def talk(url: str, hash_of_certificate: str, name: str, room: str) -> None:
    """Send the lines of standard input to the room, and show what others say there."""
    topic = f"rooms.{room}"
    async with (
        connect(url, server_certificate_hashes=[hash_of_certificate]) as session,
        PubSubManager(session) as pubsub,
        pubsub.subscribe(topic, data_type=Line) as subscription,
        asyncio.TaskGroup() as tasks,
    ):
        tasks.create_task(show(subscription, name))
        print(f"you are in {room}", flush=True)
        async for text in standard_input():
            await pubsub.publish(topic, Line(name, text))
        await subscription.close()


async def show(subscription: Subscription, name: str) -> None:
    """Print what others say, until the subscription ends."""
    async for message in subscription:
        if message.data.author != name:
            print(f"{message.data.author}: {message.data.text}", flush=True)
        if subscription.dropped:
            print(f"({subscription.dropped} lines were lost)", flush=True)


async def standard_input() -> AsyncIterator[str]:
    """Lines without line ends. Uses no thread, because Ctrl-C could not interrupt it."""
    loop = asyncio.get_running_loop()
    try:
        loop.add_reader(sys.stdin, lambda: None)
    except PermissionError:  # a file or /dev/null is always ready: no need to wait
        for text in sys.stdin:
            yield text.rstrip("\n")
        return
    loop.remove_reader(sys.stdin)
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    async for line in reader:
        yield line.decode().rstrip("\n")


def main() -> None:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(description="A chat in rooms.")
    commands = parser.add_subparsers(required=True)
    server = commands.add_parser("server", help="serve until interrupted")
    server.add_argument("--port", type=int, default=4433)
    server.add_argument("--redis", metavar="URL", help="share the rooms with other servers")
    server.set_defaults(run=lambda a: serve(a.port, a.redis))
    client = commands.add_parser("client", help="talk")
    client.add_argument("url")
    client.add_argument("hash", help="SHA-256 of the server's certificate, hexadecimal")
    client.add_argument("--name", default="somebody")
    client.add_argument("--room", default="lobby")
    client.set_defaults(run=lambda a: asyncio.run(talk(a.url, a.hash, a.name, a.room)))
    arguments = parser.parse_args()
    try:
        with contextlib.suppress(KeyboardInterrupt):
            arguments.run(arguments)
    except WebTransportError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
