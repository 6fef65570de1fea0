"""Large transfers: files of any size, which go on where they were interrupted.

    python examples/browser/transfer.py serve DIRECTORY
    python examples/browser/transfer.py send FILE URL HASH

The server prints the second command, and has a page that sends files. Both sides show progress. A
file appears under its name when all of it is there and its SHA-256 is right.
"""

import argparse
import asyncio
import re
from dataclasses import dataclass, field
from pathlib import Path

from _files import Bar, hash_of, identity, is_name, rename, room_in
from _page import page, parser, run

from pywebtransport import WebTransportError, WebTransportSession, connect
from pywebtransport.exceptions import is_fatal_error
from pywebtransport.rpc import RpcError, RpcManager
from pywebtransport.stream import WebTransportReceiveStream

PIECE = 256 * 1024
KEY = re.compile(r"[0-9a-f]{16,64}")
MOST_FILES = 1000  # of one session


@dataclass
class Upload:
    """A file on its way to the server."""

    name: str
    size: int
    part: Path
    offset: int
    complete: asyncio.Event = field(default_factory=asyncio.Event)


@dataclass
class Store:
    """The server's side: a directory of files, and of parts of files."""

    directory: Path

    async def handle(self, session: WebTransportSession) -> None:
        """Take the files of one session."""
        uploads: list[Upload] = []

        def begin(name: str, size: int, key: str) -> list[int]:
            """Remote method: number of the upload, and how many bytes are here already."""
            name = Path(name).name
            if not is_name(name) or not KEY.fullmatch(key) or size < 0:
                raise RpcError("a file needs a name, a size and a key", error_code=400)
            if (self.directory / name).exists():
                raise RpcError(f"there is a file {name} already", error_code=409)
            part = self.directory / f".{key}.part"
            offset = min(size, part.stat().st_size) if part.exists() else 0
            if len(uploads) >= MOST_FILES or size - offset > room_in(self.directory):
                raise RpcError("there is no room for another file", error_code=507)
            part.touch()
            uploads.append(Upload(name, size, part, offset))
            return [len(uploads) - 1, offset]

        async def finish(number: int, sha256: str | None = None) -> str:
            """Remote method: keep a file when all of it is here; returns its SHA-256."""
            upload = uploads[number]
            await upload.complete.wait()
            digest = await asyncio.to_thread(hash_of, upload.part)
            if sha256 not in (None, digest):
                upload.part.unlink()
                raise RpcError("the file has changed on its way", error_code=422)
            if not rename(upload.part, self.directory / upload.name):
                raise RpcError(f"there is a file {upload.name} already", error_code=409)
            return digest

        async def receive(stream: WebTransportReceiveStream) -> None:
            upload = uploads[int.from_bytes(await stream.readexactly(4))]
            done, bar = upload.offset, Bar(upload.name, upload.size, upload.offset)
            with upload.part.open("r+b") as file:
                file.seek(done)
                async for data in stream:
                    done += file.write(data[: upload.size - done])
                    bar.show(done)
            if done == upload.size:
                upload.complete.set()

        rpc = RpcManager(session)
        rpc.register(begin)
        rpc.register(finish)
        async with rpc:
            await session.serve_streams(receive, unidirectional=True)


async def send(path: Path, url: str, hash_of_certificate: str) -> None:
    """Send a file; after an interruption, go on where it stopped."""
    size, key = identity(path)
    while True:
        try:
            async with connect(url, server_certificate_hashes=[hash_of_certificate]) as session:
                return await send_rest(session, path, size, key)
        except WebTransportError as error:
            if is_fatal_error(error) or isinstance(error, RpcError):
                raise  # another attempt would end in the same way
            print(f"\ninterrupted: {error}", flush=True)
            await asyncio.sleep(1)


async def send_rest(session: WebTransportSession, path: Path, size: int, key: str) -> None:
    """Send what the server does not have yet."""
    async with RpcManager(session) as rpc:
        number, done = await rpc.call("begin", path.name, size, key)
        print(f"begins at byte {done} of {size}", flush=True)
        bar = Bar(path.name, size, done)
        with path.open("rb") as file:
            file.seek(done)
            async with await session.create_unidirectional_stream() as stream:
                await stream.write(number.to_bytes(4))
                while data := file.read(PIECE):
                    await stream.write(data)
                    done += len(data)
                    bar.show(done)
        digest = await asyncio.to_thread(hash_of, path)
        await rpc.call("finish", number, digest, timeout=600)
        print(f"sent, SHA-256 {digest}", flush=True)


async def serve(arguments: argparse.Namespace) -> None:
    """Serve until interrupted."""
    arguments.directory.mkdir(parents=True, exist_ok=True)
    async with page(__file__, Store(arguments.directory).handle, arguments) as server:
        print("python examples/browser/transfer.py send FILE", end=" ")
        print(server.url, server.certificate_hash.hex(), flush=True)
        await server.serve_forever()


if __name__ == "__main__":
    options = parser(__doc__)
    commands = options.add_subparsers(required=True)
    command = commands.add_parser("serve", help="take files until interrupted")
    command.add_argument("directory", type=Path)
    command.set_defaults(main=serve)
    command = commands.add_parser("send", help="send a file")
    command.add_argument("file", type=Path)
    command.add_argument("url")
    command.add_argument("hash", help="SHA-256 of the server's certificate, hexadecimal")
    command.set_defaults(main=lambda a: send(a.file, a.url, a.hash))
    arguments = options.parse_args()
    run(arguments.main(arguments))
