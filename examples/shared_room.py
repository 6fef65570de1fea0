"""A chat room that spans all workers of a server, or several servers that share a Redis.

python shared_room.py 4433                            a server; prints its URL and certificate hash
python shared_room.py 4433 redis://localhost:6379     a server that shares its room through Redis
python shared_room.py 4434 redis://localhost:6379     another one, here or on another machine
python shared_room.py URL HASH                        a member; type lines to send them
"""

import argparse
import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncIterable

from pywebtransport import (
    ServerApp,
    ServerConfig,
    WebTransportError,
    WebTransportSession,
    connect,
)
from pywebtransport.events import Event, EventBus, LocalBackend, RedisBackend
from pywebtransport.utils import certificate_hash, generate_self_signed_cert

# ------------------------------------------------------------------------- a server


def make_app(certfile: str, keyfile: str, bus: EventBus) -> ServerApp:
    app = ServerApp(config=ServerConfig.create(certfile=certfile, keyfile=keyfile))
    app.on_startup(bus.start)  # in each worker
    app.on_shutdown(bus.close)

    @app.route("/room")
    async def room(session: WebTransportSession) -> None:
        async def tell(event: Event) -> None:
            with contextlib.suppress(WebTransportError):  # the member has left
                async with await session.create_unidirectional_stream() as stream:
                    await stream.write(event.data["text"])

        subscription = bus.subscribe("said", tell)
        try:
            async for stream in session.incoming_unidirectional_streams():
                async with stream:
                    text = (await stream.read_all(max_size=10_000)).decode(errors="replace")
                await bus.emit("said", {"text": text})
        finally:
            bus.unsubscribe(subscription)

    return app


def serve_with_workers(port: int) -> None:
    certfile, keyfile = generate_self_signed_cert(hostname="localhost")
    app = make_app(certfile, keyfile, EventBus(LocalBackend()))
    print(f"https://localhost:{port}/room {certificate_hash(certfile).hex()}", flush=True)
    app.run(host="localhost", port=port, workers=max(2, os.cpu_count() or 1))


async def serve_with_redis(port: int, redis_url: str) -> None:
    certfile, keyfile = generate_self_signed_cert(hostname="localhost")
    async with make_app(certfile, keyfile, EventBus(RedisBackend(redis_url))) as app:
        await app.listen(host="localhost", port=port)
        port = app.server.local_addresses[0][1]
        print(f"https://localhost:{port}/room {certificate_hash(certfile).hex()}", flush=True)
        await app.server.serve_forever()


# ------------------------------------------------------------------------- a member


async def show(session: WebTransportSession) -> None:
    async for stream in session.incoming_unidirectional_streams():
        async with stream:
            print((await stream.read_all(max_size=10_000)).decode(), flush=True)


async def join(url: str, hash_of_certificate: str, lines: AsyncIterable[str]) -> None:
    async with connect(url, server_certificate_hashes=[hash_of_certificate]) as session:
        showing = asyncio.create_task(show(session))
        async for line in lines:
            async with await session.create_unidirectional_stream() as stream:
                await stream.write(line)
        await session.close()
        await showing


async def typed_lines() -> AsyncIterable[str]:
    """Lines of standard input. Uses no thread, because Ctrl-C could not interrupt it."""
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


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("first", metavar="PORT | URL")
    parser.add_argument("second", metavar="REDIS | HASH", nargs="?")
    first, second = vars(parser.parse_args()).values()
    try:
        with contextlib.suppress(KeyboardInterrupt):
            if first.isdecimal() and second is None:
                serve_with_workers(int(first))
            elif first.isdecimal():
                asyncio.run(serve_with_redis(int(first), second))
            elif second is None:
                parser.error("a member needs HASH, too")
            else:
                asyncio.run(join(first, second, typed_lines()))
    except WebTransportError as error:
        sys.exit(f"error: {error}")
