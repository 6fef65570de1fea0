"""A chat: dataclasses as JSON over one bidirectional stream per member.

python structured_chat.py                         the room; prints its URL and certificate hash
python structured_chat.py URL HASH ann            ann joins; type lines to send them
"""

import argparse
import asyncio
import contextlib
import sys
from collections.abc import AsyncIterable
from dataclasses import dataclass, field

from pywebtransport import (
    SerializationError,
    ServerApp,
    ServerConfig,
    StructuredStream,
    WebTransportError,
    WebTransportSession,
    connect,
)
from pywebtransport.serializer import JSONSerializer
from pywebtransport.utils import certificate_hash, generate_self_signed_cert


@dataclass
class Join:
    """The first message of a member."""

    name: str


@dataclass
class Say:
    """From a member to the room: a text. From the room to members: the text and its speaker."""

    text: str
    speaker: str | None = None


@dataclass
class Members:
    """From the room to members: the names of all present members."""

    names: list[str] = field(default_factory=list)


Message = Join | Say | Members
MESSAGES: dict[int, type[Message]] = {1: Join, 2: Say, 3: Members}
Chat = StructuredStream[Message]


# ------------------------------------------------------------------------- the room

room: dict[Chat, str] = {}


async def tell_all(message: Message) -> None:
    async def tell(member: Chat) -> None:
        try:
            await member.send_obj(message)
        except WebTransportError:
            room.pop(member, None)

    await asyncio.gather(*map(tell, list(room)))


async def chat(session: WebTransportSession) -> None:
    async for stream in session.incoming_bidirectional_streams():
        # Do not trust members: limit the size of their messages.
        member = Chat(stream, JSONSerializer(max_depth=4), MESSAGES, max_message_size=10_000)
        async with member:
            await listen_to(member)


async def listen_to(member: Chat) -> None:
    try:
        async for message in member:  # ends when the member finishes the stream
            match message:
                case Join(name) if member not in room:
                    room[member] = name
                    await tell_all(Members(sorted(room.values())))
                case Say(text) if member in room:
                    await tell_all(Say(text, speaker=room[member]))
    except SerializationError as error:
        print(f"a member was not understood: {error}", file=sys.stderr)
    except WebTransportError:  # the member has left
        pass
    finally:
        room.pop(member, None)
        await tell_all(Members(sorted(room.values())))


def make_app(certfile: str, keyfile: str) -> ServerApp:
    # Remove a member who does not read for five seconds, so that the others do not wait.
    config = ServerConfig.create(certfile=certfile, keyfile=keyfile, write_timeout=5.0)
    app = ServerApp(config=config)
    app.route("/chat")(chat)
    return app


# ------------------------------------------------------------------------- a member


async def show(messages: Chat) -> None:
    with contextlib.suppress(WebTransportError):  # the session ended
        async for message in messages:
            match message:
                case Members(names):
                    print(f"here: {', '.join(names)}", flush=True)
                case Say(text, speaker):
                    print(f"{speaker}: {text}", flush=True)


async def join(url: str, hash_of_certificate: str, name: str, lines: AsyncIterable[str]) -> None:
    async with connect(url, server_certificate_hashes=[hash_of_certificate]) as session:
        messages: Chat = await session.create_structured_stream(
            serializer=JSONSerializer(), registry=MESSAGES
        )
        await messages.send_obj(Join(name))
        showing = asyncio.create_task(show(messages))
        async for line in lines:
            await messages.send_obj(Say(line))
        await messages.close()  # the room closes its side too, which ends the other task
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
    parser.add_argument("member", nargs="*", metavar="URL HASH NAME")
    try:
        if member := parser.parse_args().member:
            if len(member) != 3:
                parser.error("URL, HASH and NAME belong together")
            with contextlib.suppress(KeyboardInterrupt):
                asyncio.run(join(member[0], member[1], member[2], typed_lines()))
        else:
            certfile, keyfile = generate_self_signed_cert(hostname="localhost")
            print(f"https://localhost:4433/chat {certificate_hash(certfile).hex()}", flush=True)
            make_app(certfile, keyfile).run(host="localhost", port=4433)
    except WebTransportError as error:
        sys.exit(f"error: {error}")
